"""Counters of one launch of each default at a model's size, where ncu is installed."""

from __future__ import annotations

import csv
import shutil
import sys

from benchmarks.gpu_run.commands import output_lines
from benchmarks.gpu_run.context import Context, Skipped

_METRICS = (
    *("gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum", "lts__t_bytes.sum"),
    *(
        "sm__inst_executed_pipe_tensor.sum",
        "launch__registers_per_thread",
        "sm__warps_active.avg.pct_of_peak_sustained_active",
    ),
)


def run(context: Context) -> None:
    context.needs_gpu()
    if shutil.which("ncu") is None:
        raise Skipped("ncu is not installed")
    watched = [sys.executable, "-m", "benchmarks.gpu_run.launches", "--part=compile"]
    watched += [f"--seconds={context.left() * 0.8:.0f}", "--kernels", *context.kernels]
    command = ["ncu", "--clock-control=none", "--csv", "--page=raw", "--replay-mode=kernel"]
    # Kernels of torch, which draw the inputs, are no names of Triton's functions.
    command += ["--kernel-name=regex:^(_|place|combine)", f"--metrics={','.join(_METRICS)}", *watched]
    names: list[str] = []
    for line in output_lines(context, command):
        print(line, flush=True)
        row = next(csv.reader([line]), [])
        if "Kernel Name" in row:
            names = row
        elif names and len(row) == len(names) and row[0].isdigit():
            counters = dict(zip(names, row, strict=True))
            told = {name: counters[name] for name in _METRICS if name in counters}
            context.add(f"{counters['ID']} {counters['Kernel Name']}", counters=told)
