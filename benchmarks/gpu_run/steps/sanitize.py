"""One launch of each default on its first check problem under compute-sanitizer, where it is installed."""

from __future__ import annotations

import shutil
import sys

from benchmarks.gpu_run.commands import output_lines
from benchmarks.gpu_run.context import Context, Skipped


def run(context: Context) -> None:
    context.needs_gpu()
    if shutil.which("compute-sanitizer") is None:
        raise Skipped("compute-sanitizer is not installed")
    watched = [sys.executable, "-m", "benchmarks.gpu_run.launches", f"--seconds={context.left() * 0.8:.0f}"]
    faults: list[str] = []
    units = {f"{name}": name for name in context.kernels}
    for line in output_lines(
        context, ["compute-sanitizer", "--tool=memcheck", *watched, "--kernels", *context.kernels]
    ):
        print(line, flush=True)
        if line.startswith("========="):
            faults.append(line.strip("= "))
        elif (kernel := line.partition(" ")[0]) in units:
            told = [fault for fault in faults if fault.startswith(("Invalid", "Misaligned", "Program hit"))]
            context.add(line, kernel=kernel, **({"failed": "; ".join(told[:3])} if told else {}))
            faults.clear()
