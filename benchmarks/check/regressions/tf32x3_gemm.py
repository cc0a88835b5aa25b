"""Projection of bf16 by bf16 in three TF32 products, after the description of triton#11526."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Arguments, Expected, Work, tunable
from benchmarks.check.regressions._projection import Projection


@dataclass(frozen=True)
class Problem(Projection):
    OUTPUT_BYTES: ClassVar[int] = 4


@triton.jit
def _tf32x3_gemm(y_ptr, x_ptr, w_ptr, n, k, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    col = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        depth = start + tl.arange(0, BLOCK_K)
        x = tl.load(x_ptr + row[:, None] * k + depth[None, :]).to(tl.float32)
        w = tl.load(w_ptr + col[:, None] * k + depth[None, :]).to(tl.float32)
        acc = tl.dot(x, tl.trans(w), acc, input_precision="tf32x3")
    tl.store(y_ptr + row[:, None] * n + col[None, :], acc)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    x, weight = args.x.double(), args.weight.double()
    return (Expected("y", x @ weight.T, (x.abs() @ weight.abs().T) * problem.k * 2.0**-23 + 1e-6),)


def _default(problem: Problem, device: Device) -> Config:
    return Config({"BLOCK_M": 128, "BLOCK_N": 32, "BLOCK_K": 64, "num_warps": 4, "num_stages": 3})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    whole = all(
        size % config.size(block) == 0
        for size, block in ((problem.m, "BLOCK_M"), (problem.n, "BLOCK_N"), (problem.k, "BLOCK_K"))
    )
    return None if whole else "blocks must divide the sizes: loads have no masks"


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_m, block_n = config.size("BLOCK_M"), config.size("BLOCK_N")
    programs = problem.m // block_m * (problem.n // block_n)
    read = 2.0 * (block_m + block_n) * problem.k + 4.0 * block_m * block_n
    return Work(programs, problem.flops / programs, read, problem.bytes_moved, problem.k // config.size("BLOCK_K"))


@tunable(Problem, jit=_tf32x3_gemm, reference=_reference, default=_default, reject=_reject, work=_work)
def tf32x3_gemm(x: Tensor, weight: Tensor, *, config: Config, device: Device) -> Tensor:
    """x [m, k] and weight [n, k] in bf16 -> x @ weight.T in fp32 [m, n]."""
    (m, k), n = x.shape, weight.shape[0]
    y = torch.empty((m, n), dtype=torch.float32, device=x.device)
    _tf32x3_gemm[(m // config.size("BLOCK_M"), n // config.size("BLOCK_N"))](y, x, weight, n, k, **config)
    return y
