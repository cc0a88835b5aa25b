"""Block scales of FP8 by FP8: a row has one a group of 128 columns, weights one a block of 128 x 128.

Scales are fp32, or powers of two as e8m0 bytes (DeepSeek's ue8m0). Each step's sums are scaled in the lanes before they
are added, DeepSeek's promotion; or, with NATIVE_SCALING, by the matrix instruction, which wants e8m0 bytes.
"""

from __future__ import annotations

from typing import Protocol

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import Draw
from autotune.kernels._launch import require
from autotune.kernels._quant import E8M0, is_e8m0
from autotune.kernels._rows import fp8_reject
from autotune.kernels.gemm._tiles import SCALED_ROWS, tile_reject

GROUP = 128


class _Scaled(Protocol):
    """A problem whose products are summed over `k` columns."""

    @property
    def k(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def ue8m0(self) -> bool: ...


@triton.jit
def scale_values(stored):
    """Scales in fp32: as they are stored, or the powers of two of e8m0 bytes, among which 255 is NaN."""
    if stored.dtype == tl.uint8:
        power = (stored.to(tl.int32) << 23).to(tl.float32, bitcast=True)
        return tl.where(stored == 255, float("nan"), power)
    else:
        return stored


@triton.jit
def group_scales(row_ptrs, start, BLOCK_K: tl.constexpr, IN_REGISTERS: tl.constexpr):
    """e8m0 bytes [rows, BLOCK_K / 32] of the columns from `start` on, for `tl.dot_scaled`, which wants one for 32.

    `row_ptrs` [rows] are the first bytes of rows with one for 128 columns, of which each stands four times here. Copies
    in registers spare three loads of four: 146 instructions a step on sm_100 instead of 178 (tiles of 128, 8 warps).
    Triton 3.9 cannot compile them for AMD ("PassManager::run failed"), where loads of equal addresses are few.
    """
    if IN_REGISTERS:
        ROWS: tl.constexpr = row_ptrs.shape[0]
        GROUPS: tl.constexpr = (BLOCK_K + 127) // 128
        scale = tl.load(row_ptrs[:, None] + (start // 128 + tl.arange(0, GROUPS))[None, :])
        copies = tl.broadcast_to(scale[:, :, None], (ROWS, GROUPS, BLOCK_K // 32 // GROUPS))
        return tl.reshape(copies, (ROWS, BLOCK_K // 32))
    else:
        group = (start + tl.arange(0, BLOCK_K // 32) * 32) // 128
        return tl.load(row_ptrs[:, None] + group[None, :])


@triton.jit
def add_scaled_product(
    acc, a, b, a_rows, b_rows, b_tile_row, start,
    NATIVE_SCALING: tl.constexpr, COPIES_IN_REGISTERS: tl.constexpr, a_inside=None,
):  # fmt: skip
    """acc + a b for FP8 a [M, K] and b [K, N], whose columns of k begin at `start`; acc fp32 [M, N].

    `a_rows` [M] and `b_rows` [N] point to the first scale of each row; `b_tile_row` to that of the tile's first column
    of b, which serves all of a tile as narrow as a block of weights. `a_inside` [M], if not None, masks the scales of
    rows that are not clamped (the form of NPUs).
    """
    if NATIVE_SCALING:
        a_scale = group_scales(a_rows, start, a.shape[1], COPIES_IN_REGISTERS)
        b_scale = group_scales(b_rows, start, a.shape[1], COPIES_IN_REGISTERS)
        return tl.dot_scaled(a, a_scale, "e4m3", b, b_scale, "e4m3", acc)
    else:
        a_scale = scale_values(tl.load(a_rows + start // 128, mask=a_inside))
        if b.shape[1] <= 128:
            b_scale = scale_values(tl.load(b_tile_row + start // 128))
            return acc + tl.dot(a, b) * (a_scale * b_scale)[:, None]
        else:
            b_scale = scale_values(tl.load(b_rows + start // 128))
            return acc + tl.dot(a, b) * a_scale[:, None] * b_scale[None, :]


def require_scales(kernel: str, home: Tensor, **wanted: tuple[Tensor, tuple[int, ...]]) -> None:
    """Raise UsageError unless each tensor of scales has its shape, and all are fp32 or all are e8m0 bytes."""
    first = ""
    for name, (scale, shape) in wanted.items():
        require(kernel, home=home, **{name: (scale, (torch.float32, *E8M0), shape)})
        first = first or name
        if is_e8m0(scale.dtype) != is_e8m0(wanted[first][0].dtype):
            raise UsageError(
                f"{kernel}: {first} and {name} must both be fp32 or both e8m0 (torch.float8_e8m0fnu, or its bytes as "
                f"torch.uint8), got {wanted[first][0].dtype} and {scale.dtype}"
            )


def draw_scales(draw: Draw, shape: tuple[int, ...], ue8m0: bool) -> Tensor:
    """Scales from 0.01 to 0.1: fp32, or powers of two from 2^-7 to 2^-3 as e8m0 uint8."""
    return draw.integers(shape, 120, 125, torch.uint8) if ue8m0 else draw.uniform(shape, 0.01, 0.1)


def has_native_scaling(device: Device) -> bool:
    """True if one matrix instruction multiplies FP8 by FP8 and scales both: it does where FP8 by FP4 is native."""
    return device.has_native_fp4


def scales_natively(config: Config) -> bool:
    """True if the matrix instruction applies the scales. Search spaces of devices without such a one lack the name."""
    return bool(config.get("NATIVE_SCALING", False))


def native_scaling(wanted: bool, device: Device) -> dict[str, bool]:
    """NATIVE_SCALING of a default config, on devices whose search space has it."""
    return {"NATIVE_SCALING": wanted} if has_native_scaling(device) else {}


def fp8_operands(config: Config) -> str:
    """`Work.dtype` of FP8 by FP8: `fp8` where lanes scale each step's sums, `fp8_tensor` where the instruction does."""
    return "fp8_tensor" if scales_natively(config) else "fp8"


def fp8_group_reject(problem: _Scaled, config: Config, device: Device) -> str | None:
    """`tile_reject` of products of two FP8 operands, scaled by 128 columns."""
    block_k = config.size("BLOCK_K")
    if scales_natively(config):
        if (reason := _native_reject(problem, config, device)) is not None:
            return reason
    elif GROUP % block_k:
        return f"BLOCK_K={block_k} must divide the scale group of {GROUP}"
    stage_bytes = (config.size("BLOCK_M") + config.size("BLOCK_N")) * block_k
    return tile_reject(config, device, problem.k, stage_bytes) or fp8_reject(problem.dtype, device)


def _native_reject(problem: _Scaled, config: Config, device: Device) -> str | None:
    if not problem.ue8m0:
        return "NATIVE_SCALING takes e8m0 scales, and those of the problem are fp32"
    if not has_native_scaling(device):
        return f"NATIVE_SCALING: no matrix instruction of {device.name} scales FP8 by blocks"
    if device.architecture.group_mma and config.size("BLOCK_M") < SCALED_ROWS:
        return f"NATIVE_SCALING needs BLOCK_M={SCALED_ROWS}: Triton 3.9 widens tiles of fewer rows to fp16"
    if problem.k % config.size("BLOCK_K"):
        return f"BLOCK_K={config['BLOCK_K']} must divide k={problem.k}"
    return None
