"""The sliding window of prefilled tokens as two key lists: rows of the chunk, and ring slots before it (K23).

A token's window reaches back into its own chunk, whose rows are still at hand, and past the chunk's start into the
ring where earlier chunks left their last keys. Both lists are as wide as the window, oldest first, -1 for none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes
from autotune.kernels._rows import row_config, row_reject, row_work


@dataclass(frozen=True)
class Problem(Sizes):
    """`start`: the least positions before a request's chunk, less than a window more; chunks are equal but the last."""

    tokens: int
    requests: int
    window: int = 128
    start: int = 0

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "requests")
    DRAWN: ClassVar[tuple[str, ...]] = ("start",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.positions.shape[0], args.starts.shape[0], args.window)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        draw = Draw(seed, device)
        share = -(-self.tokens // self.requests)
        token = torch.arange(self.tokens, dtype=torch.int32, device=device)
        requests = token // share
        starts = draw.integers((self.requests,), self.start, self.start + self.window, torch.int32)
        return starts[requests] + token % share, requests, starts, self.window

    @property
    def flops(self) -> int:
        return 6 * self.tokens * self.window

    @property
    def bytes_moved(self) -> int:
        return 8 * self.tokens * (self.window + 1) + 4 * self.requests


@triton.jit(do_not_specialize=["tokens"])
def _chunk_indices(
    chunk_ptr, ring_ptr, positions_ptr, requests_ptr, starts_ptr, tokens, window,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_rows = row < tokens
    col = tl.arange(0, BLOCK)
    position = tl.load(positions_ptr + row, mask=in_rows, other=0)
    request = tl.load(requests_ptr + row, mask=in_rows, other=0)
    start = tl.load(starts_ptr + request, mask=in_rows, other=0)[:, None]
    key = tl.maximum(position - window + 1, 0)[:, None] + col[None, :]
    seen = key <= position[:, None]
    # Rows of a chunk are in the order of its positions, so that the distance between both is the same.
    chunk = tl.where(seen & (key >= start), row[:, None] - (position[:, None] - key), -1)
    ring = tl.where(seen & (key < start), request[:, None] * window + key % window, -1)
    mask = in_rows[:, None] & (col < window)[None, :]
    tl.store(chunk_ptr + row[:, None] * window + col[None, :], chunk.to(tl.int32), mask=mask)
    tl.store(ring_ptr + row[:, None] * window + col[None, :], ring, mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    chunk = torch.full((problem.tokens, args.window), -1.0, dtype=torch.float64, device=args.positions.device)
    ring = chunk.clone()
    rows = {(r, p): row for row, (r, p) in enumerate(zip(args.requests.tolist(), args.positions.tolist(), strict=True))}
    for (request, position), row in rows.items():
        for at, key in enumerate(range(max(0, position + 1 - args.window), position + 1)):
            if key >= args.starts[request]:
                chunk[row, at] = rows[request, key]
            else:
                ring[row, at] = request * args.window + key % args.window
    zero = torch.zeros_like(chunk)
    return Expected("chunk rows", chunk, zero), Expected("ring slots", ring, zero)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 4 if problem.tokens > 64 else 1, "num_warps": 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return row_reject(config.size("ROWS"), triton.next_power_of_2(problem.window), config, device, 32)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return row_work(problem, problem.tokens, config, flops=6 * problem.window, row_bytes=8 * (problem.window + 1))


@tunable(Problem, jit=_chunk_indices, reference=_reference, default=_default, reject=_reject, work=_work)
def chunk_indices(
    positions: Tensor, requests: Tensor, starts: Tensor, window: int = 128, *, config: Config, device: Device
) -> tuple[Tensor, Tensor]:
    """(chunk rows, ring slots), both int32 [tokens, window]; a slot is request * window + position % window.

    positions and requests int32 [tokens], a request's tokens in the order of their positions; starts int32 [requests],
    the position of each chunk's first token (anything for a request that has none here). No tokens are no launch.
    Raises UsageError for other dtypes, shapes or strides.
    """
    require("chunk_indices", positions=(positions, torch.int32, (None,)))
    tokens = positions.shape[0]
    require(
        "chunk_indices",
        positions=(positions, torch.int32, (tokens,)),
        requests=(requests, torch.int32, (tokens,)),
        starts=(starts, torch.int32, (None,)),
    )
    chunk = torch.empty((tokens, window), dtype=torch.int32, device=positions.device)
    ring = torch.empty_like(chunk)
    grid = (triton.cdiv(tokens, config.size("ROWS")),)
    launch(_chunk_indices, grid)(
        chunk,
        ring,
        positions,
        requests,
        starts,
        tokens,
        window,
        BLOCK=triton.next_power_of_2(window),
        **options(config),
    )
    return chunk, ring
