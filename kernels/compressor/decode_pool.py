"""One decode step of the KV compressor: each token joins its request's state, and closes a window or does not (K8).

A window that closes is pooled into one entry: softmax over its tokens, by channel. Rows of a batch are different
requests, so programs share nothing; those whose token closes no window only write it, and leave.
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
from autotune.draw import Draw
from autotune.kernel import Expected, Work, tunable
from autotune.kernels._launch import options, require
from autotune.kernels.compressor._state import (
    FLOOR,
    absorb,
    check_window,
    coff_of,
    draw_state,
    expect_pooled,
    pool_config,
    pool_reject,
    require_state,
    row_of,
)

PATTERNS = ("mixed", "closing", "first")


@dataclass(frozen=True)
class Problem:
    """`pattern`: positions at random, all closing a window, or all closing a request's first window."""

    tokens: int
    ratio: int
    d: int
    pattern: str = "mixed"

    VARYING: ClassVar[tuple[str, ...]] = ("tokens",)
    DRAWN: ClassVar[tuple[str, ...]] = ("pattern",)

    def __post_init__(self) -> None:
        check_window(self.ratio, self.d)
        if self.tokens < 1 or self.pattern not in PATTERNS:
            raise ValueError(f"tokens must be positive, pattern one of {', '.join(PATTERNS)}; got {self}")

    @classmethod
    def of(
        cls, x: Tensor, ape: Tensor, positions: Tensor, state_rows: Tensor, kv_state: Tensor, score_state: Tensor
    ) -> Problem:
        return cls(x.shape[0], ape.shape[0], ape.shape[1] // coff_of(ape.shape[0]))

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        width = coff_of(self.ratio) * self.d
        x = draw.normal((self.tokens, 2 * width), torch.float32)
        ape = draw.normal((self.ratio, width), torch.float32)
        positions = draw.integers((self.tokens,), 0, 4 * self.ratio, torch.int32)
        if self.pattern != "mixed":
            window = 0 if self.pattern == "first" else positions // self.ratio
            positions = positions % 1 + window * self.ratio + self.ratio - 1
        # No state is shared; the last of several rows is padding.
        state_rows = torch.arange(1, self.tokens + 1, dtype=torch.int32, device=device)
        if self.tokens > 1 and device != "meta":
            state_rows[-1] = -1
        return x, ape, positions, state_rows, *draw_state(draw, self.tokens + 2, self.ratio, self.d)

    @property
    def closing(self) -> int:
        """Windows that close."""
        return self.tokens // self.ratio if self.pattern == "mixed" else self.tokens

    @property
    def flops(self) -> int:
        return coff_of(self.ratio) * self.d * (self.tokens + 6 * self.ratio * self.closing)

    @property
    def bytes_moved(self) -> int:
        width = coff_of(self.ratio) * self.d
        # A row in and out for each token; where a window closes its rows, and those it leaves to the next.
        rows = 4 * self.tokens + (2 + 4 * (coff_of(self.ratio) - 1)) * self.ratio * self.closing
        return 4 * (width * rows + self.d * self.tokens)


@triton.jit
def _decode_pool(
    pooled_ptr, kv_state_ptr, score_state_ptr, x_ptr, ape_ptr, positions_ptr, state_rows_ptr,
    RATIO: tl.constexpr, COFF: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    WIDTH: tl.constexpr = COFF * D
    # The first row of the open window, and the first channel that serves it.
    OPEN: tl.constexpr = (COFF - 1) * RATIO
    OWN: tl.constexpr = (COFF - 1) * D
    token = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    position = tl.load(positions_ptr + token)
    state = tl.load(state_rows_ptr + token).to(tl.int64)
    pooled = tl.zeros((BLOCK,), dtype=tl.float32)
    if state >= 0:
        slot = position % RATIO
        kv_base = kv_state_ptr + state * COFF * RATIO * WIDTH + c
        score_base = score_state_ptr + state * COFF * RATIO * WIDTH + c
        x_row = x_ptr + token * 2 * WIDTH + c
        ape_row = ape_ptr + slot * WIDTH + c
        kv = tl.load(x_row + OWN)
        score = tl.load(x_row + WIDTH + OWN) + tl.load(ape_row + OWN)
        tl.store(kv_base + (OPEN + slot) * WIDTH + OWN, kv)
        tl.store(score_base + (OPEN + slot) * WIDTH + OWN, score)
        if COFF == 2:
            next_kv = tl.load(x_row)
            next_score = tl.load(x_row + WIDTH) + tl.load(ape_row)
            tl.store(kv_base + (OPEN + slot) * WIDTH, next_kv)
            tl.store(score_base + (OPEN + slot) * WIDTH, next_score)
        if slot == RATIO - 1:
            top, total, acc = score, tl.full((BLOCK,), 1.0, dtype=tl.float32), kv
            for first in range(0, RATIO, ROWS):
                row = (first + tl.arange(0, ROWS))[:, None]
                # The last token is at hand; what was just stored is not read back.
                s = tl.load(score_base[None, :] + (OPEN + row) * WIDTH + OWN, mask=row < RATIO - 1, other=float("-inf"))
                v = tl.load(kv_base[None, :] + (OPEN + row) * WIDTH + OWN, mask=row < RATIO - 1, other=0.0)
                top, total, acc = absorb(top, total, acc, s, v)
            if COFF == 2:
                row = tl.arange(0, RATIO)[:, None]
                is_old = (row < RATIO) & (position >= RATIO)
                s = tl.load(score_base[None, :] + row * WIDTH, mask=is_old, other=float("-inf"))
                v = tl.load(kv_base[None, :] + row * WIDTH, mask=is_old, other=0.0)
                top, total, acc = absorb(top, total, acc, s, v)
                # Every thread has read the previous window before this one takes its place.
                tl.debug_barrier()
                for half in tl.static_range(0, 2):
                    here = row * WIDTH + half * D
                    s = tl.load(score_base[None, :] + OPEN * WIDTH + here, mask=row < RATIO - 1)
                    v = tl.load(kv_base[None, :] + OPEN * WIDTH + here, mask=row < RATIO - 1)
                    tl.store(score_base[None, :] + here, s, mask=row < RATIO - 1)
                    tl.store(kv_base[None, :] + here, v, mask=row < RATIO - 1)
                last: tl.constexpr = (RATIO - 1) * WIDTH
                tl.store(score_base + last, next_score)
                tl.store(kv_base + last, next_kv)
                tl.store(score_base + last + OWN, score)
                tl.store(kv_base + last + OWN, kv)
            pooled = acc / total
    tl.store(pooled_ptr + token * D + c, pooled)


def _reference(
    problem: Problem,
    x: Tensor,
    ape: Tensor,
    positions: Tensor,
    state_rows: Tensor,
    kv_state: Tensor,
    score_state: Tensor,
) -> tuple[Expected, ...]:
    ratio, d = problem.ratio, problem.d
    kv, score = (part.clone() for part in x.double().chunk(2, 1))
    score += ape.double()[positions.long() % ratio]
    kv_state, score_state = kv_state.double(), score_state.double()
    score_bound = torch.zeros_like(score_state)
    pooled, bound = torch.zeros(problem.tokens, d).double(), torch.zeros(problem.tokens, d).double()
    for token, (position, state) in enumerate(zip(positions.tolist(), state_rows.tolist(), strict=True)):
        if state < 0:
            continue
        row = row_of(position, position, ratio)
        kv_state[state, row], score_state[state, row] = kv[token], score[token]
        score_bound[state, row] = score[token].abs() * 2.0**-24
        if position % ratio == ratio - 1:
            seen = [
                (row_of(p, position, ratio), p // ratio) for p in range(max(0, position - 2 * ratio + 1), position + 1)
            ]
            own = [r for r, w in seen if w == position // ratio]
            old = [r for r, w in seen if w < position // ratio and coff_of(ratio) == 2]
            values, scores = (torch.cat((s[state, old, :d], s[state, own, -d:])) for s in (kv_state, score_state))
            expected = expect_pooled(values, scores)
            pooled[token], bound[token] = expected.value, expected.bound
            if coff_of(ratio) == 2:
                for tensor in (kv_state, score_state, score_bound):
                    tensor[state, :ratio] = tensor[state, ratio:].clone()
    return (
        Expected("pooled", pooled, bound),
        Expected("kv_state", kv_state, torch.zeros_like(kv_state)),
        Expected("score_state", score_state.clamp_min(FLOOR), score_bound),
    )


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    pooled, kv_state, score_state = outputs
    return pooled.double(), kv_state.double(), score_state.double().clamp_min(FLOOR)


def _default(problem: Problem, device: Device) -> Config:
    return pool_config(problem.ratio, problem.d, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return pool_reject(problem.ratio, problem.d, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    programs = problem.tokens * problem.d // config.size("BLOCK")
    return Work(
        programs=programs,
        flops_per_program=problem.flops / programs,
        bytes_per_program=problem.bytes_moved / programs,
        unique_bytes=problem.bytes_moved,
        iterations=problem.ratio // config.size("ROWS"),
        dtype="fp32",
    )


@tunable(Problem, jit=_decode_pool, reference=_reference, decode=_decode, rules=(_default, _reject, _work))
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
    """(pooled fp32 [tokens, d], 0 where no window closes, kv_state, score_state); states are written in place.

    x fp32 [tokens, 2 coff d] (kv | score), ape fp32 [ratio, coff d], positions and state_rows int32 [tokens], states
    fp32 [states, coff ratio, coff d]. No two rows may share a state; state row -1 is padding. Raises UsageError.
    """
    name = "decode_pool"
    ratio, coff, d = require_state(name, x, ape, kv_state, score_state)
    tokens = x.shape[0]
    require(
        name,
        x=(x, x.dtype, x.shape),
        positions=(positions, torch.int32, (tokens,)),
        state_rows=(state_rows, torch.int32, (tokens,)),
    )
    pooled = torch.empty((tokens, d), dtype=torch.float32, device=x.device)
    _decode_pool[(tokens, d // config.size("BLOCK"))](
        pooled, kv_state, score_state, x, ape, positions, state_rows, RATIO=ratio, COFF=coff, D=d, **options(config)
    )
    return pooled, kv_state, score_state
