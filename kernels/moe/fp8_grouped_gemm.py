"""Routed experts in FP8 with 1x128 and 128x128 block scales: V3.2's (K20).

Slots are sorted by expert and padded to BLOCK_M, as in `moe/mxfp4_grouped_gemm`. Scales are fp32 or e8m0, and applied
as in `gemm/fp8_block_scaled`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.arch import Accumulation
from autotune.config import Config
from autotune.device import Device
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
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
from autotune.kernels.gemm._tiles import SCALED_ROWS, fewest_fp8_rows
from autotune.kernels.moe._align import aligned, store_zeros
from autotune.kernels.moe._grouped import Fp8Slots, check_rows, grouped_work


@dataclass(frozen=True)
class Problem(Fp8Slots):
    """`ue8m0`: scales are e8m0, else fp32."""

    GROUP = GROUP
    ue8m0: bool = False

    @classmethod
    def of(cls, args: Arguments) -> Self:
        (tokens, topk), (experts, n, _) = args.expert_ids.shape, args.w.shape
        sizes = tokens, topk, experts, n, args.a.shape[1]
        dtype, ue8m0 = fp8_name(args.a.dtype), is_e8m0(args.w_scale.dtype)
        return cls(*sizes, gathers=args.a.shape[0] == tokens, dtype=dtype, ue8m0=ue8m0)

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        ids = self.draw_ids(draw)
        blocks = self.k // GROUP
        return (
            draw.normal((self.rows, self.k), FP8[self.dtype]),
            draw_scales(draw, (self.rows, blocks), self.ue8m0),
            draw.normal((self.experts, self.n, self.k), FP8[self.dtype]),
            draw_scales(draw, (self.experts, triton.cdiv(self.n, GROUP), blocks), self.ue8m0),
            ids,
        )

    @property
    def row_width(self) -> float:
        """Bytes of an element of A, its part of a scale included."""
        return 1 + bytes_of_scale(self.ue8m0) / GROUP

    @property
    def bytes_moved(self) -> int:
        weights = self.experts_touched * self.n * self.k
        return int(weights + self.rows * self.k * self.row_width + 2 * self.slots * self.n)


@triton.jit(do_not_specialize=["slots"])
def _grouped_gemm(
    a_ptr, a_scale_ptr, w_ptr, w_scale_ptr, out_ptr, sorted_ptr, block_expert_ptr, slots, n, k,
    TOPK: tl.constexpr, GATHERS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    COPIES_IN_REGISTERS: tl.constexpr, NATIVE_SCALING: tl.constexpr = False,
):  # fmt: skip
    tiles_n = tl.cdiv(n, BLOCK_N)
    block = tl.program_id(0) // tiles_n
    expert = tl.load(block_expert_ptr + block)
    # The grid is the worst case over all routings, so that a CUDA graph can replay it.
    if expert >= 0:
        slot = tl.load(sorted_ptr + block * BLOCK_M + tl.arange(0, BLOCK_M))
        used = slot < slots
        row = tl.where(used, slot // TOPK if GATHERS else slot, 0).to(tl.int64)
        offs_n = tl.program_id(0) % tiles_n * BLOCK_N + tl.arange(0, BLOCK_N)
        in_n = tl.where(offs_n < n, offs_n, 0)
        w_row = expert.to(tl.int64) * n + in_n
        blocks = k // 128
        w_scales = w_scale_ptr + expert * tl.cdiv(n, 128) * blocks
        a_scale_rows = a_scale_ptr + row * blocks
        w_scale_rows = w_scales + in_n // 128 * blocks
        w_scale_tile = w_scales + tl.program_id(0) % tiles_n * BLOCK_N // 128 * blocks
        offs_k = tl.arange(0, BLOCK_K)
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for start in range(0, k, BLOCK_K):
            a = tl.load(a_ptr + row[:, None] * k + (start + offs_k)[None, :])
            w = tl.load(w_ptr + w_row[None, :] * k + (start + offs_k)[:, None])
            acc = add_scaled_product(
                acc, a, w, a_scale_rows, w_scale_rows, w_scale_tile, start, NATIVE_SCALING, COPIES_IN_REGISTERS
            )
        out_ptrs = out_ptr + slot.to(tl.int64)[:, None] * n + offs_n[None, :]
        tl.store(out_ptrs, acc.to(tl.bfloat16), mask=used[:, None] & (offs_n < n)[None, :])
    else:
        store_zeros(out_ptr, sorted_ptr, block, tl.program_id(0) % tiles_n, slots, n, BLOCK_M, BLOCK_N)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide_a = args.a.double() * scale_powers(args.a_scale).repeat_interleave(GROUP, 1)

    def wide_w(expert: int) -> Tensor:
        by_row = scale_powers(args.w_scale[expert]).repeat_interleave(GROUP, 0)[: problem.n]
        return args.w[expert].double() * by_row.repeat_interleave(GROUP, 1)

    value, magnitude = problem.product(wide_a, wide_w, args.expert_ids)
    # k products added in fp32 in any order (Higham 2002, §4.2), two roundings for fp32 scales, half an ulp of bf16.
    bound = (problem.k + 2) * 2.0**-24 * magnitude + 2.0**-8 * value.abs()

    def cut(sums: Accumulation, independent: bool) -> Tensor:
        return problem.by_expert(
            wide_a, wide_w, args.expert_ids, lambda rows, weights: truncation(rows, weights, GROUP, sums, independent)
        )

    return (Expected("out", value, bound, cut),)


def _default(problem: Problem, device: Device) -> Config:
    block_m = fewest_fp8_rows(device) if problem.rows_an_expert <= 16 else 64
    native = problem.ue8m0 and has_native_scaling(device)
    if native and device.architecture.group_mma:
        block_m = SCALED_ROWS
    tile = {"BLOCK_M": block_m, "BLOCK_N": 128, "BLOCK_K": 128, **native_scaling(native, device)}
    config = matrix_config({**tile, "num_warps": 4 if block_m <= 64 else 8}, device)
    # Two stages do not fit 64 KiB.
    fits = not device.is_amd or device.shared_bytes_per_block > 65536
    return config if fits else Config(config, num_stages=1)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return grouped_work(problem, config, problem.bytes_moved, (problem.row_width, 1.0), fp8_operands(config))


@tunable(Problem, jit=_grouped_gemm, reference=_reference, default=_default, reject=fp8_group_reject, work=_work)
def fp8_grouped_gemm(
    a: Tensor,
    a_scale: Tensor,
    w: Tensor,
    w_scale: Tensor,
    expert_ids: Tensor,
    alignment: tuple[Tensor, Tensor] | None = None,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """[tokens * topk, n] bf16 from FP8 a [tokens or tokens * topk, k] and FP8 w [experts, n, k].

    a_scale [rows, k / 128] and w_scale [experts, ceil(n / 128), k / 128], both fp32 or both e8m0 bytes, as
    torch.float8_e8m0fnu or uint8; expert_ids int32 [tokens, topk]. Rows whose id, any number, is no expert here are
    zeros; a row of NaN or of any bits changes no other row. `alignment` is what `moe/align` makes of expert_ids with
    block_m = BLOCK_M, where two GEMMs share it. No tokens are no launch. Raises UsageError for other dtypes, shapes or
    strides.
    """
    name = "fp8_grouped_gemm"
    require(name, a=(a, tuple(FP8.values()), (None, None)))
    require(name, home=a, w=(w, a.dtype, (None, None, a.shape[1])), expert_ids=(expert_ids, torch.int32, (None, None)))
    check_rows(name, a, expert_ids, GROUP)
    (tokens, topk), (experts, n, k) = expert_ids.shape, w.shape
    shapes = (a.shape[0], k // GROUP), (experts, triton.cdiv(n, GROUP), k // GROUP)
    require_scales(name, a, a_scale=(a_scale, shapes[0]), w_scale=(w_scale, shapes[1]))
    sorted_slots, block_expert = aligned(name, expert_ids, experts, config.size("BLOCK_M"), alignment)
    out = torch.empty((tokens * topk, n), dtype=torch.bfloat16, device=a.device)
    grid = (block_expert.shape[0] * triton.cdiv(n, config.size("BLOCK_N")),)
    launch(_grouped_gemm, grid)(
        a, scale_bytes(a_scale), w, scale_bytes(w_scale), out, sorted_slots, block_expert, tokens * topk, n, k,
        TOPK=topk, GATHERS=a.shape[0] == tokens, COPIES_IN_REGISTERS=not device.is_amd, **options(config),
    )  # fmt: skip
    return out
