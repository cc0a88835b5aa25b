"""Ceilings of the hardware: streaming, the last-level cache, cuBLAS, and the cost of one node of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autotune.inputs import FP8
from autotune.tuning.measurement.device_rates import L2_READS, l2_share_bytes, read_again, words
from benchmarks.gpu_run.context import Context
from benchmarks.gpu_run.graphs import GraphTimer

_STREAMED_BYTES = 4 * 2**30
_REHEARSED_BYTES = 2**16


@dataclass(frozen=True)
class Ceiling:
    """A call of torch on inputs that `make` draws; what it moves or computes at least."""

    make: Callable[[], tuple[Any, ...]]
    call: Callable[..., Any]
    bytes_moved: int = 0
    flops: int = 0


def run(context: Context) -> None:
    context.needs_tensors_on_a_gpu()
    timer = GraphTimer.of(context.device, context.is_rehearsal)
    for unit, ceiling in context.units(_ceilings(context)):
        try:
            times = timer.times(ceiling.call, ceiling.make(), 3 if context.is_rehearsal else 10)
        except (RuntimeError, TypeError, NotImplementedError) as error:  # this torch or GPU lacks the call
            context.add(unit, failed=f"{type(error).__name__}: {error}"[:500])
        else:
            context.add(unit, **times, bytes_moved=ceiling.bytes_moved, flops=ceiling.flops)
        torch.cuda.empty_cache()


def _ceilings(context: Context) -> Iterator[tuple[str, Ceiling]]:
    size = _REHEARSED_BYTES if context.is_rehearsal else _STREAMED_BYTES
    cached = _REHEARSED_BYTES if context.is_rehearsal else l2_share_bytes(context.device)
    yield "copy", Ceiling(lambda: (words(size), words(size)), _copy, 2 * size)
    yield "read", Ceiling(lambda: (words(size),), torch.sum, size)
    yield "write", Ceiling(lambda: (words(size),), Tensor.zero_, size)
    yield "read in L2", Ceiling(lambda: (words(cached),), read_again, L2_READS * cached)
    yield "graph node", Ceiling(lambda: (words(512),), Tensor.zero_)
    n = k = 64 if context.is_rehearsal else 8192
    for m in (8192, 64, 1):
        rows = min(m, n) if context.is_rehearsal else m
        flops = 2 * rows * n * k
        moved = (rows + n) * k
        dense = _operands(rows, n, k, torch.bfloat16)
        yield f"bf16 {m}x8192x8192", Ceiling(dense, _dense, 2 * (moved + rows * n), flops)
        narrow = _operands(rows, n, k, FP8[context.device.fp8])
        yield f"fp8 {m}x8192x8192", Ceiling(narrow, _scaled, moved + 2 * rows * n, flops)


def _copy(source: Tensor, target: Tensor) -> None:
    target.copy_(source)


def _operands(m: int, n: int, k: int, dtype: torch.dtype) -> Callable[[], tuple[Tensor, ...]]:
    """a [m, k], b [n, k], and the scale 1, made ahead: filling it would be a node of the graph."""

    def make() -> tuple[Tensor, ...]:
        a, b = (torch.randn(rows, k, device="cuda").to(dtype) for rows in (m, n))
        return a, b, torch.ones((), device="cuda")

    return make


def _dense(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    return a @ b.T


def _scaled(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    return torch._scaled_mm(a, b.T, scale, scale, out_dtype=torch.bfloat16)
