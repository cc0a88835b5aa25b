"""The cost model against all trials of this run, by family; the trials themselves go to trials.csv."""

from __future__ import annotations

import json

from benchmarks.gpu_run.commands import autotune
from benchmarks.gpu_run.context import Context, Skipped


def run(context: Context) -> None:
    context.needs_times()
    told = autotune(
        context, "compare-model", f"--device={context.device.name}", f"--bench={context.bench_name}", "--json"
    )
    if told.returncode:
        raise Skipped("no session of this run has timed a trial")
    for family in json.loads(told.stdout):
        context.add(family["family"], **family)
    filed = context.bench.table_device(context.device.name)
    autotune(context, "export", "trials", f"--device={filed}", f"--output={context.folder / 'trials.csv'}")
