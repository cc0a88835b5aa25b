"""Compressor after prefill: what a request's state must hold for decode to go on (K8).

The tokens of the window that the chunk leaves open; with overlap also the closed window before it, which comes from the
chunk, or from the rows where the state held it as the open one.
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
from autotune.kernels._launch import is_zero, launch, options, require
from autotune.kernels._problem import at_least
from autotune.kernels.compressor._pool import pool_config, pool_reject, pool_work
from autotune.kernels.compressor._windows import OVERLAP_RATIO, Windows, channels, require_tokens, unchanged, window_of


@dataclass(frozen=True)
class Problem(Windows):
    """`tokens` of all chunks, in equal parts but for the last; `start` is how far in each begins."""

    requests: int
    start: int = 0

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "requests")
    DRAWN: ClassVar[tuple[str, ...]] = ("start",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens:
            at_least(self, tokens=self.requests)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], *window_of(args.ape), args.starts.shape[0])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        index = torch.arange(self.requests, dtype=torch.int32, device=device)
        share = self.tokens // self.requests
        lengths = torch.full_like(index, share)
        if device != "meta":
            lengths[-1] = self.tokens - share * (self.requests - 1)
        starts = index * 3 + self.start
        state = (part.flip(0).contiguous() for part in self.draw_state(draw, starts))
        return *self.draw_tokens(draw), starts, lengths, index * share, self.requests - 1 - index, *state

    @property
    def flops(self) -> int:
        return self.requests * self.state_rows * self.channels

    @property
    def bytes_moved(self) -> int:
        return 4 * 4 * self.requests * self.state_rows * self.channels


@triton.jit
def _state_write(
    x_ptr, ape_ptr, starts_ptr, lengths_ptr, offsets_ptr, state_rows_ptr, kv_ptr, score_ptr, wide,
    RATIO: tl.constexpr, OVERLAP: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    request = tl.program_id(0).to(tl.int64)
    c = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D))[None, :]
    j = tl.arange(0, RATIO)[:, None]
    inside = (c < wide) & (j < RATIO)
    start = tl.load(starts_ptr + request)
    end = start + tl.load(lengths_ptr + request)
    offset = tl.load(offsets_ptr + request).to(tl.int64)
    OWN: tl.constexpr = RATIO if OVERLAP else 0
    state = tl.load(state_rows_ptr + request).to(tl.int64) * (OWN + RATIO) * wide
    is_open = end // RATIO
    term = tl.load(ape_ptr + j * wide + c, mask=inside, other=0.0)
    at = state + (OWN + j) * wide + c
    if OVERLAP:
        # Read before the open rows are overwritten below.
        closed = (is_open - 1) * RATIO + j
        fresh = inside & (closed >= start)
        moved = inside & (closed >= 0) & (closed < start) & (closed // RATIO == start // RATIO)
        row = (offset + closed - start) * 2 * wide + c
        kv = tl.load(x_ptr + row, mask=fresh, other=0.0)
        score = tl.load(x_ptr + row + wide, mask=fresh, other=0.0) + term
        kv = tl.where(moved, tl.load(kv_ptr + at, mask=moved, other=0.0), kv)
        score = tl.where(moved, tl.load(score_ptr + at, mask=moved, other=0.0), score)
        tl.debug_barrier()
        tl.store(kv_ptr + state + j * wide + c, kv, mask=fresh | moved)
        tl.store(score_ptr + state + j * wide + c, score, mask=fresh | moved)
    position = is_open * RATIO + j
    in_chunk = inside & (position >= start) & (position < end)
    from_row = (offset + position - start) * 2 * wide + c
    tl.store(kv_ptr + at, tl.load(x_ptr + from_row, mask=in_chunk, other=0.0), mask=in_chunk)
    tl.store(score_ptr + at, tl.load(x_ptr + from_row + wide, mask=in_chunk, other=0.0) + term, mask=in_chunk)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    ratio = problem.ratio
    overlap = ratio == OVERLAP_RATIO
    kv_after, score_after = unchanged("kv_state", args.kv_state), unchanged("score_state", args.score_state)
    for request in range(problem.requests):
        start, length, offset = (int(t[request]) for t in (args.starts, args.lengths, args.offsets))
        at = int(args.state_rows[request])
        kvs, scores, off = kv_after.value[at], score_after.value[at], score_after.bound[at]
        # Decode's rules, one token after another; stale rows of the open window are what this kernel leaves out.
        for position in range(start, start + length):
            kv, score = (part.double() for part in args.x[offset + position - start].chunk(2))
            score = score + args.ape[position % ratio].double()
            row = position % ratio + (ratio if overlap else 0)
            kvs[row], scores[row], off[row] = kv, score, score.abs() * 2.0**-23
            if overlap and (position + 1) % ratio == 0:
                kvs[:ratio], scores[:ratio], off[:ratio] = kvs[ratio:], scores[ratio:], off[ratio:]
        stale = torch.arange(ratio, device=args.x.device) >= (start + length) % ratio
        for part in (kv_after, score_after):
            part.value[at, -ratio:][stale], part.bound[at, -ratio:][stale] = float("nan"), float("inf")
    return kv_after, score_after


def _default(problem: Problem, device: Device) -> Config:
    return pool_config(problem.ratio, channels(problem.ratio, problem.d), device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return pool_reject(problem.ratio, channels(problem.ratio, problem.d), config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return pool_work(problem, problem.requests, channels(problem.ratio, problem.d), config)


@tunable(Problem, jit=_state_write, reference=_reference, default=_default, reject=_reject, work=_work)
def state_write(
    x: Tensor,
    ape: Tensor,
    starts: Tensor,
    lengths: Tensor,
    offsets: Tensor,
    state_rows: Tensor,
    kv_state: Tensor,
    score_state: Tensor,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, Tensor]:
    """(kv_state, score_state) fp32 [.., rows, channels], written in place.

    x fp32 [tokens, 2 channels], ape fp32 [ratio, channels]; starts, lengths, offsets (first row of x) and state_rows
    int32 [requests]. Rows of the open window that have no token yet keep what they held. Values of any bits are copied;
    no tokens are no launch. Raises UsageError.
    """
    name = "state_write"
    ratio, wide = require_tokens(name, x, ape, kv_state, score_state), ape.shape[1]
    require(name, home=x, starts=(starts, torch.int32, (None,)))
    require(
        name,
        home=x,
        lengths=(lengths, torch.int32, starts.shape),
        offsets=(offsets, torch.int32, starts.shape),
        state_rows=(state_rows, torch.int32, starts.shape),
    )
    grid = (0 if is_zero(x.shape[0]) else starts.shape[0], triton.cdiv(wide, config.size("BLOCK_D")))
    launch(_state_write, grid)(
        x, ape, starts, lengths, offsets, state_rows, kv_state, score_state, wide,
        RATIO=ratio, OVERLAP=ratio == OVERLAP_RATIO, **options(config),
    )  # fmt: skip
    return kv_state, score_state
