"""Commands that a step runs: the product's own, and other projects' tools."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from threading import Timer

from benchmarks.gpu_run.context import Context, OutOfTime


def autotune(context: Context, *words: str) -> subprocess.CompletedProcess[str]:
    """`autotune WORDS`, whose errors go to the log of the step. Raises OutOfTime."""
    command = [sys.executable, "-m", "autotune", *words]
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=max(1.0, context.left()))
    except subprocess.TimeoutExpired:
        raise OutOfTime from None


def output_lines(context: Context, command: list[str]) -> Iterator[str]:
    """Yield the output of `command`, line by line as it comes. Raises OutOfTime."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        timer = Timer(max(0.1, context.left()), process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield line.rstrip("\n")
        finally:
            timer.cancel()
            process.kill()
    if context.left() <= 0:
        raise OutOfTime
