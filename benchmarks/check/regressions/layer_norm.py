"""LayerNorm of one row a program in fp16, after the description of triton#11127."""

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

EPS = 1e-5


@dataclass(frozen=True)
class Problem:
    rows: int
    cols: int

    VARYING: ClassVar[tuple[str, ...]] = ("rows",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(*args.x.shape)

    @property
    def flops(self) -> int:
        return 8 * self.rows * self.cols

    @property
    def bytes_moved(self) -> int:
        return 4 * self.rows * self.cols + 4 * self.cols

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        return tuple(
            draw.normal(shape, torch.float16) for shape in ((self.rows, self.cols), (self.cols,), (self.cols,))
        )


@triton.jit
def _layer_norm(y_ptr, x_ptr, weight_ptr, bias_ptr, cols, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    col = tl.arange(0, BLOCK)
    mask = col < cols
    x = tl.load(x_ptr + row * cols + col, mask=mask, other=0.0).to(tl.float32)
    centered = x - tl.sum(x, 0) / cols
    variance = tl.sum(tl.where(mask, centered * centered, 0.0), 0) / cols
    weight = tl.load(weight_ptr + col, mask=mask, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + col, mask=mask, other=0.0).to(tl.float32)
    y = centered * tl.rsqrt(variance + eps) * weight + bias
    tl.store(y_ptr + row * cols + col, y.to(tl.float16), mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    x, weight, bias = (tensor.double() for tensor in args)
    centered = x - x.mean(1, keepdim=True)
    scaled = centered * torch.rsqrt(centered.square().mean(1, keepdim=True) + EPS) * weight
    return (Expected("y", scaled + bias, (scaled.abs() + bias.abs()) * 2.0**-9 + 1e-4),)


def _default(problem: Problem, device: Device) -> Config:
    return Config({"BLOCK": triton.next_power_of_2(problem.cols), "num_warps": 16, "num_stages": 2})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return None


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return Work(problem.rows, 8.0 * problem.cols, 4.0 * problem.cols, problem.bytes_moved)


@tunable(Problem, jit=_layer_norm, reference=_reference, default=_default, reject=_reject, work=_work)
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, config: Config, device: Device) -> Tensor:
    """x [rows, cols] fp16, weight and bias [cols] fp16 -> fp16 [rows, cols]."""
    y = torch.empty_like(x)
    _layer_norm[(x.shape[0],)](y, x, weight, bias, x.shape[1], EPS, **config)
    return y
