"""C = A Wᵀ with MXFP8 activations and MXFP4 weights, groups of 32 with e8m0 scales: dense layers in FP4 (K20).

Where the arch multiplies FP8 by FP4 in one instruction `tl.dot_scaled` does; elsewhere both are widened to bf16, which
holds every scaled value of either exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._quant import decode_e8m0, decode_fp4, e8m0_broadcast, fp4_decode, fp8_name
from autotune.kernels._rows import fp8_reject
from autotune.kernels._split import split_work
from autotune.kernels.gemm._tiles import (
    SCALED_ROWS,
    Fp8Product,
    add_parts,
    split_buffers,
    split_for,
    store_tile,
    tile_reject,
    with_widening,
)

GROUP = 32
SPLITS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Problem(Fp8Product):
    GROUP = GROUP

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.a.shape[0], args.w.shape[0], args.a.shape[1], fp8_name(args.a.dtype))

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        return (
            draw.normal((self.m, self.k), FP8[self.dtype]),
            draw.integers((self.m, self.k // GROUP), 122, 128, torch.uint8),
            draw.integers((self.n, self.k // 2), 0, 256, torch.uint8),
            draw.integers((self.n, self.k // GROUP), 122, 128, torch.uint8),
        )

    @property
    def bytes_moved(self) -> int:
        return (self.m + self.n // 2) * self.k + (self.m + self.n) * self.k // GROUP + 2 * self.m * self.n


@triton.jit(do_not_specialize=["m"])
def _gemm(
    a_ptr, a_scale_ptr, w_ptr, w_scale_ptr, out_ptr, partial_ptr, ticket_ptr, m, n, k, NATIVE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT_K: tl.constexpr,
):  # fmt: skip
    tiles_m = tl.cdiv(m, BLOCK_M)
    split = tl.program_id(1)
    offs_m = tl.program_id(0) % tiles_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(0) // tiles_m * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.where(offs_m < m, offs_m, 0).to(tl.int64)
    column = tl.where(offs_n < n, offs_n, 0).to(tl.int64)
    steps = tl.cdiv(tl.cdiv(k, BLOCK_K), SPLIT_K)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(split * steps, split * steps + steps):
        offs_k = step * BLOCK_K + tl.arange(0, BLOCK_K)
        a = tl.load(a_ptr + row[:, None] * k + offs_k[None, :], mask=(offs_k < k)[None, :], other=0.0)
        s = step * (BLOCK_K // 32) + tl.arange(0, BLOCK_K // 32)
        in_scales = (s < k // 32)[None, :]
        a_scale = tl.load(a_scale_ptr + row[:, None] * (k // 32) + s[None, :], mask=in_scales, other=0)
        w_scale = tl.load(w_scale_ptr + column[:, None] * (k // 32) + s[None, :], mask=in_scales, other=0)
        p = step * (BLOCK_K // 2) + tl.arange(0, BLOCK_K // 2)
        in_bytes = p < k // 2
        if NATIVE:
            w = tl.load(w_ptr + column[None, :] * (k // 2) + p[:, None], mask=in_bytes[:, None], other=0)
            acc = tl.dot_scaled(a, a_scale, "e4m3", w, w_scale, "e2m1", acc)
        else:
            w = tl.load(w_ptr + column[:, None] * (k // 2) + p[None, :], mask=in_bytes[None, :], other=0)
            wide_w = (fp4_decode(w, BLOCK_N, BLOCK_K) * e8m0_broadcast(w_scale, BLOCK_N, BLOCK_K)).to(tl.bfloat16)
            wide_a = (a.to(tl.float32) * e8m0_broadcast(a_scale, BLOCK_M, BLOCK_K)).to(tl.bfloat16)
            acc = tl.dot(wide_a, tl.trans(wide_w), acc)
    offs = offs_m.to(tl.int64)[:, None] * n + offs_n[None, :]
    inside = (offs_m < m)[:, None] & (offs_n < n)[None, :]
    ticket = None if ticket_ptr is None else ticket_ptr + tl.program_id(0)
    store_tile(acc, out_ptr, partial_ptr, ticket, offs, inside, m.to(tl.int64) * n, split, SPLIT_K)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide_a = args.a.double() * decode_e8m0(args.a_scale)
    wide_w = decode_fp4(args.w) * decode_e8m0(args.w_scale)
    value = wide_a @ wide_w.T
    # Products are exact in fp32; k of them added in any order, then half an ulp of bf16 (Higham 2002, §4.2).
    bound = problem.k * 2.0**-24 * (wide_a.abs() @ wide_w.abs().T) + 2.0**-8 * value.abs()
    return (Expected("c", value, bound),)


def _default(problem: Problem, device: Device) -> Config:
    # tcgen05 block-scaled matrix instructions have 128 rows: smaller tiles fall back to bf16 there.
    fewest = SCALED_ROWS if device.has_native_fp4 and not device.is_amd else 16
    block_m = max(fewest, 16 if problem.m <= 16 else 64)
    tiles = triton.cdiv(problem.m, block_m) * triton.cdiv(problem.n, 64)
    split = split_for(tiles, triton.cdiv(problem.k, 128), device, SPLITS)
    # Widening on sm_90 spills 24 B a thread with two stages, nothing with three.
    stages = 2 if device.is_amd or device.has_native_fp4 else 3
    tile = {"BLOCK_M": block_m, "BLOCK_N": 64, "BLOCK_K": 128, "SPLIT_K": split}
    return matrix_config({**tile, "num_warps": 4, "num_stages": stages}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    widest = max(config.size("BLOCK_M"), config.size("BLOCK_N"))
    stage_bytes = widest * config.size("BLOCK_K") * (1.5 if device.has_native_fp4 else 4)
    return tile_reject(config, device, problem.k, stage_bytes) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    m, n, block_n, split = problem.m, problem.n, config.size("BLOCK_N"), config.size("SPLIT_K")
    rows, out_bytes = min(config.size("BLOCK_M"), m), 2 if split == 1 else 4
    # A byte and half a byte, each with an e8m0 scale a group.
    widths, native = (1 + 1 / GROUP, 1 / 2 + 1 / GROUP), device.has_native_fp4
    work = split_work(
        m,
        n,
        problem.k,
        config,
        device,
        depth_bytes=widths[0] * rows + widths[1] * block_n,
        tile_bytes=out_bytes * rows * min(block_n, n),
        unique_bytes=problem.bytes_moved,
        dtype="fp8_tensor" if native else "bf16",  # scaled by the instruction itself, or widened
    )
    return with_widening(replace(work, loaded_bytes=widths), config, device, problem.k / split)


@tunable(Problem, jit=_gemm, reference=_reference, default=_default, reject=_reject, work=_work)
def mxfp8_mxfp4(a: Tensor, a_scale: Tensor, w: Tensor, w_scale: Tensor, *, config: Config, device: Device) -> Tensor:
    """a FP8 [m, k], w packed e2m1 uint8 [n, k / 2] -> bf16 [m, n]; scales e8m0 uint8 [m, k / 32] and [n, k / 32].

    NaN or any bits in a row of a reach its own row of c only; a scale of 255 leaves nothing finite. No rows are no
    launch. Raises UsageError for other dtypes, shapes or strides.
    """
    require("mxfp8_mxfp4", a=(a, tuple(FP8.values()), (None, None)), w=(w, torch.uint8, (None, None)))
    (m, k), n, split = a.shape, w.shape[0], config.size("SPLIT_K")
    if k % GROUP:
        raise UsageError(f"mxfp8_mxfp4: a must have a multiple of {GROUP} columns, got {k}; pad both operands")
    require(
        "mxfp8_mxfp4",
        a=(a, a.dtype, (m, k)),
        a_scale=(a_scale, torch.uint8, (m, k // GROUP)),
        w=(w, torch.uint8, (n, k // 2)),
        w_scale=(w_scale, torch.uint8, (n, k // GROUP)),
    )
    c = torch.empty((m, n), dtype=torch.bfloat16, device=a.device)
    tiles = triton.cdiv(m, config.size("BLOCK_M")) * triton.cdiv(n, config.size("BLOCK_N"))
    parts = split_buffers(c, split, tiles, device)
    launch(_gemm, (tiles, split))(
        a, a_scale, w, w_scale, c, *parts, m, n, k,
        NATIVE=device.has_native_fp4, **options(config),
    )  # fmt: skip
    add_parts(c, *parts)
    return c
