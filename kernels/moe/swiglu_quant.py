"""Clamped SwiGLU between the two GEMMs of a feed-forward, quantised for the second (K21).

act = silu(min(gate, limit)) * clamp(up, -limit, limit), times the routing weight where there is one; FP8 in groups of
128 with fp32 or e8m0 scales, or microscaled in groups of 32 with e8m0 scales.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Rows, multiple_of
from autotune.kernels._quant import (
    AMAX_FLOOR,
    FP8_MAX,
    bytes_of_scale,
    decode_e8m0,
    decode_fp8,
    e8m0_exponents,
    expect_fp8_within,
    expect_mx,
    fp8_groups,
    mx_groups,
    scale_dtype,
    stored_scales,
)
from autotune.kernels._rows import block_reject, block_work, fp8_reject, row_config

LIMIT = 10.0


@dataclass(frozen=True)
class Problem(Rows):
    inner: int
    weighted: bool = False
    mx: bool = False
    dtype: str = "e4m3fn"
    ue8m0: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple_of(self, inner=self.group)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.x.shape[1] // 2, args.weight is not None, args.mx, args.dtype, args.ue8m0)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | bool | str | float | None, ...]:
        draw = Draw(seed, device)
        # Spread wide enough that the clamp cuts some of each.
        x = draw.normal((self.rows, 2 * self.inner), torch.bfloat16, 6.0)
        weight = draw.uniform((self.rows,), 0.1, 1.0) if self.weighted else None
        return x, weight, self.mx, self.dtype, LIMIT, self.ue8m0

    @property
    def group(self) -> int:
        return 32 if self.mx else 128

    @property
    def flops(self) -> int:
        return 8 * self.rows * self.inner

    @property
    def bytes_moved(self) -> int:
        scales = bytes_of_scale(self.ue8m0 or self.mx) * self.rows * self.inner // self.group
        return 5 * self.rows * self.inner + scales


@triton.jit(do_not_specialize=["rows"])
def _swiglu_quant(
    q_ptr, scale_ptr, x_ptr, weight_ptr, rows, inner, limit, floor,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, WEIGHTED: tl.constexpr, MX: tl.constexpr, FP8_MAX: tl.constexpr,
    UE8M0: tl.constexpr,
):  # fmt: skip
    GROUP: tl.constexpr = 32 if MX else 128
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_rows = row < rows
    mask = in_rows[:, None] & (col < inner)[None, :]
    at = x_ptr + row[:, None] * (2 * inner) + col[None, :]
    gate = tl.minimum(tl.load(at, mask=mask, other=0.0).to(tl.float32), limit, tl.PropagateNan.ALL)
    up = tl.clamp(tl.load(at + inner, mask=mask, other=0.0).to(tl.float32), -limit, limit, tl.PropagateNan.ALL)
    y = gate * tl.sigmoid(gate) * up
    if WEIGHTED:
        y *= tl.load(weight_ptr + row, mask=in_rows, other=0.0)[:, None]
    if MX:
        q, scale = mx_groups(y, ROWS, BLOCK, FP8_MAX)
    else:
        q, scale = fp8_groups(y, floor, ROWS, BLOCK, 128, FP8_MAX, UE8M0)
        scale = stored_scales(scale, UE8M0)
    tl.store(q_ptr + row[:, None] * inner + col[None, :], q.to(q_ptr.dtype.element_ty), mask=mask)
    group = tl.program_id(1) * (BLOCK // GROUP) + tl.arange(0, BLOCK // GROUP)
    inside = in_rows[:, None] & (group < inner // GROUP)[None, :]
    tl.store(scale_ptr + row[:, None] * (inner // GROUP) + group[None, :], scale, mask=inside)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    gate, up = args.x.double().chunk(2, 1)
    gate, up = gate.clamp_max(args.limit), up.clamp(-args.limit, args.limit)
    y = gate * torch.sigmoid(gate) * up
    if args.weight is not None:
        y = y * args.weight.double()[:, None]
    # exp of an argument up to |gate|, the division and three products in fp32.
    error = y.abs() * (gate.abs() + 8) * 2.0**-23
    if args.mx:
        return expect_mx("act", y, error, args.dtype)
    return expect_fp8_within("act", y, error, 128, args.dtype, args.ue8m0)


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, scale = outputs
    if problem.mx:
        return q.double() * decode_e8m0(scale), e8m0_exponents(scale)
    return decode_fp8(q, scale, 128)


def _default(problem: Problem, device: Device) -> Config:
    block = min(triton.next_power_of_2(problem.inner), 1024)
    return row_config({"ROWS": 1, "BLOCK": block, "num_warps": max(1, min(4, block // 256))}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return block_reject(problem.inner, config, device, 64) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return block_work(problem, problem.rows, problem.inner, config, flops=8, element_bytes=5)


@tunable(Problem, jit=_swiglu_quant, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def swiglu_quant(
    x: Tensor,
    weight: Tensor | None = None,
    mx: bool = False,
    dtype: str = "e4m3fn",
    limit: float = LIMIT,
    ue8m0: bool = False,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, Tensor]:
    """x bf16 [rows, 2 inner] (gate | up), weight fp32 [rows] -> (FP8 [rows, inner], scale fp32 [rows, inner / 128]).

    With `ue8m0` the scale is a power of two, as e8m0 uint8; with `mx` it is e8m0 uint8 [rows, inner / 32]. NaN and
    infinities that the clamp leaves make their own group NaN (`_quant`). No rows are no launch. Raises UsageError for
    other dtypes, shapes or strides.
    """
    name, group = "swiglu_quant", 32 if mx else 128
    require(name, x=(x, torch.bfloat16, (None, None)))
    rows, inner = x.shape[0], x.shape[1] // 2
    if x.shape[1] % (2 * group) or dtype not in FP8:
        raise UsageError(
            f"{name}: x must have two halves of whole groups of {group}, dtype be one of {', '.join(FP8)}; "
            f"got {x.shape[1]} columns, {dtype!r}"
        )
    if weight is not None:
        require(name, home=x, weight=(weight, torch.float32, (rows,)))
    q = torch.empty((rows, inner), dtype=FP8[dtype], device=x.device)
    scale = torch.empty((rows, inner // group), dtype=scale_dtype(ue8m0 or mx), device=x.device)
    grid = (triton.cdiv(rows, config.size("ROWS")), triton.cdiv(inner, config.size("BLOCK")))
    launch(_swiglu_quant, grid)(
        q, scale, x, weight, rows, inner, limit, AMAX_FLOOR,
        WEIGHTED=weight is not None, MX=mx, FP8_MAX=FP8_MAX[dtype], UE8M0=ue8m0, **options(config),
    )  # fmt: skip
    return q, scale
