"""Compressor in decode: a token enters its request's state, and where it closes a window the window is pooled (K8).

One program owns a stretch of channels of one request, so that reading, pooling and shifting its state need no second
launch. Most tokens close nothing (1 in 4, or 1 in 128, does) and end after one store.
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
from autotune.kernels._problem import one_of
from autotune.kernels.compressor._pool import entry_default, entry_reject, expect_pooled, pool_work, softmax_pool
from autotune.kernels.compressor._windows import OVERLAP_RATIO, Windows, require_tokens, unchanged, window_of


@dataclass(frozen=True)
class Problem(Windows):
    """`tokens` requests with one token each; `pattern`: positions at random, or all closing a window."""

    pattern: str = "any"

    DRAWN: ClassVar[tuple[str, ...]] = ("pattern",)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, pattern=("any", "closing"))

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], *window_of(args.ape))

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        positions = draw.integers((self.tokens,), 0, 4 * self.ratio, torch.int32)
        if self.pattern == "closing":
            positions = positions // self.ratio * self.ratio + self.ratio - 1
        else:  # the first token of all, and one before, at and after the end of the first window
            edges = [0, self.ratio - 2, self.ratio, self.ratio - 1][: self.tokens]
            positions[: len(edges)] = torch.tensor(edges, dtype=torch.int32, device=device)
        states = self.draw_state(draw, positions)
        # Requests do not lie in the order of the batch; the fifth token is padding.
        rows = torch.arange(self.tokens - 1, -1, -1, dtype=torch.int32, device=device)
        rows[4:5] = -1
        return *self.draw_tokens(draw), positions, rows, *(state.flip(0).contiguous() for state in states)

    @property
    def flops(self) -> int:
        return self.tokens * 8 * self.channels

    @property
    def bytes_moved(self) -> int:
        closing = self.state_rows * self.channels * 2 * 4 / self.ratio
        return int(self.tokens * (4 * self.channels * 4 + self.d * 4 + closing))


@triton.jit
def _decode_pool(
    pooled_ptr, x_ptr, ape_ptr, positions_ptr, state_rows_ptr, kv_ptr, score_ptr, d,
    RATIO: tl.constexpr, OVERLAP: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    position = tl.load(positions_ptr + token)
    within = position % RATIO
    wide = 2 * d if OVERLAP else d
    own = RATIO if OVERLAP else 0
    request = tl.load(state_rows_ptr + token).to(tl.int64)
    inside = c < tl.where(request >= 0, d, 0)
    state = request * (own + RATIO) * wide
    # The channels that this token's own window pools: the second half where windows overlap.
    own_channel = d + c if OVERLAP else c
    kv = tl.load(x_ptr + token * 2 * wide + own_channel, mask=inside)
    score = tl.load(x_ptr + token * 2 * wide + wide + own_channel, mask=inside)
    score += tl.load(ape_ptr + within * wide + own_channel, mask=inside)
    tl.store(kv_ptr + state + (own + within) * wide + own_channel, kv, mask=inside)
    tl.store(score_ptr + state + (own + within) * wide + own_channel, score, mask=inside)
    if OVERLAP:
        next_kv = tl.load(x_ptr + token * 2 * wide + c, mask=inside)
        next_score = tl.load(x_ptr + token * 2 * wide + wide + c, mask=inside)
        next_score += tl.load(ape_ptr + within * wide + c, mask=inside)
        tl.store(kv_ptr + state + (own + within) * wide + c, next_kv, mask=inside)
        tl.store(score_ptr + state + (own + within) * wide + c, next_score, mask=inside)
    if (within == RATIO - 1) & (request >= 0):
        row = tl.arange(0, RATIO)[:, None]
        tile = inside[None, :] & (row < RATIO)
        # The last row is this token: from registers, since its store above may not be visible to other threads yet.
        newest = row == RATIO - 1
        older = tile & (row < RATIO - 1)
        at = state + (own + row) * wide
        own_kv = tl.where(newest, kv[None, :], tl.load(kv_ptr + at + own_channel[None, :], mask=older, other=0.0))
        own_score = tl.where(
            newest, score[None, :], tl.load(score_ptr + at + own_channel[None, :], mask=older, other=0.0)
        )
        if OVERLAP:
            before = state + row * wide + c[None, :]
            # None before the first window.
            closed = inside[None, :] & (row < tl.where(position >= RATIO, RATIO, 0))
            old_kv = tl.load(kv_ptr + before, mask=closed, other=0.0)
            old_score = tl.load(score_ptr + before, mask=closed, other=float("-inf"))
            both_kv = tl.reshape(tl.permute(tl.join(old_kv, own_kv), (0, 2, 1)), (2 * RATIO, BLOCK_D))
            both_score = tl.reshape(tl.permute(tl.join(old_score, own_score), (0, 2, 1)), (2 * RATIO, BLOCK_D))
            out = softmax_pool(both_kv, both_score)
            next_rows_kv = tl.load(kv_ptr + at + c[None, :], mask=older, other=0.0)
            next_rows_score = tl.load(score_ptr + at + c[None, :], mask=older, other=0.0)
            to = state + row * wide
            tl.store(kv_ptr + to + c[None, :], tl.where(newest, next_kv[None, :], next_rows_kv), mask=tile)
            tl.store(score_ptr + to + c[None, :], tl.where(newest, next_score[None, :], next_rows_score), mask=tile)
            tl.store(kv_ptr + to + own_channel[None, :], own_kv, mask=tile)
            tl.store(score_ptr + to + own_channel[None, :], own_score, mask=tile)
        else:
            out = softmax_pool(own_kv, own_score)
        tl.store(pooled_ptr + token * d + c, out, mask=inside)
    else:
        tl.store(pooled_ptr + token * d + c, tl.zeros((BLOCK_D,), dtype=tl.float32), mask=c < d)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    ratio, d = problem.ratio, problem.d
    overlap = ratio == OVERLAP_RATIO
    kv_after, score_after = unchanged("kv_state", args.kv_state), unchanged("score_state", args.score_state)
    pooled, bound = torch.zeros((2, problem.tokens, d), dtype=torch.float64, device=args.x.device)
    for token, position in enumerate(args.positions.tolist()):
        request = int(args.state_rows[token])
        if request < 0:
            continue
        kv, score = (part.double() for part in args.x[token].chunk(2))
        score = score + args.ape[position % ratio].double()
        kvs, scores, scores_off = kv_after.value[request], score_after.value[request], score_after.bound[request]
        row = position % ratio + (ratio if overlap else 0)
        kvs[row], scores[row], scores_off[row] = kv, score, score.abs() * 2.0**-23
        if (position + 1) % ratio == 0:
            rows, rows_score = kvs, scores
            if overlap:  # the halves: the closed window's first d channels, this one's second d
                first = 0 if position >= ratio else ratio
                rows = torch.cat((kvs[first:ratio, :d], kvs[ratio:, d:]))
                rows_score = torch.cat((scores[first:ratio, :d], scores[ratio:, d:]))
            pooled[token], bound[token] = expect_pooled(rows, rows_score)
            if overlap:
                kvs[:ratio], scores[:ratio], scores_off[:ratio] = kvs[ratio:], scores[ratio:], scores_off[ratio:]
    return Expected("pooled", pooled, bound), kv_after, score_after


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return pool_work(problem, problem.tokens, problem.d, config)


@tunable(Problem, jit=_decode_pool, reference=_reference, default=entry_default, reject=entry_reject, work=_work)
def decode_pool(
    x: Tensor,
    ape: Tensor,
    positions: Tensor,
    state_rows: Tensor,
    kv_state: Tensor,
    score_state: Tensor,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, Tensor, Tensor]:
    """(pooled fp32 [tokens, d], kv_state, score_state); the states are written in place.

    x fp32 [tokens, 2 channels] is keys | scores, ape fp32 [ratio, channels], positions and state_rows int32 [tokens]
    (no row twice; below 0 for padding, of which nothing is read), states fp32 [requests, rows, channels]; pooled is 0
    where no window closes. No tokens are no launch. Raises UsageError.
    """
    name = "decode_pool"
    ratio, tokens = require_tokens(name, x, ape, kv_state, score_state), x.shape[0]
    require(
        name,
        home=x,
        positions=(positions, torch.int32, (tokens,)),
        state_rows=(state_rows, torch.int32, (tokens,)),
    )
    overlap = ratio == OVERLAP_RATIO
    d = window_of(ape)[1]
    pooled = torch.empty((tokens, d), dtype=torch.float32, device=x.device)
    grid = (tokens, triton.cdiv(d, config.size("BLOCK_D")))
    launch(_decode_pool, grid)(
        pooled, x, ape, positions, state_rows, kv_state, score_state, d, RATIO=ratio, OVERLAP=overlap, **options(config)
    )
    return pooled, kv_state, score_state
