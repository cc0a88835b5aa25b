"""mHC head: four streams collapse into one before the final norm, y = sum_i (sigmoid(m_i s + b_i) + eps) x_i (K3)."""

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
            draw.normal((STREAMS, k), torch.float32, k**-0.5),
            draw.uniform((1,), 0.5, 1.5),
            draw.normal((STREAMS,), torch.float32, 0.5),
        )

    @property
    def flops(self) -> int:
        return 2 * self.tokens * STREAMS * STREAMS * self.dim

    @property
    def bytes_moved(self) -> int:
        streams = 2 * self.tokens * STREAMS * self.dim
        return streams + streams // STREAMS + 4 * STREAMS * STREAMS * self.dim


def _reference(problem: Problem, residual: Tensor, fn: Tensor, scale: Tensor, base: Tensor) -> tuple[Expected, ...]:
    x = residual.double()
    return expect_mixed(x, fn, scale, base, torch.zeros_like(x))


def _decode(problem: Problem, output: Tensor) -> tuple[Tensor, ...]:
    return (output.double(),)


def _default(problem: Problem, device: Device) -> Config:
    return projection_default(problem.tokens, STREAMS * problem.dim, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return projection_reject(STREAMS * problem.dim, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return projection_work(problem.tokens, STREAMS * problem.dim, STREAMS, config, problem.bytes_moved)


@tunable(Problem, jit=project, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def mhc_head(residual: Tensor, fn: Tensor, scale: Tensor, base: Tensor, *, config: Config, device: Device) -> Tensor:
    """Streams bf16 [tokens, 4, dim] -> bf16 [tokens, dim]; fn fp32 [4, 4 dim], scale fp32 [1], base fp32 [4].

    Raises UsageError for other dtypes, shapes or strides.
    """
    require("mhc_head", residual=(residual, torch.bfloat16, (None, STREAMS, None)))
    tokens, k = residual.shape[0], STREAMS * residual.shape[2]
    require(
        "mhc_head",
        residual=(residual, torch.bfloat16, residual.shape),
        fn=(fn, torch.float32, (STREAMS, k)),
        scale=(scale, torch.float32, (1,)),
        base=(base, torch.float32, (STREAMS,)),
    )
    split = config.size("SPLIT_K")
    parts = partials(tokens, split, residual.device)
    grid = (triton.cdiv(tokens, config.size("BLOCK_M")), split)
    project[grid](residual, fn, *parts, tokens, k, OUT=STREAMS, **options(config))
    return mixed(residual, parts, scale, base, head=True)[0]
