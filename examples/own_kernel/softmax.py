"""Softmax over the rows of a bf16 matrix; one program owns ROWS whole rows, padded to BLOCK columns."""

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
from autotune.kernels._launch import options, require
from autotune.kernels._problem import Rows, at_least
from autotune.kernels._rows import row_config, row_reject


@dataclass(frozen=True)
class Problem(Rows):
    """One row of a table may serve any number of `rows`; `cols` must agree."""

    cols: int

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, cols=16)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.x.shape[1])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        return (Draw(seed, device).normal((self.rows, self.cols), torch.bfloat16),)

    @property
    def flops(self) -> int:
        return 5 * self.rows * self.cols

    @property
    def bytes_moved(self) -> int:
        return 4 * self.rows * self.cols


@triton.jit(do_not_specialize=["rows"])
def _softmax(y_ptr, x_ptr, rows, cols, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    mask = (row < rows)[:, None] & (col < cols)[None, :]
    offsets = row[:, None] * cols + col[None, :]
    x = tl.load(x_ptr + offsets, mask=mask, other=float("-inf")).to(tl.float32)
    # Rows past the end hold nothing but -inf: a maximum of 0 keeps them from becoming NaN.
    most = tl.where(row < rows, tl.max(x, axis=1), 0.0)
    power = tl.exp(x - most[:, None])
    total = tl.where(row < rows, tl.sum(power, axis=1), 1.0)
    tl.store(y_ptr + offsets, (power / total[:, None]).to(tl.bfloat16), mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    y = torch.softmax(args.x.double(), dim=1)
    # exp to 2^-22 of a difference that fp32 rounds, cols terms added in fp32, a division, then bf16.
    # Where x is -inf the spread is infinite, and y is exactly 0: it has no error.
    spread = (args.x.double().amax(1, keepdim=True) - args.x.double()).nan_to_num(posinf=0.0)
    bound = y * ((problem.cols + 8 + spread) * 2.0**-24 + 2 * 2.0**-22 + 2.0**-8)
    return (Expected("y", y, bound),)


def _default(problem: Problem, device: Device) -> Config:
    block = triton.next_power_of_2(problem.cols)
    return row_config({"ROWS": 1, "BLOCK": block, "num_warps": min(16, max(1, block // 512))}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    if config.size("BLOCK") != triton.next_power_of_2(problem.cols):
        return f"BLOCK={config['BLOCK']} must be the power of two that holds a row of {problem.cols}"
    return row_reject(config.size("ROWS"), config.size("BLOCK"), config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    return Work(
        programs=triton.cdiv(problem.rows, rows),
        flops_per_program=5 * rows * config.size("BLOCK"),
        bytes_per_program=4 * rows * problem.cols,
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_softmax, reference=_reference, default=_default, reject=_reject, work=_work)
def softmax(x: Tensor, *, config: Config, device: Device) -> Tensor:
    """x bf16 [rows, cols] -> bf16 [rows, cols]. Raises UsageError for other dtypes, ranks or strides."""
    require("softmax", x=(x, torch.bfloat16, (None, None)))
    rows, cols = x.shape
    y = torch.empty_like(x)
    grid = (triton.cdiv(rows, config.size("ROWS")),)
    _softmax[grid](y, x, rows, cols, **options(config))
    return y
