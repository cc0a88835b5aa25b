"""LayerNorm of short rows: the keys of V3.2's indexer, 128 wide; a row is one block (K10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Library, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Rows, at_least, at_most
from autotune.kernels._rows import row_config, row_reject, row_work

EPS = 1e-6
WIDEST = 8192


@dataclass(frozen=True)
class Problem(Rows):
    cols: int

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, cols=16)
        at_most(self, cols=WIDEST)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.x.shape[1])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        x = draw.normal((self.rows, self.cols), torch.bfloat16)
        return x, draw.uniform((self.cols,), 0.5, 1.5), draw.normal((self.cols,), torch.float32)

    @property
    def flops(self) -> int:
        return 7 * self.rows * self.cols

    @property
    def bytes_moved(self) -> int:
        return 4 * self.rows * self.cols + 8 * self.cols


@triton.jit(do_not_specialize=["rows"])
def _layer_norm(y_ptr, x_ptr, weight_ptr, bias_ptr, rows, cols, eps, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    inside = (col < cols)[None, :]
    mask = (row < rows)[:, None] & inside
    offs = row[:, None] * cols + col[None, :]
    x = tl.load(x_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    # The mean first: squares of centred values do not cancel.
    x = tl.where(inside, x - (tl.sum(x, axis=1) / cols)[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) / cols + eps)
    weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0)
    bias = tl.load(bias_ptr + col, mask=col < cols, other=0.0)
    y = x * rstd[:, None] * weight[None, :] + bias[None, :]
    tl.store(y_ptr + offs, y.to(tl.bfloat16), mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide = args.x.double()
    centred = wide - wide.mean(1, keepdim=True)
    rstd = torch.rsqrt(centred.square().mean(1, keepdim=True) + EPS)
    scaled = centred * rstd * args.weight.double()
    y = scaled + args.bias.double()
    # The mean errs by cols roundings of the mean magnitude, the variance by cols/2 relative; then bf16.
    u = 2.0**-24
    centre = problem.cols * u * wide.abs().mean(1, keepdim=True) * rstd * args.weight.double().abs()
    bound = 2 * centre + (problem.cols + 6) * u * scaled.abs() + 2 * u * y.abs() + 2.0**-8 * y.abs()
    return (Expected("y", y, bound),)


def _torch(problem: Problem, args: Arguments) -> Callable[[], Tensor]:
    """LayerNorm in fp32, like DeepSeek's own code: torch has no CUDA kernel of two dtypes."""
    return lambda: F.layer_norm(args.x.float(), (problem.cols,), args.weight, args.bias, EPS).to(args.x.dtype)


def _default(problem: Problem, device: Device) -> Config:
    block = triton.next_power_of_2(problem.cols)
    return row_config({"ROWS": 4 if block <= 512 else 1, "BLOCK": block, "num_warps": 1 if block <= 512 else 4}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    if config.size("BLOCK") != triton.next_power_of_2(problem.cols):
        return f"BLOCK={config['BLOCK']} must be the power of two that holds a row of {problem.cols}"
    return row_reject(config.size("ROWS"), config.size("BLOCK"), config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    cols = problem.cols
    return row_work(problem, problem.rows, config, flops=7 * cols, row_bytes=4 * cols, program_bytes=8 * cols)


@tunable(
    Problem,
    jit=_layer_norm,
    reference=_reference,
    default=_default,
    reject=_reject,
    work=_work,
    library=Library("torch.nn.functional.layer_norm in fp32", _torch),
)
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, *, config: Config, device: Device) -> Tensor:
    """x bf16 [rows, cols], weight and bias fp32 [cols] -> bf16 [rows, cols].

    NaN or any bits in a row reach its own row only. No rows are no launch. Raises UsageError for anything else.
    """
    require("layer_norm", x=(x, torch.bfloat16, (None, None)))
    rows, cols = x.shape
    require(
        "layer_norm",
        x=(x, x.dtype, (rows, cols)),
        weight=(weight, torch.float32, (cols,)),
        bias=(bias, torch.float32, (cols,)),
    )
    y = torch.empty_like(x)
    launch(_layer_norm, (triton.cdiv(rows, config.size("ROWS")),))(
        y, x, weight, bias, rows, cols, EPS, **options(config)
    )
    return y
