"""Weight gradient of experts, a GEMM whose depth is the tokens of each group, after Primus-Turbo's pull request 471."""

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


@dataclass(frozen=True)
class Problem:
    """`tokens` rows of a and b for each of `groups` experts."""

    groups: int
    tokens: int
    m: int
    n: int

    VARYING: ClassVar[tuple[str, ...]] = ("tokens",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        groups = args.offsets.shape[0] - 1
        return cls(groups, args.a.shape[0] // groups, args.a.shape[1], args.b.shape[1])

    @property
    def flops(self) -> int:
        return 2 * self.groups * self.tokens * self.m * self.n

    @property
    def bytes_moved(self) -> int:
        return 2 * self.groups * (self.tokens * (self.m + self.n) + self.m * self.n)

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw, rows = Draw(seed, device), self.groups * self.tokens
        a, b = (draw.normal((rows, cols), torch.bfloat16) for cols in (self.m, self.n))
        return a, b, torch.arange(0, rows + 1, self.tokens, device=device)


@triton.jit
def _weight_gradient(
    c_ptr, a_ptr, b_ptr, offsets_ptr, m, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    tiles_n = tl.cdiv(n, BLOCK_N)
    tile_m, tile_n, group = tl.program_id(0) // tiles_n, tl.program_id(0) % tiles_n, tl.program_id(1)
    first, last = tl.load(offsets_ptr + group), tl.load(offsets_ptr + group + 1)
    row = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)) % m
    col = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)) % n
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(first, last, BLOCK_K):
        token = start + tl.arange(0, BLOCK_K)
        a = tl.load(a_ptr + token[None, :] * m + row[:, None], mask=(token < last)[None, :], other=0.0)
        b = tl.load(b_ptr + token[:, None] * n + col[None, :], mask=(token < last)[:, None], other=0.0)
        acc = tl.dot(a, b, acc)
    row = tile_m * BLOCK_M + tl.arange(0, BLOCK_M)
    col = tile_n * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = (row < m)[:, None] & (col < n)[None, :]
    tl.store(c_ptr + (group * m + row)[:, None] * n + col[None, :], acc.to(tl.bfloat16), mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    a, b = (x.double().reshape(problem.groups, problem.tokens, -1) for x in (args.a, args.b))
    bound = (a.abs().mT @ b.abs()) * 1e-4
    value = a.mT @ b
    return (Expected("c", value, bound + value.abs() * 2.0**-8),)


def _default(problem: Problem, device: Device) -> Config:
    blocks = {"BLOCK_M": 256, "BLOCK_N": 256, "BLOCK_K": 64}
    return Config({**blocks, "num_warps": 8, "num_stages": 2, "waves_per_eu": 2, "matrix_instr_nonkdim": 16})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return None


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_m, block_n = config.size("BLOCK_M"), config.size("BLOCK_N")
    programs = problem.groups * triton.cdiv(problem.m, block_m) * triton.cdiv(problem.n, block_n)
    flops = 2.0 * block_m * block_n * problem.tokens
    read = 2.0 * ((block_m + block_n) * problem.tokens + block_m * block_n)
    steps = triton.cdiv(problem.tokens, config.size("BLOCK_K"))
    return Work(programs, flops, read, problem.bytes_moved, steps, "bf16")


@tunable(Problem, jit=_weight_gradient, reference=_reference, default=_default, reject=_reject, work=_work)
def weight_gradient(a: Tensor, b: Tensor, offsets: Tensor, *, config: Config, device: Device) -> Tensor:
    """a [tokens, m] and b [tokens, n] in bf16, offsets int64 [groups + 1] -> bf16 [groups, m, n], a.T @ b of each."""
    m, n, groups = a.shape[1], b.shape[1], offsets.shape[0] - 1
    c = torch.empty((groups, m, n), dtype=torch.bfloat16, device=a.device)
    tiles = triton.cdiv(m, config.size("BLOCK_M")) * triton.cdiv(n, config.size("BLOCK_N"))
    _weight_gradient[(tiles, groups)](c, a, b, offsets, m, n, **config)
    return c
