"""`autotune doctor --timing`: a kernel raced against itself at three sizes."""

from __future__ import annotations

import json

from benchmarks.gpu_run.commands import autotune
from benchmarks.gpu_run.context import Context


def run(context: Context) -> None:
    context.needs_times()
    words = [f"--bench={context.bench_name}", *([] if context.is_gpu else [f"--device={context.device.name}"])]
    told = autotune(context, "doctor", "--timing", *words, "--json")
    if told.returncode:
        raise RuntimeError(f"autotune doctor --timing ended with {told.returncode}")
    for row in json.loads(told.stdout):
        context.add(row["problem"], **row)
