"""Small search spaces measured whole, by the product's own exhaustive sessions."""

from __future__ import annotations

from collections.abc import Iterator

from autotune import registry
from autotune.config import describe
from autotune.tuning import space
from benchmarks.gpu_run.context import Context, Skipped
from benchmarks.gpu_run.steps.tune import session

_KERNELS = (
    *("norm/qkv_rms_norm", "attention/sparse_prefill", "moe/combine", "moe/router", "compressor/state_write"),
    *("quant/fp8_group_quant", "attention/dense_mqa", "norm/rms_norm_quant"),
)
"""Spaces of 26 to 396 configs on H200, of several kinds."""


def run(context: Context) -> None:
    context.needs_times()
    work = list(_spaces(context))
    if not work:
        raise Skipped(f"none of {', '.join(_KERNELS)} is among --kernels")
    for unit, (kernel, problem) in context.units(work):
        told = session(context, kernel, f"--problem={problem}", "--exhaustive")
        context.add(unit, **told, problem=problem)


def _spaces(context: Context) -> Iterator[tuple[str, tuple[str, str]]]:
    """Each kernel at its first problem of the models."""
    for name in _KERNELS:
        if name in context.kernels:
            problem = describe(space.load(registry.load(name), context.device).compile[0])
            yield f"{name} {problem}", (name, problem)
