"""Microscaling quantisation: groups of 32 with an e8m0 scale, to FP8 or packed FP4, perhaps Hadamard first (K5, K10).

The transform mixes each 128 columns, so that an outlier is spread before FP4 has to hold it.
"""

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
from autotune.kernels._problem import Rows, multiple_of
from autotune.kernels._quant import (
    FP8_MAX,
    decode_e8m0,
    decode_fp4,
    e8m0_exponents,
    expect_mx,
    fp4_encode,
    hadamard,
    hadamard_matrix,
    mx_groups,
)
from autotune.kernels._rows import block_reject, block_work, fp8_reject, row_config


@dataclass(frozen=True)
class Problem(Rows):
    """`fp4`: e2m1, else FP8 of `dtype`."""

    cols: int
    fp4: bool = False
    hadamard: bool = False
    dtype: str = "e4m3fn"

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple_of(self, cols=128)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.x.shape[1], args.fp4, args.hadamard, args.dtype)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | bool | str, ...]:
        x = Draw(seed, device).normal((self.rows, self.cols), torch.bfloat16)
        return x, self.fp4, self.hadamard, self.dtype

    @property
    def flops(self) -> int:
        return (17 if self.hadamard else 3) * self.rows * self.cols

    @property
    def bytes_moved(self) -> int:
        elements = self.rows * self.cols
        return 2 * elements + elements // (2 if self.fp4 else 1) + elements // 32


@triton.jit(do_not_specialize=["rows"])
def _quantise(
    q_ptr, scale_ptr, x_ptr, rows, cols,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, FP4: tl.constexpr, HADAMARD: tl.constexpr, MAX: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    first = tl.program_id(1) * BLOCK
    col = first + tl.arange(0, BLOCK)
    in_rows = (row < rows)[:, None]
    mask = in_rows & (col < cols)[None, :]
    x = tl.load(x_ptr + row[:, None] * cols + col[None, :], mask=mask, other=0.0).to(tl.float32)
    if HADAMARD:
        x = tl.reshape(hadamard(tl.reshape(x, (ROWS * BLOCK // 128, 128)), ROWS * BLOCK // 128, 128), (ROWS, BLOCK))
        x = (x * 0.08838834764831845).to(tl.bfloat16).to(tl.float32)
    y, scale = mx_groups(x, ROWS, BLOCK, MAX)
    if FP4:
        half = first // 2 + tl.arange(0, BLOCK // 2)
        packed_mask = in_rows & (half < cols // 2)[None, :]
        tl.store(q_ptr + row[:, None] * (cols // 2) + half[None, :], fp4_encode(y, ROWS, BLOCK), mask=packed_mask)
    else:
        tl.store(q_ptr + row[:, None] * cols + col[None, :], y.to(q_ptr.dtype.element_ty), mask=mask)
    group = first // 32 + tl.arange(0, BLOCK // 32)
    inside = in_rows & (group < cols // 32)[None, :]
    tl.store(scale_ptr + row[:, None] * (cols // 32) + group[None, :], scale, mask=inside)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    y, error = args.x.double(), args.x.double().abs() * 2.0**-22
    if args.hadamard:
        groups = y.unflatten(1, (-1, 128))
        y = (groups @ hadamard_matrix(128, groups.device) * 128**-0.5).flatten(1)
        # Seven levels of sums in fp32 and one product, then bf16.
        magnitude = groups.abs().sum(2, keepdim=True).expand_as(groups).flatten(1) * 128**-0.5
        error = 8 * 2.0**-24 * magnitude + 2.0**-8 * y.abs()
    return expect_mx("q * scale", y, error, "e2m1" if args.fp4 else args.dtype)


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, scale = outputs
    value = (decode_fp4(q) if problem.fp4 else q.double()) * decode_e8m0(scale)
    return value, e8m0_exponents(scale)


def _default(problem: Problem, device: Device) -> Config:
    block = min(triton.next_power_of_2(problem.cols), 1024)
    # Fewer than 8 values a thread: packing FP4 goes through local memory on NVIDIA.
    return row_config({"ROWS": max(1, 256 // block), "BLOCK": block, "num_warps": max(1, min(4, block // 256))}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return block_reject(problem.cols, config, device, 64) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    flops = 17 if problem.hadamard else 3
    element_bytes = problem.bytes_moved / (problem.rows * problem.cols)
    return block_work(problem, problem.rows, problem.cols, config, flops=flops, element_bytes=element_bytes)


@tunable(Problem, jit=_quantise, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def mx_quant(
    x: Tensor, fp4: bool = False, hadamard: bool = False, dtype: str = "e4m3fn", *, config: Config, device: Device
) -> tuple[Tensor, Tensor]:
    """x bf16 [rows, cols] -> (FP8 [rows, cols] or e2m1 uint8 [rows, cols / 2], e8m0 uint8 [rows, cols / 32]).

    A group that holds NaN or an infinity has the scale 255, which is NaN; with the transform, all groups of its 128
    columns. No rows are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    require("mx_quant", x=(x, torch.bfloat16, (None, None)))
    rows, cols = x.shape
    if cols % 128 or dtype not in FP8:
        raise UsageError(
            f"mx_quant: x must have a multiple of 128 columns, dtype be one of {', '.join(FP8)}; got {cols}, {dtype!r}"
        )
    width, kind = (cols // 2, torch.uint8) if fp4 else (cols, FP8[dtype])
    q = torch.empty((rows, width), dtype=kind, device=x.device)
    scale = torch.empty((rows, cols // 32), dtype=torch.uint8, device=x.device)
    grid = (triton.cdiv(rows, config.size("ROWS")), triton.cdiv(cols, config.size("BLOCK")))
    most = 6.0 if fp4 else FP8_MAX[dtype]
    launch(_quantise, grid)(q, scale, x, rows, cols, FP4=fp4, HADAMARD=hadamard, MAX=most, **options(config))
    return q, scale
