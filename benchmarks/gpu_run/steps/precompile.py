"""Compiles what the other steps launch, on the free cores, and keeps what each binary uses."""

from __future__ import annotations

from concurrent.futures import as_completed

from autotune.tuning.jobs import compile_job
from autotune.tuning.workers.process import Lost
from benchmarks.gpu_run.asking import compilers, defaults
from benchmarks.gpu_run.context import Context, OutOfTime, Skipped


def run(context: Context) -> None:
    if context.is_rehearsal:
        raise Skipped("the stand-in interprets kernels")
    work = [item for part in ("check", "compile") for item in context.units(defaults(context, part))]
    with compilers(context) as workers:
        waiting = {workers.submit(compile_job, default.job): default for _, default in work}
        try:
            for future in as_completed(waiting, timeout=max(0.1, context.left())):
                default = waiting[future]
                try:
                    answer = future.result()
                except Lost as lost:
                    answer = {"failed": str(lost)}
                context.add(default.unit, part=default.part, **default.told(), **answer)
        except TimeoutError:
            raise OutOfTime from None
