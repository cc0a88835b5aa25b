"""Compressor in prefill: every window that closes within a chunk is pooled, along a plan of windows (K8).

The plan has a row a window, (request, window, row of x that holds its first token), -1 for none; a window that began
before the chunk has a negative row, and its older tokens come from the request's state.
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
from autotune.kernels.compressor._pool import entry_default, entry_reject, expect_pooled, pool_work, softmax_pool
from autotune.kernels.compressor._windows import OVERLAP_RATIO, Windows, require_tokens, state_rows_of, window_of


@dataclass(frozen=True)
class Problem(Windows):
    """`tokens` of all chunks together, room for `windows`; `start` is how far into a sequence the chunks begin."""

    windows: int
    start: int = 0

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "windows")
    DRAWN: ClassVar[tuple[str, ...]] = ("start",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], *window_of(args.ape), args.plan.shape[0])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        starts = torch.full((1,), self.start, dtype=torch.int32, device=device)
        closing = range(self.start // self.ratio, (self.start + self.tokens) // self.ratio)
        rows = [[0, window, window * self.ratio - self.start] for window in closing]
        rows = (rows + [[-1, -1, -1]] * self.windows)[: self.windows]
        state = self.draw_state(draw, starts if device != "meta" else torch.zeros(1))
        plan = torch.tensor(rows, dtype=torch.int32, device=device)
        return *self.draw_tokens(draw), plan, starts, *state, torch.zeros((1,), dtype=torch.int32, device=device)

    @property
    def flops(self) -> int:
        return 4 * self.windows * self.state_rows * self.d

    @property
    def bytes_moved(self) -> int:
        return self.windows * (self.state_rows * self.d * 2 * 4 + 4 * self.d + 12)


@triton.jit
def _tokens(
    x_ptr, ape_ptr, kv_ptr, score_ptr, position, start, row, state, channel, inside, wide,
    RATIO: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    """Keys and scores [N, D] of tokens at `position` [N, 1]: rows of x, or the state of what lies before `start`."""
    in_chunk = inside & (position >= start)
    in_state = inside & (position < start) & (position >= 0)
    within = (position % RATIO + RATIO) % RATIO
    kv = tl.load(x_ptr + row * 2 * wide + channel, mask=in_chunk, other=0.0)
    score = tl.load(x_ptr + row * 2 * wide + wide + channel, mask=in_chunk, other=float("-inf"))
    score += tl.load(ape_ptr + within * wide + channel, mask=in_chunk, other=0.0)
    is_open = position // RATIO == start // RATIO
    at = state + (tl.where(is_open, OWN, 0) + within) * wide + channel
    kv = tl.where(in_state, tl.load(kv_ptr + at, mask=in_state, other=0.0), kv)
    return kv, tl.where(in_state, tl.load(score_ptr + at, mask=in_state, other=0.0), score)


@triton.jit
def _prefill_pool(
    pooled_ptr, x_ptr, ape_ptr, plan_ptr, starts_ptr, kv_ptr, score_ptr, state_rows_ptr, d,
    RATIO: tl.constexpr, OVERLAP: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    entry = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    request = tl.load(plan_ptr + entry * 3)
    if request >= 0:
        window = tl.load(plan_ptr + entry * 3 + 1)
        first = tl.load(plan_ptr + entry * 3 + 2).to(tl.int64)
        start = tl.load(starts_ptr + request)
        wide = 2 * d if OVERLAP else d
        OWN: tl.constexpr = RATIO if OVERLAP else 0
        state = tl.load(state_rows_ptr + request).to(tl.int64) * (OWN + RATIO) * wide
        if OVERLAP:
            # The window before with its first d channels, then this one with its second d.
            j = tl.arange(0, 2 * RATIO)[:, None] - RATIO
            channel = tl.where(j < 0, c[None, :], d + c[None, :])
        else:
            j = tl.arange(0, RATIO)[:, None]
            channel = c[None, :] + j * 0
        inside = (c < d)[None, :] & (j < RATIO)
        kv, score = _tokens(
            x_ptr, ape_ptr, kv_ptr, score_ptr, window * RATIO + j, start, first + j, state, channel, inside, wide,
            RATIO, OWN,
        )  # fmt: skip
        tl.store(pooled_ptr + entry * d + c, softmax_pool(kv, score), mask=c < d)
    else:
        tl.store(pooled_ptr + entry * d + c, tl.zeros((BLOCK_D,), dtype=tl.float32), mask=c < d)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    ratio, d = problem.ratio, problem.d
    overlap = ratio == OVERLAP_RATIO
    pooled, bound = torch.zeros((2, problem.windows, d), dtype=torch.float64, device=args.x.device)

    def token(request: int, position: int, first_row: int) -> tuple[Tensor, Tensor]:
        start = int(args.starts[request])
        if position >= start:
            kv, score = (part.double() for part in args.x[first_row].chunk(2))
            return kv, score + args.ape[position % ratio].double()
        row = position % ratio + (ratio if overlap and position // ratio == start // ratio else 0)
        at = int(args.state_rows[request])
        return args.kv_state[at, row].double(), args.score_state[at, row].double()

    for entry, (request, window, first) in enumerate(args.plan.tolist()):
        if request < 0:
            continue
        own = [token(request, window * ratio + j, first + j) for j in range(ratio)]
        pairs = [(kv[-d:], score[-d:]) for kv, score in own]
        if overlap and window > 0:
            old = [token(request, (window - 1) * ratio + j, first - ratio + j) for j in range(ratio)]
            pairs += [(kv[:d], score[:d]) for kv, score in old]
        kv, score = (torch.stack(part) for part in zip(*pairs, strict=True))
        pooled[entry], bound[entry] = expect_pooled(kv, score)
    return (Expected("pooled", pooled, bound),)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    # The terms of positions: every window adds them.
    terms = 4 * state_rows_of(problem.ratio) * problem.d
    return pool_work(problem, problem.windows, problem.d, config, terms)


@tunable(Problem, jit=_prefill_pool, reference=_reference, default=entry_default, reject=entry_reject, work=_work)
def prefill_pool(
    x: Tensor,
    ape: Tensor,
    plan: Tensor,
    starts: Tensor,
    kv_state: Tensor,
    score_state: Tensor,
    state_rows: Tensor,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """Pooled fp32 [windows, d], 0 for rows of the plan that are -1.

    x fp32 [tokens, 2 channels] is keys | scores of the flattened chunks, ape fp32 [ratio, channels], plan int32
    [windows, 3] of `metadata/compress_plan`, starts and state_rows int32 [requests], states fp32 [.., rows, channels].
    No tokens or windows are no launch. Raises UsageError for anything else.
    """
    name = "prefill_pool"
    ratio = require_tokens(name, x, ape, kv_state, score_state)
    require(name, home=x, plan=(plan, torch.int32, (None, 3)), starts=(starts, torch.int32, (None,)))
    require(name, home=x, state_rows=(state_rows, torch.int32, starts.shape))
    overlap = ratio == OVERLAP_RATIO
    d = window_of(ape)[1]
    # No tokens close no window, whatever the plan says.
    empty = is_zero(x.shape[0])
    pooled = (torch.zeros if empty else torch.empty)((plan.shape[0], d), dtype=torch.float32, device=x.device)
    grid = (0 if empty else plan.shape[0], triton.cdiv(d, config.size("BLOCK_D")))
    launch(_prefill_pool, grid)(
        pooled, x, ape, plan, starts, kv_state, score_state, state_rows, d,
        RATIO=ratio, OVERLAP=overlap, **options(config),
    )  # fmt: skip
    return pooled
