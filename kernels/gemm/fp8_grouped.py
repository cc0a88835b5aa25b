"""Y[:, g] = X[:, g] W[g]ᵀ in FP8 with 1x128 and 128x128 block scales: the grouped output projection (K16).

Scales are fp32 or e8m0, and applied as in `gemm/fp8_block_scaled`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.arch import Accumulation
from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._problem import multiple_of
from autotune.kernels._quant import bytes_of_scale, fp8_name, is_e8m0, scale_bytes, scale_powers
from autotune.kernels._truncation import truncation
from autotune.kernels.gemm._scales import (
    GROUP,
    add_scaled_product,
    draw_scales,
    fp8_group_reject,
    fp8_operands,
    has_native_scaling,
    native_scaling,
    require_scales,
)
from autotune.kernels.gemm._tiles import (
    SCALED_ROWS,
    GroupedProduct,
    add_parts,
    fewest_fp8_rows,
    grouped_work,
    load_rows,
    split_buffers,
    split_for,
    store_tile,
)

SPLITS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Problem(GroupedProduct):
    """`dtype` is e4m3fn, or e4m3fnuz on CDNA3; `ue8m0`: scales are e8m0, else fp32."""

    dtype: str = "e4m3fn"
    ue8m0: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple_of(self, k=GROUP)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        groups, n, k = args.w.shape
        return cls(args.x.shape[0], groups, n, k, fp8_name(args.x.dtype), is_e8m0(args.w_scale.dtype))

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        blocks = self.k // GROUP
        return (
            draw.normal((self.m, self.groups, self.k), FP8[self.dtype]),
            draw_scales(draw, (self.m, self.groups, blocks), self.ue8m0),
            draw.normal((self.groups, self.n, self.k), FP8[self.dtype]),
            draw_scales(draw, (self.groups, triton.cdiv(self.n, GROUP), blocks), self.ue8m0),
        )

    @property
    def bytes_moved(self) -> int:
        scales = bytes_of_scale(self.ue8m0) * self.m * self.k // GROUP
        return self.groups * ((self.m + self.n) * self.k + 2 * self.m * self.n + scales)


@triton.jit(do_not_specialize=["m"])
def _grouped(
    x_ptr, x_scale_ptr, w_ptr, w_scale_ptr, out_ptr, partial_ptr, ticket_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT_K: tl.constexpr,
    COPIES_IN_REGISTERS: tl.constexpr, NATIVE_SCALING: tl.constexpr = False, MASKS_ROWS: tl.constexpr = False,
):  # fmt: skip
    tiles_m = tl.cdiv(m, BLOCK_M)
    group, groups = tl.program_id(1), tl.num_programs(1)
    split = tl.program_id(2)
    offs_m = tl.program_id(0) % tiles_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(0) // tiles_m * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.where(offs_m < m, offs_m, 0).to(tl.int64) * groups + group
    column = group.to(tl.int64) * n + tl.where(offs_n < n, offs_n, 0)
    blocks = k // 128
    w_scales = w_scale_ptr + group * tl.cdiv(n, 128) * blocks
    if MASKS_ROWS:
        row = offs_m.to(tl.int64) * groups + group
    x_scale_rows = x_scale_ptr + row * blocks
    w_scale_rows = w_scales + tl.where(offs_n < n, offs_n, 0) // 128 * blocks
    w_scale_tile = w_scales + tl.program_id(0) // tiles_m * BLOCK_N // 128 * blocks
    offs_k = tl.arange(0, BLOCK_K)
    steps = tl.cdiv(k // BLOCK_K, SPLIT_K)
    first = split * steps
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(first, min(first + steps, k // BLOCK_K)):
        a_inside = None
        if MASKS_ROWS:
            a_inside = offs_m < m
            x = load_rows(x_ptr + group * k, offs_m * groups, a_inside, step * BLOCK_K + offs_k, k)
            w = tl.trans(load_rows(w_ptr + group.to(tl.int64) * n * k, offs_n, offs_n < n, step * BLOCK_K + offs_k, k))
        else:
            x = tl.load(x_ptr + row[:, None] * k + (step * BLOCK_K + offs_k)[None, :])
            w = tl.load(w_ptr + column[None, :] * k + (step * BLOCK_K + offs_k)[:, None])
        acc = add_scaled_product(
            acc, x, w, x_scale_rows, w_scale_rows, w_scale_tile, step * BLOCK_K,
            NATIVE_SCALING, COPIES_IN_REGISTERS, a_inside,
        )  # fmt: skip
    offs = (offs_m.to(tl.int64) * groups + group)[:, None] * n + offs_n[None, :]
    inside = (offs_m < m)[:, None] & (offs_n < n)[None, :]
    ticket = None if ticket_ptr is None else ticket_ptr + tl.program_id(0) * groups + group
    store_tile(acc, out_ptr, partial_ptr, ticket, offs, inside, m.to(tl.int64) * groups * n, split, SPLIT_K)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide_x = args.x.double() * scale_powers(args.x_scale).repeat_interleave(GROUP, 2)
    by_row = scale_powers(args.w_scale).repeat_interleave(GROUP, 1)[:, : problem.n]
    wide_w = args.w.double() * by_row.repeat_interleave(GROUP, 2)
    value = torch.einsum("mgk,gnk->mgn", wide_x, wide_w)
    magnitude = torch.einsum("mgk,gnk->mgn", wide_x.abs(), wide_w.abs())
    # k products added in fp32 in any order (Higham 2002, §4.2), two roundings for fp32 scales, half an ulp of bf16.
    bound = (problem.k + 2) * 2.0**-24 * magnitude + 2.0**-8 * value.abs()

    def cut(sums: Accumulation, independent: bool) -> Tensor:
        return truncation(wide_x.transpose(0, 1), wide_w, GROUP, sums, independent).transpose(0, 1)

    return (Expected("y", value, bound, cut),)


def _default(problem: Problem, device: Device) -> Config:
    native = problem.ue8m0 and has_native_scaling(device)
    block_m = fewest_fp8_rows(device) if problem.m <= 16 else 64 if problem.m <= 64 else 128
    if native and device.architecture.group_mma:
        block_m = SCALED_ROWS
    block_n, block_k = (64, 128) if problem.m <= 64 else (128, 128)
    tiles = triton.cdiv(problem.m, block_m) * triton.cdiv(problem.n, block_n) * problem.groups
    split = split_for(tiles, triton.cdiv(problem.k, block_k), device, SPLITS)
    shared = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "SPLIT_K": split}
    warps = 4 if block_m <= 64 else 8
    return matrix_config({**shared, **native_scaling(native, device), "num_warps": warps}, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return grouped_work(problem, config, device, 1, fp8_operands(config), problem.bytes_moved)


@tunable(Problem, jit=_grouped, reference=_reference, default=_default, reject=fp8_group_reject, work=_work)
def fp8_grouped(x: Tensor, x_scale: Tensor, w: Tensor, w_scale: Tensor, *, config: Config, device: Device) -> Tensor:
    """x FP8 [m, groups, k], w FP8 [groups, n, k] -> bf16 [m, groups, n].

    x_scale [m, groups, k / 128] and w_scale [groups, ceil(n / 128), k / 128], both fp32 or both e8m0 bytes, as
    torch.float8_e8m0fnu or uint8. NaN or any bits in a row of x
    reach its own row of y only. No rows are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    require("fp8_grouped", x=(x, tuple(FP8.values()), (None, None, None)))
    m, groups, k = x.shape
    if k % GROUP:
        raise UsageError(f"fp8_grouped: x must have k a multiple of {GROUP}, got {k}; pad both operands")
    require("fp8_grouped", home=x, w=(w, x.dtype, (groups, None, k)))
    n, split = w.shape[1], config.size("SPLIT_K")
    shapes = (m, groups, k // GROUP), (groups, triton.cdiv(n, GROUP), k // GROUP)
    require_scales("fp8_grouped", x, x_scale=(x_scale, shapes[0]), w_scale=(w_scale, shapes[1]))
    y = torch.empty((m, groups, n), dtype=torch.bfloat16, device=x.device)
    tiles = triton.cdiv(m, config.size("BLOCK_M")) * triton.cdiv(n, config.size("BLOCK_N"))
    parts = split_buffers(y, split, tiles * groups, device)
    launch(_grouped, (tiles, groups, split))(
        x, scale_bytes(x_scale), w, scale_bytes(w_scale), y, *parts, m, n, k,
        COPIES_IN_REGISTERS=not device.is_amd, MASKS_ROWS=not device.architecture.is_gpu, **options(config),
    )  # fmt: skip
    add_parts(y, *parts)
    return y
