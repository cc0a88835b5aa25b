"""GEMM of routed tokens in bf16 with experts' weights in MXFP4, after ROCm/triton#970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable

GROUP = 32


@dataclass(frozen=True)
class Problem:
    """`blocks` blocks of `rows` tokens, each of one of `experts` experts."""

    blocks: int
    rows: int
    n: int
    k: int
    experts: int

    VARYING: ClassVar[tuple[str, ...]] = ("blocks",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        (blocks,), (tokens, k), (experts, n, _) = args.expert.shape, args.x.shape, args.weight.shape
        return cls(blocks, tokens // blocks, n, k, experts)

    @property
    def flops(self) -> int:
        return 2 * self.blocks * self.rows * self.n * self.k

    @property
    def bytes_moved(self) -> int:
        tokens = self.blocks * self.rows
        return 2 * tokens * (self.k + self.n) + min(self.blocks, self.experts) * self.n * self.k * 17 // 32

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        x = draw.normal((self.blocks * self.rows, self.k), torch.bfloat16)
        weight = draw.integers((self.experts, self.n, self.k // 2), 0, 256, torch.uint8)
        scale = draw.integers((self.experts, self.n, self.k // GROUP), 120, 128, torch.uint8)
        return x, weight, scale, draw.integers((self.blocks,), 0, self.experts, torch.int32)


@triton.jit
def _mxfp4_experts(
    y_ptr, x_ptr, w_ptr, scale_ptr, expert_ptr, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    expert = tl.load(expert_ptr + tl.program_id(0)).to(tl.int64)
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    col = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)) % n
    depth = tl.arange(0, BLOCK_K)
    pair = tl.arange(0, BLOCK_K // 2)
    group = tl.arange(0, BLOCK_K // 32)
    x_at = x_ptr + row[:, None] * k + depth[None, :]
    w_at = w_ptr + expert * n * (k // 2) + pair[:, None] + col[None, :] * (k // 2)
    scale_at = scale_ptr + expert * n * (k // 32) + col[:, None] * (k // 32) + group[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        x = tl.load(x_at, mask=(start + depth < k)[None, :], other=0.0)
        w = tl.load(w_at, mask=(start + 2 * pair < k)[:, None], other=0)
        scale = tl.load(scale_at, mask=(start + 32 * group < k)[None, :], other=0)
        acc = tl.dot_scaled(x, None, "bf16", w, scale, "e2m1", acc, fast_math=True)
        x_at += BLOCK_K
        w_at += BLOCK_K // 2
        scale_at += BLOCK_K // 32
    col = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(y_ptr + row[:, None] * n + col[None, :], acc.to(tl.bfloat16), mask=(col < n)[None, :])


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=torch.float64)
    values = torch.cat([values, -values])
    codes = torch.stack([args.weight & 15, args.weight >> 4], -1).flatten(-2).long()
    scale = torch.exp2(args.scale.double() - 127).repeat_interleave(GROUP, -1)
    weight = (values[codes] * scale)[args.expert.long()]
    x = args.x.double().reshape(problem.blocks, problem.rows, problem.k)
    value = (x @ weight.mT).flatten(0, 1)
    bound = (x.abs() @ weight.abs().mT).flatten(0, 1) * problem.k * 2.0**-24
    return (Expected("y", value, bound + value.abs() * 2.0**-8),)


def _default(problem: Problem, device: Device) -> Config:
    extra = {"waves_per_eu": 0, "matrix_instr_nonkdim": 16} if device.is_amd else {}
    return Config(
        {
            "BLOCK_M": problem.rows,
            "BLOCK_N": 256,
            "BLOCK_K": 128,
            "num_warps": 2 if problem.rows <= 32 else 8,
            "num_stages": 2,
            **extra,
        }
    )


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return None if config.size("BLOCK_M") == problem.rows else "BLOCK_M is the rows of a block of tokens"


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_n = config.size("BLOCK_N")
    programs = problem.blocks * triton.cdiv(problem.n, block_n)
    read = problem.k * (2.0 * problem.rows + block_n * 17 / 32) + 2.0 * problem.rows * block_n
    steps = triton.cdiv(problem.k, config.size("BLOCK_K"))
    return Work(programs, 2.0 * problem.rows * block_n * problem.k, read, problem.bytes_moved, steps, "bf16")


@tunable(Problem, jit=_mxfp4_experts, reference=_reference, default=_default, reject=_reject, work=_work)
def mxfp4_experts(
    x: Tensor, weight: Tensor, scale: Tensor, expert: Tensor, *, config: Config, device: Device
) -> Tensor:
    """x [blocks * rows, k] in bf16, weight uint8 [experts, n, k / 2] and scale uint8 [experts, n, k / 32], expert int32
    [blocks] -> bf16 [blocks * rows, n]."""
    (tokens, k), n = x.shape, weight.shape[1]
    y = torch.empty((tokens, n), dtype=torch.bfloat16, device=x.device)
    grid = (expert.shape[0], triton.cdiv(n, config.size("BLOCK_N")))
    _mxfp4_experts[grid](y, x, weight, scale, expert, n, k, **config)
    return y
