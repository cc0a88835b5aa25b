"""How FP8 products are added here: bits kept, and errors as shares of their budgets by k, heads and tile rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from autotune import registry
from autotune.config import Config, build
from autotune.inputs import FP8
from benchmarks.gpu_run.context import Context
from benchmarks.gpu_run.fp8_probe import bits_kept, terms_aligned

_K = (128, 256, 384, 512, 1024, 2048, 7168)
_ROWS = (16, 64, 128)
"""Rows of a tile: on Hopper 64 and more are wgmma's, fewer mma.sync's."""
_HEADS = (8, 16, 32, 64)


@dataclass(frozen=True)
class Case:
    """Rows of a tile, 0 as in the default config."""

    kernel: str
    fields: dict[str, int]
    rows: int = 0


def run(context: Context) -> None:
    context.needs_tensors_on_a_gpu()
    for unit, rows in context.units((f"sums, {rows} rows", rows) for rows in (16, 64)):
        _sums(context, unit, rows)
    for unit, case in context.units(_cases(context)):
        try:
            context.add(unit, kernel=case.kernel, problem=case.fields, rows=case.rows, **_errors(context, case))
        except Exception as error:  # compilers and drivers raise anything
            context.add(unit, failed=f"{type(error).__name__}: {error}"[:400])


def _sums(context: Context, unit: str, rows: int) -> None:
    dtype = FP8[context.device.fp8]
    try:
        context.add(unit, rows=rows, bits=bits_kept(rows, dtype, "cuda:0"), terms=terms_aligned(rows, dtype, "cuda:0"))
    except Exception as error:  # compilers and drivers raise anything
        context.add(unit, failed=f"{type(error).__name__}: {error}"[:400])


def _cases(context: Context) -> Iterator[tuple[str, Case]]:
    m, n = (128, 128) if context.is_rehearsal else (256, 512)
    depths = _K[:2] if context.is_rehearsal else _K
    gemm, logits = "gemm/fp8_block_scaled", "indexer/paged_logits"
    if gemm in context.kernels:
        for k in depths:
            for rows in _ROWS:
                yield f"{gemm} k={k}, {rows} rows", Case(gemm, {"m": m, "n": n, "k": k}, rows)
    if logits in context.kernels:
        for heads in _HEADS[:1] if context.is_rehearsal else _HEADS:
            pages = 2 if context.is_rehearsal else 32
            yield f"{logits} heads={heads}", Case(logits, {"tokens": 8, "heads": heads, "pages": pages})


def _errors(context: Context, case: Case) -> dict[str, Any]:
    """The worst error over its budget, the share of outputs above it, and the relative error in the mean."""
    kernel = registry.load(case.kernel)
    fields = {**case.fields, "dtype": context.device.fp8}
    problem = build(kernel.problem, fields, "numerics")
    config = kernel.default(problem, context.device)
    if case.rows:
        config = Config({**config, "BLOCK_M": case.rows, "num_warps": 4})
    inputs = problem.inputs(0, "cuda:0")
    (want,) = kernel.reference(problem, *inputs)
    (got,) = kernel.decode(problem, kernel.launch(*inputs, config=config, device=context.device))
    error = (got - want.value).abs()
    share = torch.where(want.bound > 0, error / want.bound, 0.0)
    return {
        "worst": float(share.max()),
        "above": float((share > 1).double().mean()),
        "rms": float((error.square().mean() / want.value.square().mean()).sqrt()),
    }
