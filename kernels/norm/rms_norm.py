"""RMSNorm in bf16, with an optional residual add before it: norms whose output no FP8 GEMM reads (K4).

Such as the final one and those of MTP.
"""

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
from autotune.kernels._problem import Rows, at_least
from autotune.kernels._rows import block_reject, row_config
from autotune.kernels.norm._residual import add_residual, load_sum

EPS = 1e-6


@dataclass(frozen=True)
class Problem(Rows):
    """`residual`: x + residual is normed and returned too."""

    cols: int
    residual: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, cols=16)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.x.shape[1], args.residual is not None)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | None, ...]:
        draw = Draw(seed, device)
        x = draw.normal((self.rows, self.cols), torch.bfloat16)
        weight = draw.uniform((self.cols,), 0.5, 1.5)
        return x, weight, draw.normal((self.rows, self.cols), torch.bfloat16) if self.residual else None

    @property
    def flops(self) -> int:
        return 4 * self.rows * self.cols

    @property
    def bytes_moved(self) -> int:
        return (8 if self.residual else 4) * self.rows * self.cols + 4 * self.cols


@triton.jit(do_not_specialize=["rows"])
def _rms_norm(
    y_ptr, sum_ptr, x_ptr, residual_ptr, weight_ptr, rows, cols, eps,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_rows = (row < rows)[:, None]
    squares = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        mask = in_rows & (col < cols)[None, :]
        offs = row[:, None] * cols + col[None, :]
        h = load_sum(x_ptr, residual_ptr, offs, mask, HAS_RESIDUAL)
        if HAS_RESIDUAL:
            tl.store(sum_ptr + offs, h.to(tl.bfloat16), mask=mask)
        squares += h * h
    rstd = 1.0 / tl.sqrt(tl.sum(squares, axis=1) / cols + eps)
    # A row of one block is loaded again all the same: from L1, and no second form of the code is needed.
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        mask = in_rows & (col < cols)[None, :]
        offs = row[:, None] * cols + col[None, :]
        h = load_sum(x_ptr, residual_ptr, offs, mask, HAS_RESIDUAL)
        weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0)
        tl.store(y_ptr + offs, (h * rstd[:, None] * weight[None, :]).to(tl.bfloat16), mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    h = add_residual(args.x, args.residual)
    y = h * torch.rsqrt(h.square().mean(1, keepdim=True) + EPS) * args.weight.double()
    # cols squares added in fp32 (halved by the root), a few roundings, then bf16.
    expected = Expected("y", y, y.abs() * ((problem.cols / 2 + 4) * 2.0**-24 + 2.0**-8))
    return (expected,) if args.residual is None else (expected, Expected("sum", h, torch.zeros_like(h)))


def _torch(problem: Problem, args: Arguments) -> Callable[[], Tensor | tuple[Tensor, Tensor]]:
    narrow = args.weight.to(args.x.dtype)  # torch has no fused kernel of two dtypes; checkpoints hold bf16

    def call() -> Tensor | tuple[Tensor, Tensor]:
        total = args.x if args.residual is None else args.x + args.residual
        y = F.rms_norm(total, (problem.cols,), narrow, EPS)
        return y if args.residual is None else (y, total)

    return call


def _default(problem: Problem, device: Device) -> Config:
    block = min(triton.next_power_of_2(problem.cols), 4096)
    return row_config({"ROWS": 1, "BLOCK": block, "num_warps": 4 if block <= 2048 else 8}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return block_reject(problem.cols, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    # Read twice, written once, with a residual both twice over.
    passes = 6 * (2 if problem.residual else 1)
    return Work(
        programs=triton.cdiv(problem.rows, rows),
        flops_per_program=4 * rows * problem.cols,
        bytes_per_program=passes * rows * problem.cols + 4 * problem.cols,
        unique_bytes=problem.bytes_moved,
        iterations=2 * triton.cdiv(problem.cols, config.size("BLOCK")),
    )


@tunable(
    Problem,
    jit=_rms_norm,
    reference=_reference,
    default=_default,
    reject=_reject,
    work=_work,
    library=Library("torch.nn.functional.rms_norm, bf16 weight", _torch),
)
def rms_norm(
    x: Tensor, weight: Tensor, residual: Tensor | None = None, *, config: Config, device: Device
) -> Tensor | tuple[Tensor, Tensor]:
    """x bf16 [rows, cols], weight fp32 [cols] -> bf16 [rows, cols]; with a residual like x, (that, x + residual).

    NaN or any bits in a row reach its own row only; an infinity makes it NaN and zeros. No rows are no launch. Raises
    UsageError for other dtypes, shapes or strides.
    """
    require("rms_norm", x=(x, torch.bfloat16, (None, None)))
    rows, cols = x.shape
    require("rms_norm", x=(x, x.dtype, (rows, cols)), weight=(weight, torch.float32, (cols,)))
    if residual is not None:
        require("rms_norm", home=x, residual=(residual, x.dtype, x.shape))
    y = torch.empty_like(x)
    total = None if residual is None else torch.empty_like(x)
    launch(_rms_norm, (triton.cdiv(rows, config.size("ROWS")),))(
        y, total, x, residual, weight, rows, cols, EPS, HAS_RESIDUAL=residual is not None, **options(config)
    )
    return y if total is None else (y, total)
