"""GEMM of few rows in bf16, after aiter's pull request 5137: a wave budget so tight that the compiler may spill."""

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
    OUTPUT_BYTES: ClassVar[int] = 2


@triton.jit
def _skinny_gemm(y_ptr, x_ptr, w_ptr, m, n, k, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    row = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)) % m
    col = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)) % n
    depth = tl.arange(0, BLOCK_K)
    x_at = x_ptr + row[:, None] * k + depth[None, :]
    w_at = w_ptr + depth[:, None] + col[None, :] * k
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for _ in range(tl.cdiv(k, BLOCK_K)):
        x = tl.load(x_at)
        w = tl.load(w_at, cache_modifier=".cg")
        acc = tl.dot(x, w, acc)
        x_at += BLOCK_K
        w_at += BLOCK_K
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    col = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (row < m)[:, None] & (col < n)[None, :]
    tl.store(y_ptr + row[:, None] * n + col[None, :], acc.to(tl.bfloat16), mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    x, weight = args.x.double(), args.weight.double()
    value = x @ weight.T
    return (Expected("y", value, (x.abs() @ weight.abs().T) * problem.k * 2.0**-24 + value.abs() * 2.0**-8),)


def _default(problem: Problem, device: Device) -> Config:
    extra = {"waves_per_eu": 8, "matrix_instr_nonkdim": 16} if device.is_amd else {}
    return Config({"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 256, "num_warps": 4, "num_stages": 3, **extra})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return None if problem.k % config.size("BLOCK_K") == 0 else "BLOCK_K must divide k: loads have no masks"


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_m, block_n = config.size("BLOCK_M"), config.size("BLOCK_N")
    programs = triton.cdiv(problem.m, block_m) * triton.cdiv(problem.n, block_n)
    read = 2.0 * ((block_m + block_n) * problem.k + block_m * block_n)
    steps = problem.k // config.size("BLOCK_K")
    return Work(programs, 2.0 * block_m * block_n * problem.k, read, problem.bytes_moved, steps, "bf16")


@tunable(Problem, jit=_skinny_gemm, reference=_reference, default=_default, reject=_reject, work=_work)
def skinny_gemm(x: Tensor, weight: Tensor, *, config: Config, device: Device) -> Tensor:
    """x [m, k] and weight [n, k] in bf16 -> x @ weight.T in bf16 [m, n]."""
    (m, k), n = x.shape, weight.shape[0]
    y = torch.empty((m, n), dtype=torch.bfloat16, device=x.device)
    grid = (triton.cdiv(m, config.size("BLOCK_M")), triton.cdiv(n, config.size("BLOCK_N")))
    _skinny_gemm[grid](y, x, weight, m, n, k, **config)
    return y
