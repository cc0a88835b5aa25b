"""FP8 quantisation in groups along the row: 128 for GEMM operands, 64 for keys; scales fp32, or e8m0 bytes (K5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Rows, multiple_of, one_of
from autotune.kernels._quant import (
    AMAX_FLOOR,
    FP8_MAX,
    bytes_of_scale,
    decode_fp8,
    expect_fp8,
    fp8_groups,
    scale_dtype,
    stored_scales,
)
from autotune.kernels._rows import block_reject, block_work, fp8_reject, row_config

GROUPS = (64, 128)


@dataclass(frozen=True)
class Problem(Rows):
    cols: int
    group: int = 128
    ue8m0: bool = False
    dtype: str = "e4m3fn"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, group=GROUPS)
        multiple_of(self, cols=self.group)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.x.shape[1], args.group, args.ue8m0, args.dtype)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | bool | str, ...]:
        x = Draw(seed, device).normal((self.rows, self.cols), torch.bfloat16)
        return x, self.group, self.ue8m0, self.dtype

    @property
    def flops(self) -> int:
        return 3 * self.rows * self.cols

    @property
    def bytes_moved(self) -> int:
        return 3 * self.rows * self.cols + bytes_of_scale(self.ue8m0) * self.rows * self.cols // self.group


@triton.jit(do_not_specialize=["rows"])
def _quantise(
    q_ptr, scale_ptr, x_ptr, rows, cols, floor,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, FP8_MAX: tl.constexpr, UE8M0: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_rows = (row < rows)[:, None]
    mask = in_rows & (col < cols)[None, :]
    offs = row[:, None] * cols + col[None, :]
    x = tl.load(x_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    q, scale = fp8_groups(x, floor, ROWS, BLOCK, GROUP, FP8_MAX, UE8M0)
    tl.store(q_ptr + offs, q.to(q_ptr.dtype.element_ty), mask=mask)
    group = tl.program_id(1) * (BLOCK // GROUP) + tl.arange(0, BLOCK // GROUP)
    inside = in_rows & (group < cols // GROUP)[None, :]
    tl.store(scale_ptr + row[:, None] * (cols // GROUP) + group[None, :], stored_scales(scale, UE8M0), mask=inside)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    # The maximum is exact; dividing it and dividing by the scale round once each.
    return expect_fp8("q * scale", args.x.double(), 2.0**-22, args.group, args.dtype, args.ue8m0)


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, scale = outputs
    return decode_fp8(q, scale, problem.group)


def _default(problem: Problem, device: Device) -> Config:
    block = min(triton.next_power_of_2(problem.cols), 2048 if problem.rows > 64 else 1024)
    return row_config({"ROWS": 1, "BLOCK": block, "num_warps": max(1, min(4, block // 256))}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return block_reject(problem.cols, config, device) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    element_bytes = 3 + bytes_of_scale(problem.ue8m0) / problem.group
    return block_work(problem, problem.rows, problem.cols, config, flops=3, element_bytes=element_bytes)


@tunable(Problem, jit=_quantise, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def fp8_group_quant(
    x: Tensor, group: int = 128, ue8m0: bool = False, dtype: str = "e4m3fn", *, config: Config, device: Device
) -> tuple[Tensor, Tensor]:
    """x bf16 [rows, cols] -> (FP8 [rows, cols], scale fp32 [rows, cols / group]); group is 128 or 64. With `ue8m0`
    scales are powers of two, as e8m0 uint8.

    A group that holds NaN or an infinity has the scale NaN. No rows are no launch. Raises UsageError for other dtypes,
    shapes or strides.
    """
    require("fp8_group_quant", x=(x, torch.bfloat16, (None, None)))
    rows, cols = x.shape
    if group not in GROUPS or cols % group or dtype not in FP8:
        raise UsageError(
            f"fp8_group_quant: x must have whole groups of columns, group be 64 or 128, dtype one of {', '.join(FP8)}; "
            f"got {cols} columns, group {group}, dtype {dtype!r}"
        )
    q = torch.empty((rows, cols), dtype=FP8[dtype], device=x.device)
    scale = torch.empty((rows, cols // group), dtype=scale_dtype(ue8m0), device=x.device)
    grid = (triton.cdiv(rows, config.size("ROWS")), triton.cdiv(cols, config.size("BLOCK")))
    launch(_quantise, grid)(
        q, scale, x, rows, cols, AMAX_FLOOR, GROUP=group, FP8_MAX=FP8_MAX[dtype], UE8M0=ue8m0, **options(config)
    )
    return q, scale
