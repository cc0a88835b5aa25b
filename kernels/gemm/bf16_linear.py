"""C = X Wᵀ in bf16 with fp32 out: router gate, compressor and indexer projections, language-model head (K7, K24).

Most are skinny (n 64 to 2048) and deep (k 7168 = 2^10 x 7), so that split-K fills the device; partials are added
in a fixed order. fp32 out: routing and pooling decide by small differences.
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
from autotune.kernels._problem import at_least
from autotune.kernels._split import split_work
from autotune.kernels.gemm._tiles import (
    Product,
    add_parts,
    bf16_reject,
    load_rows,
    split_buffers,
    split_for,
    store_tile,
)

SPLITS = (1, 2, 4, 7, 8, 14, 28)


@dataclass(frozen=True)
class Problem(Product):
    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, k=16)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.w.shape[0], args.x.shape[1])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, Tensor]:
        draw = Draw(seed, device)
        return draw.normal((self.m, self.k), torch.bfloat16), draw.normal((self.n, self.k), torch.bfloat16)

    @property
    def bytes_moved(self) -> int:
        return 2 * (self.m + self.n) * self.k + 4 * self.m * self.n


@triton.jit(do_not_specialize=["m"])
def _linear(
    x_ptr, w_ptr, out_ptr, partial_ptr, ticket_ptr, m, n, k,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP_M: tl.constexpr, SPLIT_K: tl.constexpr,
    MASKS_ROWS: tl.constexpr = False,
):  # fmt: skip
    tile = tl.program_id(0)
    split = tl.program_id(1)
    tiles_m = tl.cdiv(m, BLOCK_M)
    tiles_n = tl.cdiv(n, BLOCK_N)
    # Tiles of GROUP_M rows are walked column by column, so that co-resident programs share weights in L2.
    first_m = tile // (GROUP_M * tiles_n) * GROUP_M
    rows_here = min(tiles_m - first_m, GROUP_M)
    within = tile % (GROUP_M * tiles_n)
    offs_m = (first_m + within % rows_here) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = (within // rows_here) * BLOCK_N + tl.arange(0, BLOCK_N)
    row = tl.where(offs_m < m, offs_m, 0).to(tl.int64)
    column = tl.where(offs_n < n, offs_n, 0).to(tl.int64)
    steps = tl.cdiv(tl.cdiv(k, BLOCK_K), SPLIT_K)
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for step in range(split * steps, split * steps + steps):
        offs_k = step * BLOCK_K + tl.arange(0, BLOCK_K)
        if MASKS_ROWS:
            x = load_rows(x_ptr, offs_m, offs_m < m, offs_k, k)
            w = tl.trans(load_rows(w_ptr, offs_n, offs_n < n, offs_k, k))
        else:
            x = tl.load(x_ptr + row[:, None] * k + offs_k[None, :], mask=(offs_k < k)[None, :], other=0.0)
            w = tl.load(w_ptr + column[None, :] * k + offs_k[:, None], mask=(offs_k < k)[:, None], other=0.0)
        acc = tl.dot(x, w, acc)
    offs = offs_m.to(tl.int64)[:, None] * n + offs_n[None, :]
    inside = (offs_m < m)[:, None] & (offs_n < n)[None, :]
    ticket = None if ticket_ptr is None else ticket_ptr + tile
    store_tile(acc, out_ptr, partial_ptr, ticket, offs, inside, m.to(tl.int64) * n, split, SPLIT_K)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    value = args.x.double() @ args.w.double().T
    # Products of bf16 are exact in fp32; k of them are added in any order (Higham 2002, §4.2).
    return (Expected("c", value, problem.k * 2.0**-24 * (args.x.double().abs() @ args.w.double().abs().T)),)


def _torch(problem: Problem, args: Arguments) -> Callable[[], Tensor]:
    return lambda: torch.mm(args.x, args.w.T, out_dtype=torch.float32)


def _default(problem: Problem, device: Device) -> Config:
    block_m = 16 if problem.m <= 16 else 64 if problem.m <= 64 else 128
    block_n = 32 if problem.m <= 64 and problem.n < 4096 else 64 if problem.n < 256 else 128
    tiles = triton.cdiv(problem.m, block_m) * triton.cdiv(problem.n, block_n)
    block_k = 128 if problem.m <= 64 else 64
    split = split_for(tiles, triton.cdiv(problem.k, block_k), device, SPLITS)
    shared = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "GROUP_M": 8, "SPLIT_K": split}
    warps = 4 if block_m <= 64 else 8
    return matrix_config({**shared, "num_warps": warps}, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    m, block_m, block_n = problem.m, config.size("BLOCK_M"), config.size("BLOCK_N")
    return split_work(
        m,
        problem.n,
        problem.k,
        config,
        device,
        depth_bytes=2 * (min(block_m, m) + block_n),
        tile_bytes=4 * block_m * block_n,
        unique_bytes=problem.bytes_moved,
        dtype="bf16",
    )


@tunable(
    Problem,
    jit=_linear,
    reference=_reference,
    default=_default,
    reject=bf16_reject,
    work=_work,
    library=Library("torch.mm", _torch),
)
def bf16_linear(x: Tensor, w: Tensor, *, config: Config, device: Device) -> Tensor:
    """x bf16 [m, k], w bf16 [n, k] -> fp32 [m, n].

    NaN or any bits in a row of x reach its own row only. No rows are no launch. Raises UsageError for other dtypes,
    shapes or strides.
    """
    require("bf16_linear", x=(x, torch.bfloat16, (None, None)))
    require("bf16_linear", home=x, w=(w, torch.bfloat16, (None, x.shape[1])))
    (m, k), n, split = x.shape, w.shape[0], config.size("SPLIT_K")
    c = torch.empty((m, n), dtype=torch.float32, device=x.device)
    tiles = triton.cdiv(m, config.size("BLOCK_M")) * triton.cdiv(n, config.size("BLOCK_N"))
    parts = split_buffers(c, split, tiles, device)
    launch(_linear, (tiles, split))(
        x, w, c, *parts, m, n, k, MASKS_ROWS=not device.architecture.is_gpu, **options(config)
    )
    add_parts(c, *parts)
    return c
