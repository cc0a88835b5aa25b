"""mHC post of one sublayer and pre of the next, fused: the new streams are mixed while they are in registers (K1, K2).

The first launch writes the new streams and the partial projections of their columns; the second is that of `mhc_pre`.
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
from autotune.kernels._problem import multiple_of
from autotune.kernels._split import leaves_empty, steps_of_split
from autotune.kernels.hyperconnection._mix import (
    MIXES,
    STREAMS,
    Streams,
    accumulate,
    draw_mixed,
    expect_mixed,
    launch_mixes,
    partials,
    reference_streams,
)
from autotune.kernels.hyperconnection._projection import draw_projection, largest_split


@dataclass(frozen=True)
class Problem(Streams):
    def __post_init__(self) -> None:
        super().__post_init__()
        multiple_of(self, dim=16)

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        return *draw_mixed(draw, self.tokens, self.dim), *draw_projection(draw, self.dim, MIXES, 3)

    @property
    def flops(self) -> int:
        return 2 * self.tokens * self.dim * STREAMS * (STREAMS + 1 + MIXES)

    @property
    def bytes_moved(self) -> int:
        return self.tokens * 2 * self.dim * (2 * STREAMS + 2) + 4 * MIXES * STREAMS * self.dim


@triton.jit(do_not_specialize=["tokens"])
def _post_project(
    out_ptr, o_ptr, residual_ptr, post_ptr, comb_ptr, fn_ptr, mix_ptr, square_ptr, tokens, dim,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT_K: tl.constexpr,
):  # fmt: skip
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    split = tl.program_id(1)
    offs_n = tl.arange(0, 32)
    in_m = offs_m < tokens
    token = tl.where(in_m, offs_m, 0).to(tl.int64)
    steps = tl.cdiv(tl.cdiv(dim, BLOCK_K), SPLIT_K)
    acc = tl.zeros((BLOCK_M, 32), dtype=tl.float32)
    squares = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    for step in range(split * steps, split * steps + steps):
        col = step * BLOCK_K + tl.arange(0, BLOCK_K)
        in_k = col < dim
        mask = in_m[:, None] & in_k[None, :]
        o = tl.load(o_ptr + token[:, None] * dim + col[None, :], mask=mask, other=0.0).to(tl.float32)
        for j in tl.static_range(4):
            post = tl.load(post_ptr + token * 4 + j)
            new = post[:, None] * o
            for i in tl.static_range(4):
                # Each old stream is read for each new one: 16 loads, 12 of them from L1, a quarter of the registers.
                comb = tl.load(comb_ptr + token * 16 + i * 4 + j)
                old_ptrs = residual_ptr + (token * 4 + i)[:, None] * dim + col[None, :]
                new += comb[:, None] * tl.load(old_ptrs, mask=mask, other=0.0).to(tl.float32)
            # Rounded before it is mixed, so that the next sublayer sees what the streams hold.
            stored = new.to(tl.bfloat16)
            tl.store(out_ptr + (token * 4 + j)[:, None] * dim + col[None, :], stored, mask=mask)
            fn_ptrs = fn_ptr + offs_n[None, :] * (4 * dim) + (j * dim + col)[:, None]
            acc = accumulate(stored, fn_ptrs, in_k[:, None] & (offs_n < 24)[None, :], acc)
            squares += stored.to(tl.float32) * stored.to(tl.float32)
    slot = split.to(tl.int64) * tokens + offs_m
    tl.store(mix_ptr + slot[:, None] * 32 + offs_n[None, :], acc, mask=in_m[:, None])
    tl.store(square_ptr + slot, tl.sum(squares, axis=1), mask=in_m)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    value, error = reference_streams(args)
    # Rounded to bf16: the same number, save where the error reaches a tie.
    low, stored, high = ((value + off).to(torch.bfloat16).double() for off in (-error, 0, error))
    # What follows starts from the streams as stored.
    return (Expected("residual", stored, high - low), *expect_mixed(stored, args.fn, args.scale, args.base, high - low))


def _default(problem: Problem, device: Device) -> Config:
    tokens = problem.tokens
    # 64 columns spill 16 B a thread on sm_90, where 4 warps hold the tile.
    block_k = 64 if device.is_amd else 32
    split = largest_split(28 if tokens <= 64 else 7 if tokens <= 2048 else 1, problem.dim // block_k)
    stages = 1 if device.is_amd else 2
    tile = {"BLOCK_M": 16, "BLOCK_K": block_k, "SPLIT_K": split}
    return matrix_config({**tile, "num_warps": 4, "num_stages": stages}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    block_m, block_k, split = config.size("BLOCK_M"), config.size("BLOCK_K"), config.size("SPLIT_K")
    threads = config.size("num_warps") * device.warp_size
    steps = triton.cdiv(problem.dim, block_k)
    if leaves_empty(steps, split):
        return f"SPLIT_K={split} leaves a split of {steps} steps empty"
    if block_m * block_k > 32 * threads:
        return f"{block_m * block_k // threads} values of a tile a thread do not fit beside their streams"
    stage = block_m * block_k * 2 * 5 + 32 * block_k * 4
    if stage * max(1, config.size("num_stages") - 1) > device.shared_bytes_per_block:
        return f"{config['num_stages']} stages of {stage} B exceed {device.shared_bytes_per_block} B of shared memory"
    return None


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_m, split = config.size("BLOCK_M"), config.size("SPLIT_K")
    depth, steps = problem.dim / split, steps_of_split(problem.dim, config)
    rows = min(block_m, problem.tokens)
    return Work(
        programs=triton.cdiv(problem.tokens, block_m) * split,
        flops_per_program=2 * 2 * block_m * 32 * STREAMS * steps * config.size("BLOCK_K"),
        bytes_per_program=(2 * rows * 9 + 4 * MIXES * STREAMS) * depth + 4 * 33 * block_m,
        unique_bytes=problem.bytes_moved,
        iterations=steps,
        dtype="bf16",
        launches=2,
        reduction_bytes=2 * 4 * 33 * problem.tokens * split + 2 * problem.tokens * problem.dim * 5,
    )


@tunable(Problem, jit=_post_project, reference=_reference, default=_default, reject=_reject, work=_work)
def mhc_post_pre(
    o: Tensor,
    residual: Tensor,
    post: Tensor,
    comb: Tensor,
    fn: Tensor,
    scale: Tensor,
    base: Tensor,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, ...]:
    """`mhc_post` of (o, residual, post, comb), then `mhc_pre` of its streams: (streams, y, post, comb).

    Shapes and dtypes are theirs. NaN or any bits in a token reach its own outputs only. No tokens are no launch. Raises
    UsageError for other dtypes, shapes or strides.
    """
    require("mhc_post_pre", o=(o, torch.bfloat16, (None, None)))
    tokens, dim = o.shape
    require(
        "mhc_post_pre",
        o=(o, o.dtype, (tokens, dim)),
        residual=(residual, torch.bfloat16, (tokens, STREAMS, dim)),
        post=(post, torch.float32, (tokens, STREAMS)),
        comb=(comb, torch.float32, (tokens, STREAMS, STREAMS)),
        fn=(fn, torch.float32, (MIXES, STREAMS * dim)),
        scale=(scale, torch.float32, (3,)),
        base=(base, torch.float32, (MIXES,)),
    )
    split = config.size("SPLIT_K")
    streams = torch.empty_like(residual)
    parts = partials(tokens, split, o.device)
    grid = (triton.cdiv(tokens, config.size("BLOCK_M")), split)
    launch(_post_project, grid)(streams, o, residual, post, comb, fn, *parts, tokens, dim, **options(config))
    return (streams, *launch_mixes(streams, parts, scale, base))
