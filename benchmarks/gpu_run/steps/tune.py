"""A short session on one GEMM of a decode step, as an engineer would begin."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.gpu_run.commands import autotune
from benchmarks.gpu_run.context import Context, Skipped

_PROBLEMS = {
    "gemm/fp8_block_scaled": "m=64,n=2048,k=7168",
    "norm/rms_norm_quant": "rows=512,cols=7168",
}
_TRIALS = 40
_SEARCHED = 0.6
"""Share of the time left that the search gets: imports come before it, proofs and the last race after it."""


def run(context: Context) -> None:
    context.needs_times()
    kernel = next((name for name in _PROBLEMS if name in context.kernels), None)
    if kernel is None:
        raise Skipped(f"none of {', '.join(_PROBLEMS)} is among --kernels")
    for unit, words in context.units([(kernel, [kernel, f"--problem={_PROBLEMS[kernel]}", f"--trials={_TRIALS}"])]):
        context.add(unit, problem=_PROBLEMS[kernel], **session(context, *words))


def session(context: Context, *words: str) -> dict[str, Any]:
    """Summary of `autotune tune WORDS --json`, or `failed`. Raises OutOfTime; its trials are kept."""
    minutes = f"--minutes={max(0.05, _SEARCHED * context.left() / 60):.2f}"
    bench = [f"--bench={context.bench_name}", f"--device={context.device.name}"]
    told = autotune(context, "tune", *words, *bench, minutes, "--json")
    if told.returncode:
        return {"failed": f"autotune tune ended with {told.returncode}; see {context.step}.log"}
    (row,) = json.loads(told.stdout)
    # `failed` of a unit says that it has no result; a session counts its failed trials under the same name.
    return {"failed trials" if name == "failed" else name: value for name, value in row.items()}
