"""Small search spaces measured whole, by the product's own exhaustive sessions; how well the model ranks them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from autotune import files, registry
from autotune.config import Problem, describe
from autotune.interchange import trial_table
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.session import trials
from benchmarks.gpu_run.context import Context, Skipped
from benchmarks.gpu_run.steps.tune import session

_KERNELS = (
    *("norm/qkv_rms_norm", "attention/sparse_prefill", "moe/combine", "moe/router", "compressor/state_write"),
    *("quant/fp8_group_quant", "attention/dense_mqa", "norm/rms_norm_quant"),
)
"""Spaces of 26 to 396 configs on H200, of several kinds."""
_FIRST = 8


def run(context: Context) -> None:
    if context.is_rehearsal:
        raise Skipped("no GPU: times of the stand-in are none")
    work = list(_spaces(context))
    if not work:
        raise Skipped(f"none of {', '.join(_KERNELS)} is among --kernels")
    for unit, (kernel, problem) in context.units(work):
        told = session(context, kernel.name, f"--problem={describe(problem)}", "--exhaustive")
        context.add(unit, kernel=kernel.name, **told, **_judged(context, kernel, problem))


def _spaces(context: Context) -> Iterator[tuple[str, tuple[Kernel[Any], Problem]]]:
    for name in _KERNELS:
        if name in context.kernels:
            kernel = registry.load(name)
            problem = space.load(kernel, context.device).compile[0]
            yield f"{name} {describe(problem)}", (kernel, problem)


def _judged(context: Context, kernel: Kernel[Any], problem: Problem) -> dict[str, Any]:
    """Times against the model's; all trials go to a table beside the results."""
    filed = context.bench.table_device(context.device.name)
    found = [
        one
        for one in trials.read(context.state, filed, kernel)
        if one.problem == problem and one.study.bench == context.bench.name
    ]
    if not found:
        return {}
    table = trial_table.frame(found)
    path = context.folder / "trials" / f"{kernel.name.replace('/', '.')}.csv"
    files.write(path, trial_table.written(found, path))
    return {"statuses": table["status"].value_counts().to_dict(), **ranked(table)}


def ranked(table: pd.DataFrame) -> dict[str, Any]:
    """How the model's order compares with the measured one, over the trials that were timed."""
    timed = table[table["us"].notna()].astype({"us": float, "modeled_us": float}).sort_values("modeled_us")
    if timed.empty:
        return {}
    best = float(timed["us"].min())
    return {
        "timed": len(timed),
        "best_us": best,
        "model_first_us": float(timed["us"].iloc[0]),
        "model_first_8_us": float(timed["us"].iloc[:_FIRST].min()),
        "rank_correlation": float(timed["us"].corr(timed["modeled_us"], method="spearman")),
        "factor": float((timed["us"] / timed["modeled_us"]).median()),
    }
