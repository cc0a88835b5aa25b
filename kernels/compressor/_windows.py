"""Windows of the compressor and their state, as its kernels read and write them.

A window is `ratio` tokens. At ratio 4 windows overlap: every token makes 2 d channels, the first d for the next window
and the second d for its own, and an entry pools 4 + 4 tokens. At ratio 128 they do not. The state of a request holds
the open window's tokens (its last `ratio` rows) and, with overlap, the closed window before it (the first 4): keys, and
scores with the positional term already added. Rows of windows before the first token may hold any bits, and those of
the open window that its tokens have not reached: none is read. NaN in a token makes the entries that pool it NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.inputs import Draw
from autotune.kernel import Expected
from autotune.kernels._launch import require
from autotune.kernels._problem import Sizes, at_least, power_of_two

OVERLAP_RATIO = 4


@dataclass(frozen=True)
class Windows(Sizes):
    """`tokens` of `2 d` or `4 d` values, keys and scores of windows of `ratio` tokens."""

    tokens: int
    ratio: int
    d: int

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, ratio=2, d=16)
        power_of_two(self, "ratio")

    @property
    def channels(self) -> int:
        """Channels of a token's keys, and of its scores."""
        return channels(self.ratio, self.d)

    @property
    def state_rows(self) -> int:
        """Rows of a request's state."""
        return state_rows_of(self.ratio)

    def draw_tokens(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """(x fp32 [tokens, 2 channels], positional terms fp32 [ratio, channels])."""
        x = draw.normal((self.tokens, 2 * self.channels), torch.float32)
        return x, draw.normal((self.ratio, self.channels), torch.float32)

    def draw_state(self, draw: Draw, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(kv_state, score_state) fp32 [n, rows, channels] of requests that are at `positions`."""
        shape = (positions.shape[0], self.state_rows, self.channels)
        kv, score = draw.normal(shape, torch.float32), draw.normal(shape, torch.float32)
        if self.ratio == OVERLAP_RATIO and not kv.is_meta:
            first = positions.long() < self.ratio  # no window was closed yet: whatever lies there
            kv[first, : self.ratio], score[first, : self.ratio] = float("nan"), float("inf")
        return kv, score


def window_of(ape: Tensor) -> tuple[int, int]:
    """Return (ratio, d) of the positional terms [ratio, channels]."""
    ratio, wide = ape.shape
    return ratio, wide // 2 if ratio == OVERLAP_RATIO else wide


def channels(ratio: int, d: int) -> int:
    """Channels of a token's keys, and of its scores."""
    return 2 * d if ratio == OVERLAP_RATIO else d


def state_rows_of(ratio: int) -> int:
    """Rows of a request's state."""
    return 2 * ratio if ratio == OVERLAP_RATIO else ratio


def require_tokens(kernel: str, x: Tensor, ape: Tensor, kv_state: Tensor, score_state: Tensor) -> int:
    """Return the ratio. Raises UsageError unless x, positional terms and both states have the same channels."""
    require(kernel, x=(x, torch.float32, (None, None)), ape=(ape, torch.float32, (None, None)))
    ratio, wide = ape.shape
    require(
        kernel,
        x=(x, x.dtype, (None, 2 * wide)),
        kv_state=(kv_state, torch.float32, (None, state_rows_of(ratio), wide)),
        score_state=(score_state, torch.float32, kv_state.shape),
    )
    return ratio


def unchanged(name: str, state: Tensor) -> Expected:
    """`state` as it was: to be changed where a kernel writes."""
    value = state.double()
    return Expected(name, value, torch.zeros_like(value))
