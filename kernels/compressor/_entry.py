"""Parts of both stores of a compressed entry: inputs and their checks, bf16, RMSNorm, the rotation, and rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Work
from autotune.kernels._launch import require
from autotune.kernels._problem import Sizes
from autotune.kernels._rope import ROPE_DIM, drawn_rope_table, load_rotation, reference_rope, require_rotation, rotate
from autotune.kernels._rows import fp8_reject, row_reject, row_work

EPS = 1e-6
_THETA, _YARN = 160000.0, (16, 65536, 32, 1)


@dataclass(frozen=True)
class Entries(Sizes):
    """Entries of `windows`, each stored in a slot of a cache. Subclasses add the cache's format and `dtype`."""

    windows: int

    VARYING: ClassVar[tuple[str, ...]] = ("windows",)
    DRAWN: ClassVar[tuple[str, ...]] = ("dtype",)


def draw_entries(draw: Draw, windows: int, width: int) -> tuple[Tensor, ...]:
    """(pooled, weight, table, positions, slots): every second slot, none twice; the first of several is not stored."""
    pooled = draw.normal((windows, width), torch.float32)
    weight = draw.uniform((width,), 0.5, 1.5)
    positions = draw.integers((windows,), 0, 64, torch.int32)
    slots = torch.arange(windows, dtype=torch.int32, device=pooled.device) * 2
    if windows > 1 and not slots.is_meta:
        slots[0] = -1
    return pooled, weight, drawn_rope_table(_THETA, _YARN, pooled.device), positions, slots


@triton.jit
def load_entries(
    pooled_ptr, weight_ptr, table_ptr, positions_ptr, slots_ptr, windows, eps,
    ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """(entries fp32 [ROWS, WIDTH], normalised and rotated; slots int64 [ROWS], -1 past the last window)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < windows
    col = tl.arange(0, WIDTH)
    slot = tl.load(slots_ptr + row, mask=inside, other=-1).to(tl.int64)
    position = tl.load(positions_ptr + row, mask=inside, other=0)
    x = tl.load(pooled_ptr + row[:, None] * WIDTH + col[None, :], mask=inside[:, None], other=0.0)
    x = x.to(tl.bfloat16).to(tl.float32)
    x *= (1.0 / tl.sqrt(tl.sum(x * x, axis=1) / WIDTH + eps))[:, None] * tl.load(weight_ptr + col)[None, :]
    cos, sin = load_rotation(table_ptr, position, ROWS, WIDTH, False)
    return rotate(x, cos, sin, ROWS, WIDTH), slot


def reference_entries(pooled: Tensor, weight: Tensor, table: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Entries before and after the rotation, float64 [windows, width]."""
    x = pooled.to(torch.bfloat16).double()
    x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPS) * weight.double()
    return x, reference_rope(x, table[positions.long()])


def require_entries(
    name: str, width: int, pooled: Tensor, weight: Tensor, table: Tensor, positions: Tensor, slots: Tensor
) -> int:
    """Number of windows. Raises UsageError."""
    require(name, pooled=(pooled, torch.float32, (None, width)))
    windows = pooled.shape[0]
    require(
        name,
        pooled=(pooled, pooled.dtype, pooled.shape),
        weight=(weight, torch.float32, (width,)),
        slots=(slots, torch.int32, (windows,)),
    )
    require_rotation(name, pooled, table, positions, windows)
    return windows


def entry_reject(width: int, dtype: str, config: Config, device: Device) -> str | None:
    """Reason why rows of `width` columns do not suit the config, or FP8 of `dtype` the device; or None."""
    return row_reject(config.size("ROWS"), width, config, device, 64) or fp8_reject(dtype, device)


def entry_work(problem: Problem, windows: int, width: int, config: Config, *, flops: int, stored_bytes: int) -> Work:
    """Work of entries of `width`: `flops` a column, 4 B read and `stored_bytes` written a column, and a rotation."""
    row_bytes = (4 + stored_bytes) * width + 4 * ROPE_DIM
    return row_work(problem, windows, config, flops=flops * width, row_bytes=row_bytes, program_bytes=4 * width)
