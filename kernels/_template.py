"""Softmax over the rows of a matrix: a kernel that is right and can be tuned, to be turned into your own.

It is six parts, in the order in which they are needed, and `kernel_name.yaml` beside it, which says what may be
tuned and on which sizes it is proved. Prove it after each change: autotune validate kernel_name.py --device h100
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune import Config, Device, tunable
from autotune.inputs import Draw
from autotune.kernel import Arguments


# 1. What a call asks for: the sizes and flags (integers, booleans, strings) by which the best config differs.
@dataclass(frozen=True)
class Problem:
    rows: int
    cols: int

    VARYING: ClassVar[tuple[str, ...]] = ("rows",)  # a config tuned for one number of these may serve another

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.x.shape[1])  # `args` has the launcher's arguments, by name

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        return (Draw(seed, device).normal((self.rows, self.cols), torch.bfloat16),)  # those arguments, in their order


# 2. Device code. What is tuned is a tl.constexpr in capitals, or a launch option such as num_warps.
@triton.jit
def _kernel(y_ptr, x_ptr, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)  # in 32 bits, row * cols overflows from 2^31 elements on
    col = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * cols + col, mask=col < cols, other=float("-inf")).to(tl.float32)
    power = tl.exp(x - tl.max(x, axis=0))
    tl.store(y_ptr + row * cols + col, (power / tl.sum(power, axis=0)).to(tl.bfloat16), mask=col < cols)


# 3. What each output must be, in plain torch, written from the maths and not from the kernel.
def _reference(problem: Problem, args: Arguments) -> Tensor:
    return torch.softmax(args.x.double(), dim=1)


# 4. A config that is good enough anywhere: the first that is tried, and what serves where nothing was tuned.
def _default(problem: Problem, device: Device) -> Config:
    return Config(BLOCK=triton.next_power_of_2(problem.cols), num_warps=4)


# 5. Why a config cannot run on a problem, or None. What passes must be right there, however slow.
def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return "BLOCK must hold a row" if config.size("BLOCK") < problem.cols else None


# 6. The public function, of the file's name. An output may differ from its reference r by tolerance * (1 + |r|).
@tunable(Problem, jit=_kernel, reference=_reference, tolerance=1e-2, default=_default, reject=_reject)
def kernel_name(x: Tensor, *, config: Config, device: Device) -> Tensor:
    """x bf16 [rows, cols], contiguous -> bf16 [rows, cols]."""
    if x.ndim != 2 or x.dtype != torch.bfloat16 or not x.is_contiguous():
        raise ValueError(f"x must be contiguous bf16 [rows, cols], got {x.dtype} {list(x.shape)}, strides {x.stride()}")
    y = torch.empty_like(x)
    if x.shape[0]:
        _kernel[(x.shape[0],)](y, x, x.shape[1], **config)
    return y
