"""Y[:, g] = X[:, g] W[g]ᵀ in bf16: the grouped output projection, and V3.2's absorbed projections (K16).

Rows of X are [groups, k], as attention leaves them: a group is a stride, nothing is transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Library, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels.gemm._tiles import (
    GroupedProduct,
    add_parts,
    bf16_reject,
    grouped_work,
    load_rows,
    split_buffers,
    split_for,
    store_tile,
)

SPLITS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Problem(GroupedProduct):
    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], *args.w.shape)

    def inputs(self, seed: int, device: str) -> tuple[Tensor, Tensor]:
        draw = Draw(seed, device)
        x = draw.normal((self.m, self.groups, self.k), torch.bfloat16)
        return x, draw.normal((self.groups, self.n, self.k), torch.bfloat16)

    @property
    def bytes_moved(self) -> int:
        return 2 * self.groups * ((self.m + self.n) * self.k + self.m * self.n)


@triton.jit(do_not_specialize=["m"])
def _grouped(
    x_ptr, w_ptr, out_ptr, partial_ptr, ticket_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT_K: tl.constexpr,
    MASKS_ROWS: tl.constexpr = False,
):  # fmt: skip
    tiles_m = tl.cdiv(m, BLOCK_M)
    group, groups = tl.program_id(1), tl.num_programs(1)
    split = tl.program_id(2)
    offs_m = tl.program_id(0) % tiles_m * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.program_id(0) // tiles_m * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.where(offs_m < m, offs_m, 0).to(tl.int64) * groups + group
    column = group.to(tl.int64) * n + tl.where(offs_n < n, offs_n, 0)
    steps = tl.cdiv(tl.cdiv(k, BLOCK_K), SPLIT_K)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(split * steps, split * steps + steps):
        offs_k = step * BLOCK_K + tl.arange(0, BLOCK_K)
        if MASKS_ROWS:
            x = load_rows(x_ptr + group * k, offs_m * groups, offs_m < m, offs_k, k)
            w = tl.trans(load_rows(w_ptr + group.to(tl.int64) * n * k, offs_n, offs_n < n, offs_k, k))
        else:
            x = tl.load(x_ptr + row[:, None] * k + offs_k[None, :], mask=(offs_k < k)[None, :], other=0.0)
            w = tl.load(w_ptr + column[None, :] * k + offs_k[:, None], mask=(offs_k < k)[:, None], other=0.0)
        acc = tl.dot(x, w, acc)
    offs = (offs_m.to(tl.int64) * groups + group)[:, None] * n + offs_n[None, :]
    inside = (offs_m < m)[:, None] & (offs_n < n)[None, :]
    ticket = None if ticket_ptr is None else ticket_ptr + tl.program_id(0) * groups + group
    store_tile(acc, out_ptr, partial_ptr, ticket, offs, inside, m.to(tl.int64) * groups * n, split, SPLIT_K)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    value = torch.einsum("mgk,gnk->mgn", args.x.double(), args.w.double())
    magnitude = torch.einsum("mgk,gnk->mgn", args.x.double().abs(), args.w.double().abs())
    # k exact products added in fp32 in any order (Higham 2002, §4.2), then half an ulp of bf16.
    return (Expected("y", value, problem.k * 2.0**-24 * magnitude + 2.0**-8 * value.abs()),)


def _torch(problem: Problem, args: Arguments) -> Callable[[], Tensor]:
    def call() -> Tensor:
        y = args.x.new_empty((problem.m, problem.groups, problem.n))
        torch.bmm(args.x.transpose(0, 1), args.w.transpose(1, 2), out=y.transpose(0, 1))
        return y

    return call


def _default(problem: Problem, device: Device) -> Config:
    block_m = 16 if problem.m <= 16 else 64 if problem.m <= 64 else 128
    block_n, block_k = (64, 128) if problem.m <= 64 else (128, 64)
    tiles = triton.cdiv(problem.m, block_m) * triton.cdiv(problem.n, block_n) * problem.groups
    split = split_for(tiles, triton.cdiv(problem.k, block_k), device, SPLITS)
    shared = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "SPLIT_K": split}
    # 4 warps spill 16 B a thread on sm_100 with 64 rows.
    warps = 4 if block_m < 64 or (block_m == 64 and device.architecture.group_mma != "tcgen05") else 8
    return matrix_config({**shared, "num_warps": warps}, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return grouped_work(problem, config, device, 2, "bf16", problem.bytes_moved)


@tunable(
    Problem,
    jit=_grouped,
    reference=_reference,
    default=_default,
    reject=bf16_reject,
    work=_work,
    library=Library("torch.bmm", _torch),
)
def bf16_grouped(x: Tensor, w: Tensor, *, config: Config, device: Device) -> Tensor:
    """x bf16 [m, groups, k], w bf16 [groups, n, k] -> bf16 [m, groups, n].

    NaN or any bits in a row of x reach its own row of y only. No rows are no launch. Raises UsageError for other
    dtypes, shapes or strides.
    """
    require("bf16_grouped", x=(x, torch.bfloat16, (None, None, None)))
    m, groups, k = x.shape
    require("bf16_grouped", x=(x, x.dtype, (m, groups, k)), w=(w, torch.bfloat16, (groups, None, k)))
    n, split = w.shape[1], config.size("SPLIT_K")
    y = torch.empty((m, groups, n), dtype=torch.bfloat16, device=x.device)
    tiles = triton.cdiv(m, config.size("BLOCK_M")) * triton.cdiv(n, config.size("BLOCK_N"))
    parts = split_buffers(y, split, tiles * groups, device)
    launch(_grouped, (tiles, groups, split))(
        x, w, y, *parts, m, n, k, MASKS_ROWS=not device.architecture.is_gpu, **options(config)
    )
    add_parts(y, *parts)
    return y
