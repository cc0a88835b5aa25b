"""What the hardware reaches: streaming, the last-level cache, cuBLAS, and the cost of one node of a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_run.context import Context
from benchmarks.gpu_run.graphs import Stopwatch

_STREAMED_BYTES = 4 * 2**30
_L2_SHARE = 0.25
"""Of the last-level cache: two operands and what else lies there fit."""
_REHEARSED_BYTES = 2**16


@dataclass(frozen=True)
class Ceiling:
    """A call of torch on inputs that `make` draws; what it moves or computes at least."""

    make: Callable[[], tuple[Any, ...]]
    call: Callable[..., Any]
    bytes_moved: int = 0
    flops: int = 0
    flush: str = "read"
    """Which samples count: those with the cache left alone, where the cache itself is measured."""


def run(context: Context) -> None:
    context.needs_tensors_on_a_gpu()
    stopwatch = Stopwatch.of(context.device, context.is_rehearsal)
    for unit, ceiling in context.units(_ceilings(context)):
        try:
            times = stopwatch.times(ceiling.call, ceiling.make(), 3 if context.is_rehearsal else 10)
        except (RuntimeError, TypeError, NotImplementedError) as error:  # this torch or GPU lacks the call
            context.add(unit, failed=f"{type(error).__name__}: {error}"[:500])
        else:
            context.add(unit, **times, bytes_moved=ceiling.bytes_moved, flops=ceiling.flops, flush=ceiling.flush)
        torch.cuda.empty_cache()


def _ceilings(context: Context) -> Iterator[tuple[str, Ceiling]]:
    size = _REHEARSED_BYTES if context.is_rehearsal else _STREAMED_BYTES
    cached = _REHEARSED_BYTES if context.is_rehearsal else int(context.device.last_level_bytes * _L2_SHARE)
    yield "copy", Ceiling(lambda: (_words(size), _words(size)), _copy, 2 * size)
    yield "read", Ceiling(lambda: (_words(size),), torch.sum, size)
    yield "write", Ceiling(lambda: (_words(size),), Tensor.zero_, size)
    # One copy of operands that fit the cache would be evicted by rotation: a graph repeats them inside one call.
    yield "copy in L2", Ceiling(lambda: (_Pair(cached),), _copy_pair, 2 * cached, flush="none")
    yield "graph node", Ceiling(lambda: (_words(512),), Tensor.zero_)
    n = k = 64 if context.is_rehearsal else 8192
    for m in (8192, 64, 1):
        rows = min(m, n) if context.is_rehearsal else m
        flops = 2 * rows * n * k
        moved = (rows + n) * k
        dense = _operands(rows, n, k, torch.bfloat16)
        yield f"bf16 {m}x8192x8192", Ceiling(dense, lambda a, b: a @ b.T, 2 * (moved + rows * n), flops)
        narrow = _operands(rows, n, k, torch.float8_e4m3fn)
        yield f"fp8 {m}x8192x8192", Ceiling(narrow, _scaled, moved + 2 * rows * n, flops)


class _Pair:
    """Two buffers that are not copied: the same ones in every call."""

    def __init__(self, bytes_: int) -> None:
        self.source, self.target = _words(bytes_), _words(bytes_)


def _words(bytes_: int) -> Tensor:
    return torch.zeros(bytes_ // 4, dtype=torch.int32, device="cuda")


def _copy(source: Tensor, target: Tensor) -> None:
    target.copy_(source)


def _copy_pair(pair: _Pair) -> None:
    _copy(pair.source, pair.target)


def _operands(m: int, n: int, k: int, dtype: torch.dtype) -> Callable[[], tuple[Tensor, Tensor]]:
    def make() -> tuple[Tensor, Tensor]:
        a, b = (torch.randn(rows, k, device="cuda").to(dtype) for rows in (m, n))
        return a, b

    return make


def _scaled(a: Tensor, b: Tensor) -> Tensor:
    one = torch.ones((), device="cuda")
    return torch._scaled_mm(a, b.T, one, one, out_dtype=torch.bfloat16)
