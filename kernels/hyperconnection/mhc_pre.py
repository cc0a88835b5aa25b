"""mHC pre: the weights that mix four residual streams into a sublayer's input, and its output back into them (K1).

With x the concatenated streams and r its inverse RMS, m = (x fnᵀ) r has 24 mixes: pre = sigmoid(m s0 + b) + eps,
post = 2 sigmoid(m s1 + b), and comb = 20 Sinkhorn steps on softmax(m s2 + b), a nearly doubly stochastic 4 x 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Expected, Work, tunable
from autotune.kernels._launch import options, require
from autotune.kernels.hyperconnection._mix import (
    MIXES,
    STREAMS,
    expect_mixed,
    mixed,
    partials,
    project,
    projection_default,
    projection_reject,
    projection_work,
)


@dataclass(frozen=True)
class Problem:
    tokens: int
    dim: int

    VARYING: ClassVar[tuple[str, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.dim < 16 or self.dim % 16:
            raise ValueError(f"tokens must be positive, dim a multiple of 16; got {self.tokens}, {self.dim}")

    @classmethod
    def of(cls, residual: Tensor, fn: Tensor, scale: Tensor, base: Tensor) -> Problem:
        return cls(residual.shape[0], residual.shape[2])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        k = STREAMS * self.dim
        return (
            draw.normal((self.tokens, STREAMS, self.dim), torch.bfloat16),
            draw.normal((MIXES, k), torch.float32, k**-0.5),
            draw.uniform((3,), 0.5, 1.5),
            draw.normal((MIXES,), torch.float32, 0.5),
        )

    @property
    def flops(self) -> int:
        return 2 * self.tokens * MIXES * STREAMS * self.dim

    @property
    def bytes_moved(self) -> int:
        streams = 2 * self.tokens * STREAMS * self.dim
        return streams + streams // STREAMS + 4 * MIXES * STREAMS * self.dim + 4 * 20 * self.tokens


def _reference(problem: Problem, residual: Tensor, fn: Tensor, scale: Tensor, base: Tensor) -> tuple[Expected, ...]:
    x = residual.double()
    return expect_mixed(x, fn, scale, base, torch.zeros_like(x))


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(output.double() for output in outputs)


def _default(problem: Problem, device: Device) -> Config:
    return projection_default(problem.tokens, STREAMS * problem.dim, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return projection_reject(STREAMS * problem.dim, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return projection_work(problem.tokens, STREAMS * problem.dim, MIXES, config, problem.bytes_moved)


@tunable(Problem, jit=project, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def mhc_pre(
    residual: Tensor, fn: Tensor, scale: Tensor, base: Tensor, *, config: Config, device: Device
) -> tuple[Tensor, ...]:
    """Streams bf16 [tokens, 4, dim] -> (y bf16 [tokens, dim], post fp32 [tokens, 4], comb fp32 [tokens, 4, 4]).

    fn fp32 [24, 4 dim], scale fp32 [3], base fp32 [24]. Raises UsageError for other dtypes, shapes or strides.
    """
    require("mhc_pre", residual=(residual, torch.bfloat16, (None, STREAMS, None)))
    tokens, k = residual.shape[0], STREAMS * residual.shape[2]
    require(
        "mhc_pre",
        residual=(residual, torch.bfloat16, residual.shape),
        fn=(fn, torch.float32, (MIXES, k)),
        scale=(scale, torch.float32, (3,)),
        base=(base, torch.float32, (MIXES,)),
    )
    split = config.size("SPLIT_K")
    parts = partials(tokens, split, residual.device)
    grid = (triton.cdiv(tokens, config.size("BLOCK_M")), split)
    project[grid](residual, fn, *parts, tokens, k, OUT=MIXES, **options(config))
    return mixed(residual, parts, scale, base)
