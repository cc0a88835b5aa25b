"""Kernels that are one narrow projection of four streams and what follows it: problem, rules, reference, launcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
import triton
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._problem import multiple_of
from autotune.kernels._split import leaves_empty, steps_of_split
from autotune.kernels.hyperconnection._mix import STREAMS, Streams, expect_mixed, launch_mixes, partials, project


@dataclass(frozen=True)
class Projection(Streams):
    """A projection of four streams onto OUTPUTS mixes with SCALES scales; the first 4 mixes weigh the streams' sum."""

    OUTPUTS: ClassVar[int]
    SCALES: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple_of(self, dim=16)

    @classmethod
    def of(cls, args: Arguments) -> Self:
        return cls(args.residual.shape[0], args.residual.shape[2])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        streams = draw.normal((self.tokens, STREAMS, self.dim), torch.bfloat16)
        return streams, *draw_projection(draw, self.dim, self.OUTPUTS, self.SCALES)

    @property
    def k(self) -> int:
        """Columns of the concatenated streams."""
        return STREAMS * self.dim

    @property
    def flops(self) -> int:
        return 2 * self.tokens * self.OUTPUTS * self.k

    @property
    def bytes_moved(self) -> int:
        streams = 2 * self.tokens * self.k
        mixes = 4 * self.tokens * (self.OUTPUTS - STREAMS)
        return streams + streams // STREAMS + 4 * self.OUTPUTS * self.k + mixes


def draw_projection(draw: Draw, dim: int, outputs: int, scales: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return fn fp32 [outputs, 4 dim], scale fp32 [scales] and base fp32 [outputs]."""
    k = STREAMS * dim
    fn = draw.normal((outputs, k), torch.float32, k**-0.5)
    return fn, draw.uniform((scales,), 0.5, 1.5), draw.normal((outputs,), torch.float32, 0.5)


def reference(problem: Projection, args: Arguments) -> tuple[Expected, ...]:
    streams = args.residual.double()
    return expect_mixed(streams, args.fn, args.scale, args.base, torch.zeros_like(streams))


def launch_projection(
    kernel: str, residual: Tensor, fn: Tensor, scale: Tensor, base: Tensor, outputs: int, scales: int, config: Config
) -> tuple[Tensor, ...]:
    """Check the arguments and launch `project` and `apply_mixes`: (y, post, comb), or y alone. Raises UsageError."""
    require(kernel, residual=(residual, torch.bfloat16, (None, STREAMS, None)))
    tokens, k = residual.shape[0], STREAMS * residual.shape[2]
    require(
        kernel,
        home=residual,
        fn=(fn, torch.float32, (outputs, k)),
        scale=(scale, torch.float32, (scales,)),
        base=(base, torch.float32, (outputs,)),
    )
    split = config.size("SPLIT_K")
    parts = partials(tokens, split, residual.device)
    grid = (triton.cdiv(tokens, config.size("BLOCK_M")), split)
    launch(project, grid)(residual, fn, *parts, tokens, k, OUT=outputs, **options(config))
    return launch_mixes(residual, parts, scale, base, head=outputs == STREAMS)


def default(problem: Projection, device: Device) -> Config:
    tokens, k = problem.tokens, problem.k
    split = largest_split(28 if tokens <= 16 else 14 if tokens <= 64 else 7 if tokens <= 2048 else 2, k // 128)
    shared = {"BLOCK_M": 16 if tokens <= 64 else 32, "BLOCK_K": 128, "SPLIT_K": split, "num_warps": 4}
    return matrix_config(shared, device)


def largest_split(most: int, steps: int) -> int:
    """The largest split of the search spaces, up to `most`, that leaves none empty: 28672 = 2^12 x 7, 16384 = 2^14."""
    return next(split for split in (28, 16, 14, 7, 4, 2, 1) if split <= most and not leaves_empty(steps, split))


def reject(problem: Projection, config: Config, device: Device) -> str | None:
    block_m, block_k, split = config.size("BLOCK_M"), config.size("BLOCK_K"), config.size("SPLIT_K")
    threads = config.size("num_warps") * device.warp_size
    steps = triton.cdiv(problem.k, block_k)
    if leaves_empty(steps, split):
        return f"SPLIT_K={split} leaves a split of {steps} steps empty"
    if block_m * block_k > 64 * threads:
        return f"{block_m * block_k // threads} values of a tile a thread do not fit beside their squares"
    stage = block_m * block_k * 2 + 32 * block_k * 4
    if stage * max(1, config.size("num_stages") - 1) > device.shared_bytes_per_block:
        return f"{config['num_stages']} stages of {stage} B exceed {device.shared_bytes_per_block} B of shared memory"
    return None


def work(problem: Projection, config: Config, device: Device) -> Work:
    """Work of `project` and of the launch that adds up its splits."""
    block_m, split, tokens = config.size("BLOCK_M"), config.size("SPLIT_K"), problem.tokens
    depth, steps = problem.k / split, steps_of_split(problem.k, config)
    return Work(
        programs=triton.cdiv(tokens, block_m) * split,
        flops_per_program=2 * 2 * block_m * 32 * steps * config.size("BLOCK_K"),
        bytes_per_program=(2 * min(block_m, tokens) + 4 * problem.OUTPUTS) * depth + 4 * 33 * block_m,
        unique_bytes=problem.bytes_moved,
        iterations=steps,
        dtype="bf16",
        launches=2,
        reduction_bytes=2 * 4 * 33 * tokens * split + 2 * problem.k * tokens,
    )
