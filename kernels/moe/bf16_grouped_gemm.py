"""Routed experts in bf16: out[slot] = A[row(slot)] W[expert(slot)]ᵀ, for checkpoints or arches without FP8 (K20).

Slots are sorted by expert and padded to BLOCK_M, as in `moe/mxfp4_grouped_gemm`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels.gemm._tiles import bf16_reject
from autotune.kernels.moe._align import aligned, store_zeros
from autotune.kernels.moe._grouped import Slots, check_rows, grouped_work


@dataclass(frozen=True)
class Problem(Slots):
    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        ids = self.draw_ids(draw)
        a = draw.normal((self.rows, self.k), torch.bfloat16)
        return a, draw.normal((self.experts, self.n, self.k), torch.bfloat16), ids

    @property
    def bytes_moved(self) -> int:
        weights = 2 * self.experts_touched * self.n * self.k
        return int(weights + 2 * self.rows * self.k + 2 * self.slots * self.n)


@triton.jit(do_not_specialize=["slots"])
def _grouped_gemm(
    a_ptr, w_ptr, out_ptr, sorted_ptr, block_expert_ptr, slots, n, k,
    TOPK: tl.constexpr, GATHERS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
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
        w_row = expert.to(tl.int64) * n + tl.where(offs_n < n, offs_n, 0)
        acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for start in range(0, k, BLOCK_K):
            offs_k = start + tl.arange(0, BLOCK_K)
            a = tl.load(a_ptr + row[:, None] * k + offs_k[None, :], mask=(offs_k < k)[None, :], other=0.0)
            w = tl.load(w_ptr + w_row[None, :] * k + offs_k[:, None], mask=(offs_k < k)[:, None], other=0.0)
            acc = tl.dot(a, w, acc)
        out_ptrs = out_ptr + slot.to(tl.int64)[:, None] * n + offs_n[None, :]
        tl.store(out_ptrs, acc.to(tl.bfloat16), mask=used[:, None] & (offs_n < n)[None, :])
    else:
        store_zeros(out_ptr, sorted_ptr, block, tl.program_id(0) % tiles_n, slots, n, BLOCK_M, BLOCK_N)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    value, magnitude = problem.product(args.a.double(), lambda expert: args.w[expert].double(), args.expert_ids)
    # k exact products added in fp32 in any order (Higham 2002, §4.2), then half an ulp of bf16.
    return (Expected("out", value, problem.k * 2.0**-24 * magnitude + 2.0**-8 * value.abs()),)


def _default(problem: Problem, device: Device) -> Config:
    block_m = 16 if problem.rows_an_expert <= 16 else 64
    return matrix_config({"BLOCK_M": block_m, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4}, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return grouped_work(problem, config, problem.bytes_moved, (2.0, 2.0), "bf16")


@tunable(Problem, jit=_grouped_gemm, reference=_reference, default=_default, reject=bf16_reject, work=_work)
def bf16_grouped_gemm(
    a: Tensor,
    w: Tensor,
    expert_ids: Tensor,
    alignment: tuple[Tensor, Tensor] | None = None,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """a bf16 [tokens or tokens * topk, k], w bf16 [experts, n, k], expert_ids int32 [tokens, topk] -> bf16 [slots, n].

    Rows whose id, any number, is no expert here are zeros; a row of NaN or of any bits changes no other row.
    `alignment` is what `moe/align` makes of expert_ids with block_m = BLOCK_M, where two GEMMs share it. No tokens are
    no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    name = "bf16_grouped_gemm"
    require(name, a=(a, torch.bfloat16, (None, None)))
    require(
        name,
        home=a,
        w=(w, torch.bfloat16, (None, None, a.shape[1])),
        expert_ids=(expert_ids, torch.int32, (None, None)),
    )
    check_rows(name, a, expert_ids, 1)
    (tokens, topk), (experts, n, k) = expert_ids.shape, w.shape
    sorted_slots, block_expert = aligned(name, expert_ids, experts, config.size("BLOCK_M"), alignment)
    out = torch.empty((tokens * topk, n), dtype=torch.bfloat16, device=a.device)
    grid = (block_expert.shape[0] * triton.cdiv(n, config.size("BLOCK_N")),)
    launch(_grouped_gemm, grid)(
        a, w, out, sorted_slots, block_expert, tokens * topk, n, k,
        TOPK=topk, GATHERS=a.shape[0] == tokens, **options(config),
    )  # fmt: skip
    return out
