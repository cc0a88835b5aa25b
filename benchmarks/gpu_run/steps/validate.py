"""Every default on its check problems: three launches each against the float64 reference, nothing timed."""

from __future__ import annotations

from autotune.tuning.jobs import check_job
from autotune.tuning.measurement.bench import Check
from benchmarks.gpu_run.asking import ask, defaults, lane
from benchmarks.gpu_run.context import Context


def run(context: Context) -> None:
    with lane(context) as workers:
        for unit, default in context.units(defaults(context, "check")):
            context.add(
                unit, **default.told(), **ask(context, workers, check_job, Check(context.bench, 0, default.job))
            )
