"""Rotary embedding of interleaved pairs or of halves: device code, and the table of cosines and sines that it reads."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.kernels._launch import require

ROPE_DIM = 64
_POSITION_STRIDE = 16_381
"""Stride between drawn positions (up to 1M), so that the lowest frequencies rotate visibly."""


@triton.jit
def rotate(x, cos, sin, ROWS: tl.constexpr, DIM: tl.constexpr):
    """Pairs (2i, 2i+1) of fp32 x [ROWS, DIM] rotated by the angles of cos, sin [ROWS, DIM / 2]; -sin rotates back."""
    even, odd = tl.split(tl.reshape(x, (ROWS, DIM // 2, 2)))
    return tl.reshape(tl.join(even * cos - odd * sin, even * sin + odd * cos), (ROWS, DIM))


@triton.jit
def rotate_halves(x, cos, sin, ROWS: tl.constexpr, DIM: tl.constexpr):
    """Like `rotate`, with pairs (i, i + 32) in each 64 columns."""
    halves = tl.permute(tl.reshape(x, (ROWS, DIM // 64, 2, 32)), (0, 1, 3, 2))
    low, high = tl.split(tl.reshape(halves, (ROWS, DIM // 2, 2)))
    rotated = tl.reshape(tl.join(low * cos - high * sin, low * sin + high * cos), (ROWS, DIM // 64, 32, 2))
    return tl.reshape(tl.permute(rotated, (0, 1, 3, 2)), (ROWS, DIM))


@triton.jit
def load_rotation(table_ptr, position, ROWS: tl.constexpr, COLS: tl.constexpr, FIRST: tl.constexpr):
    """Cosines and sines fp32 [ROWS, COLS / 2] of positions [ROWS] for rows whose last (or FIRST) 64 columns rotate.

    The other pairs get the angle 0, which keeps finite values exactly; NaN or an infinity makes its pair NaN.
    """
    pair = tl.arange(0, COLS // 2)[None, :]
    at = pair if FIRST else pair - (COLS // 2 - 32)
    rotates = (at >= 0) & (at < 32)
    row = table_ptr + position.to(tl.int64)[:, None] * 64
    return tl.load(row + at, mask=rotates, other=1.0), tl.load(row + at + 32, mask=rotates, other=0.0)


def require_rotation(kernel: str, home: Tensor, table: Tensor, positions: Tensor, tokens: int) -> None:
    """Raise UsageError unless `table` is fp32 [any, 64] and `positions` int32 [tokens]."""
    require(
        kernel, home=home, table=(table, torch.float32, (None, ROPE_DIM)), positions=(positions, torch.int32, (tokens,))
    )


def rope_frequencies(theta: float, yarn: tuple[int, int, int, int] | None = None, dim: int = ROPE_DIM) -> Tensor:
    """float64 [dim / 2] radians a position; `yarn` is (factor, original length, beta_fast, beta_slow).

    YaRN (Peng et al. 2023, §3.2): slow dimensions are interpolated by `factor`, fast ones kept, a ramp between.
    """
    half = torch.arange(dim // 2, dtype=torch.float64)
    frequency = theta ** (-2 * half / dim)
    if yarn is None:
        return frequency
    factor, original, beta_fast, beta_slow = yarn

    def dimension(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(math.floor(dimension(beta_fast)), 0), min(math.ceil(dimension(beta_slow)), dim - 1)
    ramp = ((half - low) / max(high - low, 0.001)).clamp(0, 1)
    return frequency / factor * ramp + frequency * (1 - ramp)


def rope_table(
    positions: int, theta: float, yarn: tuple[int, int, int, int] | None = None, *, stride: int = 1
) -> Tensor:
    """fp32 [positions, 64] of every `stride`-th position: 32 cosines, then 32 sines; computed in float64."""
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * stride * rope_frequencies(theta, yarn)
    return torch.cat((angle.cos(), angle.sin()), 1).float()


def drawn_rope_table(theta: float, yarn: tuple[int, int, int, int], device: str | torch.device) -> Tensor:
    """fp32 [64, 64], for inputs of check problems: `rope_table` of distant positions."""
    return rope_table(64, theta, yarn, stride=_POSITION_STRIDE).to(device)


def reference_rope(x: Tensor, table: Tensor, *, inverse: bool = False, first: bool = False) -> Tensor:
    """float64 x [..., n] whose last 64 columns are rotated by table rows [..., 64], the others by the angle 0.

    Or the `first`, in pairs (i, i + 32), as V3.2's indexer has them (transformers models/deepseek_v32: "NON-interleaved
    (half-split)"; DeepSeek-V3.2-Exp inference/model.py at 3b99a53 still rotates interleaved pairs there).
    """
    cos, sin = table.double().chunk(2, -1)
    sin = -sin if inverse else sin
    blocks = list(x.split(ROPE_DIM, -1))
    for number in range(len(blocks)):
        turned = number == (0 if first else len(blocks) - 1)
        angle = (cos, sin) if turned else (torch.ones_like(cos), torch.zeros_like(sin))
        blocks[number] = _rotated(blocks[number], *angle, halves=first)
    return torch.cat(blocks, -1)


def reference_rotate(x: Tensor, table: Tensor, inverse: bool = False) -> Tensor:
    """float64 x [..., 64] rotated by table rows [..., 64]."""
    cos, sin = table.double().chunk(2, -1)
    return _rotated(x, cos, -sin if inverse else sin, halves=False)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor, *, halves: bool) -> Tensor:
    if halves:
        low, high = x.chunk(2, -1)
        return torch.cat((low * cos - high * sin, low * sin + high * cos), -1)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)
