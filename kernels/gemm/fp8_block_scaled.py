"""C = A Bᵀ in FP8 with block scales: 1x128 along K for activations, 128x128 for weights; fp32 inside, bf16 out.

Scales are fp32, or powers of two as e8m0 bytes. Where matrix instructions scale by blocks of 32 they take the latter
(NATIVE_SCALING): each 128 columns hand over their byte four times. Elsewhere each step's sums are scaled before they
are added (promotion).

Of the programs that share a tile by split-K the last to arrive adds the partials, in a fixed order: results repeat bit
for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Library, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._quant import bytes_of_scale, fp8_name, is_e8m0, scale_bytes, scale_powers
from autotune.kernels._split import launches_of_split, steps_of_split
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
    Fp8Product,
    add_parts,
    fewest_fp8_rows,
    load_rows,
    split_buffers,
    split_for,
    store_tile,
)


@dataclass(frozen=True)
class Problem(Fp8Product):
    """m tokens, weights [n, k]; `dtype` is e4m3fn, or e4m3fnuz on CDNA3; `ue8m0`: scales are e8m0, else fp32."""

    GROUP = GROUP
    ue8m0: bool = False

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        size = args.a.shape[0], args.b.shape[0], args.a.shape[1]
        return cls(*size, fp8_name(args.a.dtype), is_e8m0(args.b_scale.dtype))

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        blocks = self.k // GROUP
        return (
            draw.normal((self.m, self.k), FP8[self.dtype]),
            draw.normal((self.n, self.k), FP8[self.dtype]),
            draw_scales(draw, (self.m, blocks), self.ue8m0),
            draw_scales(draw, (triton.cdiv(self.n, GROUP), blocks), self.ue8m0),
        )

    @property
    def bytes_moved(self) -> int:
        scales = bytes_of_scale(self.ue8m0) * (self.m + triton.cdiv(self.n, GROUP)) * self.k // GROUP
        return self.m * self.k + self.n * self.k + 2 * self.m * self.n + scales


@triton.jit
def _tile(
    a_ptr, b_ptr, out_ptr, partial_ptr, ticket_ptr, a_scale_ptr, b_scale_ptr, tile, split, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr, SPLIT_K: tl.constexpr,
    NATIVE_SCALING: tl.constexpr, COPIES_IN_REGISTERS: tl.constexpr, MASKS_ROWS: tl.constexpr,
):  # fmt: skip
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    # Tiles of GROUP_M rows are walked column by column, so that co-resident programs share weights in L2.
    first_m = tile // (GROUP_M * tiles_n) * GROUP_M
    rows_here = min(tiles_m - first_m, GROUP_M)
    within = tile % (GROUP_M * tiles_n)
    offs_m = (first_m + within % rows_here) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = (within // rows_here) * BLOCK_N + tl.arange(0, BLOCK_N)
    offs_k = tl.arange(0, BLOCK_K)
    # Rows past the end read row 0 again: cheaper than a mask in the loop, and their results are never stored.
    row = offs_m.to(tl.int64) if MASKS_ROWS else tl.where(offs_m < m, offs_m, 0).to(tl.int64)
    column = tl.where(offs_n < n, offs_n, 0).to(tl.int64)
    blocks = k // 128
    a_scale_rows = a_scale_ptr + row * blocks
    b_scale_rows = b_scale_ptr + column // 128 * blocks
    b_scale_tile = b_scale_ptr + (within // rows_here) * BLOCK_N // 128 * blocks
    steps = tl.cdiv(k // BLOCK_K, SPLIT_K)
    first = split * steps
    a_ptrs = a_ptr + row[:, None] * k + (first * BLOCK_K + offs_k)[None, :]
    b_ptrs = b_ptr + column[None, :] * k + (first * BLOCK_K + offs_k)[:, None]
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(first, min(first + steps, k // BLOCK_K)):
        a_inside = None
        if MASKS_ROWS:
            a_inside = offs_m < m
            a = load_rows(a_ptr, offs_m, a_inside, step * BLOCK_K + offs_k, k)
            b = tl.trans(load_rows(b_ptr, offs_n, offs_n < n, step * BLOCK_K + offs_k, k))
        else:
            a = tl.load(a_ptrs)
            b = tl.load(b_ptrs)
        acc = add_scaled_product(
            acc, a, b, a_scale_rows, b_scale_rows, b_scale_tile, step * BLOCK_K,
            NATIVE_SCALING, COPIES_IN_REGISTERS, a_inside,
        )  # fmt: skip
        a_ptrs += BLOCK_K
        b_ptrs += BLOCK_K
    offs = offs_m.to(tl.int64)[:, None] * n + offs_n[None, :]
    inside = (offs_m < m)[:, None] & (offs_n < n)[None, :]
    ticket = None if ticket_ptr is None else ticket_ptr + tile
    store_tile(acc, out_ptr, partial_ptr, ticket, offs, inside, m.to(tl.int64) * n, split, SPLIT_K)


@triton.jit(do_not_specialize=["m"])
def _gemm(
    a_ptr, b_ptr, out_ptr, partial_ptr, ticket_ptr, a_scale_ptr, b_scale_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr,
    SPLIT_K: tl.constexpr, PERSISTENT: tl.constexpr, COPIES_IN_REGISTERS: tl.constexpr,
    NATIVE_SCALING: tl.constexpr = False, MASKS_ROWS: tl.constexpr = False,
):  # fmt: skip
    first, split = tl.program_id(0), tl.program_id(1)
    if PERSISTENT:
        tiles = tl.cdiv(m, BLOCK_M) * tl.cdiv(n, BLOCK_N)
        for tile in range(first, tiles, tl.num_programs(0)):
            _tile(a_ptr, b_ptr, out_ptr, partial_ptr, ticket_ptr, a_scale_ptr, b_scale_ptr, tile, split, m, n, k,
                  BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M, SPLIT_K,
                  NATIVE_SCALING, COPIES_IN_REGISTERS, MASKS_ROWS)  # fmt: skip
    else:
        _tile(a_ptr, b_ptr, out_ptr, partial_ptr, ticket_ptr, a_scale_ptr, b_scale_ptr, first, split, m, n, k,
              BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M, SPLIT_K,
              NATIVE_SCALING, COPIES_IN_REGISTERS, MASKS_ROWS)  # fmt: skip


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide_a = args.a.double() * scale_powers(args.a_scale).repeat_interleave(GROUP, 1)
    by_row = scale_powers(args.b_scale).repeat_interleave(GROUP, 0)[: problem.n]
    wide_b = args.b.double() * by_row.repeat_interleave(GROUP, 1)
    value = wide_a @ wide_b.T
    # k products added in fp32 in any order: (k-1) u relative to the sum of magnitudes (Higham 2002, §4.2),
    # two more roundings for the scales, none where those are powers of two, then half an ulp of bf16.
    magnitude = wide_a.abs() @ wide_b.abs().T
    bound = (problem.k + 2) * 2.0**-24 * magnitude + 2.0**-8 * value.abs()
    return (Expected("c", value, bound, partial(truncation, wide_a, wide_b, GROUP)),)


def _torch(problem: Problem, args: Arguments) -> Callable[[], Tensor] | None:
    """cuBLAS has these scales on sm_90 only, and in fp32. It wants those of A column by column and rows of B's padded
    to four (is_blockwise_128x128_scaling in PyTorch's ScaledBlas.cpp): made ahead, as an engine would keep them."""
    if problem.ue8m0:
        return None
    by_column = args.a_scale.T.contiguous().T
    padded = F.pad(args.b_scale, (0, -args.b_scale.shape[1] % 4))[:, : args.b_scale.shape[1]].T
    return lambda: torch._scaled_mm(args.a, args.b.T, by_column, padded, out_dtype=torch.bfloat16)


def _default(problem: Problem, device: Device) -> Config:
    native, small = problem.ue8m0 and has_native_scaling(device), problem.m <= 64
    block_m = fewest_fp8_rows(device) if problem.m <= 16 else 64 if small else 128
    if native and device.architecture.group_mma:
        block_m = SCALED_ROWS
    # The unified buffer of the 950, through which each step's sums pass, holds no wider tile of NPUs.
    block_n = 128 if device.architecture.is_gpu else 64
    tiles = triton.cdiv(problem.m, block_m) * triton.cdiv(problem.n, block_n)
    split = split_for(tiles, problem.k // GROUP, device, (1, 2, 4)) if small else 1
    tile = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": 128, "GROUP_M": 8, "SPLIT_K": split, "PERSISTENT": False}
    warps = 4 if block_m <= 64 else 8
    config = matrix_config({**tile, **native_scaling(native, device), "num_warps": warps}, device)
    # Two stages of a large tile do not fit 64 KiB.
    fits = small or not device.is_amd or device.shared_bytes_per_block > 65536
    return config if fits else Config(config, num_stages=1)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    block_n = config.size("BLOCK_N")
    if block_n > GROUP and block_n % GROUP:
        return f"BLOCK_N={block_n} must divide or be a multiple of the {GROUP}-column weight block"
    if config.size("SPLIT_K") > 1 and config["PERSISTENT"]:
        return "a persistent grid already fills the device: SPLIT_K must be 1"
    return fp8_group_reject(problem, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_m, block_n = config.size("BLOCK_M"), config.size("BLOCK_N")
    split = config.size("SPLIT_K")
    tiles = triton.cdiv(problem.m, block_m) * triton.cdiv(problem.n, block_n)
    depth, steps = problem.k / split, steps_of_split(problem.k, config)
    out_bytes = 2 if split == 1 else 4
    partials = 4 * problem.m * problem.n * split if split > 1 else 0
    return Work(
        programs=tiles * split,
        flops_per_program=2 * block_m * block_n * steps * config.size("BLOCK_K"),
        bytes_per_program=(min(block_m, problem.m) + block_n) * depth + out_bytes * block_m * block_n,
        unique_bytes=problem.bytes_moved,
        iterations=steps,
        dtype=fp8_operands(config),
        launches=launches_of_split(split, device),
        reduction_bytes=2 * partials,
    )


@tunable(
    Problem,
    jit=_gemm,
    reference=_reference,
    default=_default,
    reject=_reject,
    work=_work,
    library=Library("torch._scaled_mm", _torch),
)
def fp8_block_scaled(
    a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, *, config: Config, device: Device
) -> Tensor:
    """[m, k] x [n, k] FP8 -> [m, n] bf16; a_scale [m, k/128], b_scale [ceil(n/128), k/128], both fp32 or both e8m0.

    All contiguous. e8m0 scales are bytes, as torch.float8_e8m0fnu or uint8: DeepGEMM's int32 of four are refused. NaN
    or any bits in a row of a reach its own row of c only. No rows are no launch. Raises UsageError for anything else.
    """
    _check(a, b, a_scale, b_scale)
    (m, k), n = a.shape, b.shape[0]
    block_m, block_n, split = config.size("BLOCK_M"), config.size("BLOCK_N"), config.size("SPLIT_K")
    c = torch.empty((m, n), dtype=torch.bfloat16, device=a.device)
    tiles = triton.cdiv(m, block_m) * triton.cdiv(n, block_n)
    grid = (min(tiles, device.compute_units) if config["PERSISTENT"] else tiles, split)
    parts = split_buffers(c, split, tiles, device)
    launch(_gemm, grid)(
        a, b, c, *parts, scale_bytes(a_scale), scale_bytes(b_scale), m, n, k,
        COPIES_IN_REGISTERS=not device.is_amd, MASKS_ROWS=not device.architecture.is_gpu, **options(config),
    )  # fmt: skip
    add_parts(c, *parts)
    return c


def _check(a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor) -> None:
    require("fp8_block_scaled", a=(a, tuple(FP8.values()), (None, None)))
    (m, k), n = a.shape, b.shape[0]
    if k % GROUP:
        raise UsageError(f"fp8_block_scaled: k must be a multiple of {GROUP}, got {k}; pad both operands")
    require("fp8_block_scaled", home=a, b=(b, a.dtype, (n, k)))
    shapes = (m, k // GROUP), (triton.cdiv(n, GROUP), k // GROUP)
    require_scales("fp8_block_scaled", a, a_scale=(a_scale, shapes[0]), b_scale=(b_scale, shapes[1]))
