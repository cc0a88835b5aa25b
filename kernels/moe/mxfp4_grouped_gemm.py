"""Routed experts: out[slot] = A[row(slot)] W[expert(slot)]ᵀ with FP4 weights and FP8 activations, 1x32 e8m0 scales.

A slot is one (token, choice) pair. Slots are sorted by expert and padded to BLOCK_M, which is therefore a joint
choice of the sort and the GEMM: the launcher does both. Where the arch multiplies FP8 by FP4 in one instruction
`tl.dot_scaled` does; elsewhere both are widened to bf16, which holds every scaled value of either exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._quant import decode_e8m0, decode_fp4, e8m0_broadcast, fp4_decode
from autotune.kernels._rows import fp8_reject
from autotune.kernels.gemm._tiles import SCALED_ROWS, tile_reject, with_widening
from autotune.kernels.moe._align import aligned, store_zeros
from autotune.kernels.moe._grouped import Fp8Slots, check_rows, grouped_work

GROUP = 32


@dataclass(frozen=True)
class Problem(Fp8Slots):
    GROUP = GROUP

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        ids = self.draw_ids(draw)
        return (
            draw.normal((self.rows, self.k), FP8[self.dtype]),
            draw.integers((self.rows, self.k // GROUP), 122, 128, torch.uint8),
            draw.integers((self.experts, self.n, self.k // 2), 0, 256, torch.uint8),
            draw.integers((self.experts, self.n, self.k // GROUP), 122, 128, torch.uint8),
            ids,
        )

    @property
    def bytes_moved(self) -> int:
        weights = self.experts_touched * self.n * self.k * (1 / 2 + 1 / GROUP)
        return int(weights + self.rows * self.k * (1 + 1 / GROUP) + 2 * self.slots * self.n)


@triton.jit(do_not_specialize=["slots"])
def _grouped_gemm(
    a_ptr, a_scale_ptr, w_ptr, w_scale_ptr, out_ptr, sorted_ptr, block_expert_ptr, slots, n, k,
    TOPK: tl.constexpr, GATHERS: tl.constexpr, NATIVE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
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
        # int64: 384 experts of 6144 x 3584 bytes are past 2^31.
        w_row = expert.to(tl.int64) * n + tl.where(offs_n < n, offs_n, 0)
        offs_k = tl.arange(0, BLOCK_K)
        offs_p = tl.arange(0, BLOCK_K // 2)
        offs_s = tl.arange(0, BLOCK_K // 32)
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for start in range(0, k, BLOCK_K):
            a = tl.load(a_ptr + row[:, None] * k + (start + offs_k)[None, :],
                        mask=(start + offs_k < k)[None, :], other=0.0)  # fmt: skip
            s = start // 32 + offs_s
            in_scales = (s < k // 32)[None, :]
            a_scale = tl.load(a_scale_ptr + row[:, None] * (k // 32) + s[None, :], mask=in_scales, other=0)
            w_scale = tl.load(w_scale_ptr + w_row[:, None] * (k // 32) + s[None, :], mask=in_scales, other=0)
            p = start // 2 + offs_p
            in_bytes = p < k // 2
            if NATIVE:
                w = tl.load(w_ptr + w_row[None, :] * (k // 2) + p[:, None], mask=in_bytes[:, None], other=0)
                acc = tl.dot_scaled(a, a_scale, "e4m3", w, w_scale, "e2m1", acc)
            else:
                w = tl.load(w_ptr + w_row[:, None] * (k // 2) + p[None, :], mask=in_bytes[None, :], other=0)
                wide_w = (fp4_decode(w, BLOCK_N, BLOCK_K) * e8m0_broadcast(w_scale, BLOCK_N, BLOCK_K)).to(tl.bfloat16)
                wide_a = (a.to(tl.float32) * e8m0_broadcast(a_scale, BLOCK_M, BLOCK_K)).to(tl.bfloat16)
                acc = tl.dot(wide_a, tl.trans(wide_w), acc)
        out_ptrs = out_ptr + slot.to(tl.int64)[:, None] * n + offs_n[None, :]
        tl.store(out_ptrs, acc.to(tl.bfloat16), mask=used[:, None] & (offs_n < n)[None, :])
    else:
        store_zeros(out_ptr, sorted_ptr, block, tl.program_id(0) % tiles_n, slots, n, BLOCK_M, BLOCK_N)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide_a = args.a.double() * decode_e8m0(args.a_scale)

    def wide_w(expert: int) -> Tensor:
        return decode_fp4(args.w[expert]) * decode_e8m0(args.w_scale[expert])

    value, magnitude = problem.product(wide_a, wide_w, args.expert_ids)
    # Products are exact in fp32; k of them added in any order, then half an ulp of bf16 (Higham 2002, §4.2).
    return (Expected("out", value, problem.k * 2.0**-24 * magnitude + 2.0**-8 * value.abs()),)


def _default(problem: Problem, device: Device) -> Config:
    # tcgen05 block-scaled matrix instructions have 128 rows: smaller tiles fall back to bf16 there.
    fewest = SCALED_ROWS if device.has_native_fp4 and not device.is_amd else 16
    block_m = max(fewest, 16 if problem.rows_an_expert <= 16 else 64)
    tile = {"BLOCK_M": block_m, "BLOCK_N": 64, "BLOCK_K": 128}
    return matrix_config({**tile, "num_warps": 4, "num_stages": 2}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    block_m, block_n, block_k = (config.size(name) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    if block_k % GROUP:
        return f"BLOCK_K={block_k} must hold whole scale groups of {GROUP}"
    stage_bytes = max(block_m, block_n) * block_k * (1.5 if device.has_native_fp4 else 4)
    return tile_reject(config, device, problem.k, stage_bytes) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    # FP8 by FP4 runs at the FP8 rate, scaled by the instruction itself; widened, at that of bf16.
    native, widths = device.has_native_fp4, (1.03, 0.53)
    work = grouped_work(problem, config, problem.bytes_moved, widths, "fp8_tensor" if native else "bf16")
    return with_widening(replace(work, loaded_bytes=widths), config, device, problem.k)


@tunable(Problem, jit=_grouped_gemm, reference=_reference, default=_default, reject=_reject, work=_work)
def mxfp4_grouped_gemm(
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
    """[tokens * topk, n] bf16 from FP8 a [tokens or tokens * topk, k] and packed FP4 w [experts, n, k / 2].

    a_scale uint8 e8m0 [rows, k / 32], w_scale uint8 e8m0 [experts, n, k / 32], expert_ids int32 [tokens, topk].
    Rows whose id, any number, is no expert here are zeros; a row of NaN or of any bits changes no other row.
    `alignment` is what `moe/align` makes of expert_ids with block_m = BLOCK_M, where two GEMMs share it. No tokens are
    no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    _check(a, a_scale, w, w_scale, expert_ids)
    (tokens, topk), (experts, n, _) = expert_ids.shape, w.shape
    sorted_slots, block_expert = aligned("mxfp4_grouped_gemm", expert_ids, experts, config.size("BLOCK_M"), alignment)
    out = torch.empty((tokens * topk, n), dtype=torch.bfloat16, device=a.device)
    grid = (block_expert.shape[0] * triton.cdiv(n, config.size("BLOCK_N")),)
    launch(_grouped_gemm, grid)(
        a, a_scale, w, w_scale, out, sorted_slots, block_expert, tokens * topk, n, a.shape[1],
        TOPK=topk, GATHERS=a.shape[0] == tokens, NATIVE=device.has_native_fp4, **options(config),
    )  # fmt: skip
    return out


def _check(a: Tensor, a_scale: Tensor, w: Tensor, w_scale: Tensor, expert_ids: Tensor) -> None:
    name = "mxfp4_grouped_gemm"
    require(name, a=(a, tuple(FP8.values()), (None, None)), w=(w, torch.uint8, (None, None, None)))
    require(name, home=a, expert_ids=(expert_ids, torch.int32, (None, None)))
    (rows, k), (experts, n, _) = a.shape, w.shape
    check_rows(name, a, expert_ids, GROUP)
    require(
        name,
        home=a,
        a_scale=(a_scale, torch.uint8, (rows, k // GROUP)),
        w=(w, torch.uint8, (experts, n, k // 2)),
        w_scale=(w_scale, torch.uint8, (experts, n, k // GROUP)),
    )
