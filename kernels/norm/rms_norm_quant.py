"""RMSNorm, with an optional residual add before it, and FP8 quantisation in groups of 128 after it.

One program owns ROWS rows; a row that fits BLOCK is read once, a longer one twice. The normed rows are left in bf16 too
where bf16 GEMMs read them beside the FP8 ones.
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
from autotune.kernels._launch import launch, options, require, require_fp8
from autotune.kernels._problem import Rows, multiple_of
from autotune.kernels._quant import (
    AMAX_FLOOR,
    FP8_MAX,
    bytes_of_scale,
    decode_fp8,
    expect_fp8,
    fp8_groups,
    scale_dtype,
    stored_scales,
)
from autotune.kernels._rows import fp8_reject, row_config, row_reject
from autotune.kernels.norm._residual import add_residual, load_sum

GROUP = 128
EPS = 1e-6


@dataclass(frozen=True)
class Problem(Rows):
    """`residual`: x + residual is normed, and returned; `ue8m0`: scales are e8m0; `normed`: bf16 rows too."""

    cols: int
    residual: bool = False
    ue8m0: bool = False
    normed: bool = False
    dtype: str = "e4m3fn"

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple_of(self, cols=GROUP)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.x.shape[0], args.x.shape[1], args.residual is not None, args.ue8m0, args.normed, args.dtype)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | bool | str | None, ...]:
        draw = Draw(seed, device)
        x = draw.normal((self.rows, self.cols), torch.bfloat16)
        weight = draw.uniform((self.cols,), 0.5, 1.5)
        residual = draw.normal((self.rows, self.cols), torch.bfloat16) if self.residual else None
        return x, weight, residual, self.ue8m0, self.normed, self.dtype

    @property
    def flops(self) -> int:
        return 8 * self.rows * self.cols

    @property
    def _scale_bytes(self) -> int:
        return bytes_of_scale(self.ue8m0) * self.rows * self.cols // GROUP

    @property
    def bytes_moved(self) -> int:
        per_element = 2 + 1 + (4 if self.residual else 0) + (2 if self.normed else 0)
        return self.rows * self.cols * per_element + self._scale_bytes + 4 * self.cols


@triton.jit
def _epilogue(
    y, q_ptr, scale_ptr, normed_ptr, row, offs_c, mask, cols, eps_amax,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, FP8_MAX: tl.constexpr, UE8M0: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    if NORMED:
        tl.store(normed_ptr + row[:, None] * cols + offs_c[None, :], y.to(tl.bfloat16), mask=mask)
    y, scale = fp8_groups(y, eps_amax, ROWS, BLOCK, 128, FP8_MAX, UE8M0)
    q = y.to(q_ptr.dtype.element_ty)
    tl.store(q_ptr + row[:, None] * cols + offs_c[None, :], q, mask=mask)
    groups = tl.min(offs_c, axis=0) // 128 + tl.arange(0, BLOCK // 128)
    inside = (tl.max(mask.to(tl.int32), axis=1) > 0)[:, None] & (groups < cols // 128)[None, :]
    tl.store(scale_ptr + row[:, None] * (cols // 128) + groups[None, :], stored_scales(scale, UE8M0), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _rms_norm_quant(
    q_ptr, scale_ptr, sum_ptr, normed_ptr, x_ptr, residual_ptr, weight_ptr, rows, cols, eps, eps_amax,
    ROWS: tl.constexpr, BLOCK: tl.constexpr, ONE_PASS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    FP8_MAX: tl.constexpr, UE8M0: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    offs_c = tl.arange(0, BLOCK)
    in_rows = (row < rows)[:, None]
    if ONE_PASS:
        mask = in_rows & (offs_c < cols)[None, :]
        offs = row[:, None] * cols + offs_c[None, :]
        h = load_sum(x_ptr, residual_ptr, offs, mask, HAS_RESIDUAL)
        if HAS_RESIDUAL:
            tl.store(sum_ptr + offs, h.to(tl.bfloat16), mask=mask)
        rstd = 1.0 / tl.sqrt(tl.sum(h * h, axis=1) / cols + eps)
        weight = tl.load(weight_ptr + offs_c, mask=offs_c < cols, other=0.0)
        y = h * rstd[:, None] * weight[None, :]
        _epilogue(
            y, q_ptr, scale_ptr, normed_ptr, row, offs_c, mask, cols, eps_amax, ROWS, BLOCK, FP8_MAX, UE8M0, NORMED
        )
    else:
        squares = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
        for start in range(0, cols, BLOCK):
            mask = in_rows & (start + offs_c < cols)[None, :]
            offs = row[:, None] * cols + (start + offs_c)[None, :]
            h = load_sum(x_ptr, residual_ptr, offs, mask, HAS_RESIDUAL)
            if HAS_RESIDUAL:
                tl.store(sum_ptr + offs, h.to(tl.bfloat16), mask=mask)
            squares += h * h
        rstd = 1.0 / tl.sqrt(tl.sum(squares, axis=1) / cols + eps)
        for start in range(0, cols, BLOCK):
            offs_s = start + offs_c
            mask = in_rows & (offs_s < cols)[None, :]
            h = load_sum(x_ptr, residual_ptr, row[:, None] * cols + offs_s[None, :], mask, HAS_RESIDUAL)
            weight = tl.load(weight_ptr + offs_s, mask=offs_s < cols, other=0.0)
            y = h * rstd[:, None] * weight[None, :]
            _epilogue(
                y, q_ptr, scale_ptr, normed_ptr, row, offs_s, mask, cols, eps_amax, ROWS, BLOCK, FP8_MAX, UE8M0, NORMED
            )


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    h = add_residual(args.x, args.residual)
    y = h * torch.rsqrt(h.square().mean(1, keepdim=True) + EPS) * args.weight.double()
    # fp32 sum of `cols` squares, root, two products: cols/2 + 4 roundings.
    relative = (problem.cols / 2 + 4) * 2.0**-24
    outputs = [*expect_fp8("q * scale", y, relative, GROUP, args.dtype, args.ue8m0)]
    if args.residual is not None:
        outputs.append(Expected("sum", h, torch.zeros_like(h)))
    if args.normed:
        outputs.append(Expected("normed", y, y.abs() * (relative + 2.0**-8)))
    return tuple(outputs)


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, scale, *rest = outputs
    return (*decode_fp8(q, scale, GROUP), *(tensor.double() for tensor in rest))


def _default(problem: Problem, device: Device) -> Config:
    block = min(triton.next_power_of_2(problem.cols), 8192)
    return row_config({"ROWS": 1, "BLOCK": block, "num_warps": 4 if block <= 2048 else 8}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    rows, block = config.size("ROWS"), config.size("BLOCK")
    if block < GROUP:
        return f"BLOCK={block} is shorter than a scale group of {GROUP}"
    if block >= 2 * problem.cols:
        return f"BLOCK={block} is at least twice the row of {problem.cols}: half the lanes would idle"
    return row_reject(rows, block, config, device) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    passes = 1 if config.size("BLOCK") >= problem.cols else 2
    read = 4 if problem.residual else 2
    written = 1 + (2 if problem.residual else 0) + (2 if problem.normed else 0)
    return Work(
        programs=triton.cdiv(problem.rows, rows),
        flops_per_program=8 * rows * problem.cols * passes,
        bytes_per_program=rows * problem.cols * (read * passes + written) + 4 * problem.cols,
        unique_bytes=problem.bytes_moved,
        iterations=passes * triton.cdiv(problem.cols, config.size("BLOCK")),
    )


@tunable(
    Problem, jit=_rms_norm_quant, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work
)
def rms_norm_quant(
    x: Tensor,
    weight: Tensor,
    residual: Tensor | None = None,
    ue8m0: bool = False,
    normed: bool = False,
    dtype: str = "e4m3fn",
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, ...]:
    """x bf16 [rows, cols], weight fp32 [cols] -> (FP8 [rows, cols], scale fp32 [rows, cols/128]).

    With `ue8m0` scales are powers of two, as e8m0 uint8. With a residual bf16 [rows, cols], x + residual comes next;
    with `normed`, the normed rows in bf16 come last. NaN or any bits in a row reach its own row only; an infinity makes
    it NaN and zeros. No rows are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    _check(x, weight, residual, dtype)
    rows, cols = x.shape
    q = torch.empty((rows, cols), dtype=FP8[dtype], device=x.device)
    scale = torch.empty((rows, cols // GROUP), dtype=scale_dtype(ue8m0), device=x.device)
    total = None if residual is None else torch.empty_like(x)
    wide = torch.empty_like(x) if normed else None
    grid = (triton.cdiv(rows, config.size("ROWS")),)
    launch(_rms_norm_quant, grid)(
        q, scale, total, wide, x, residual, weight, rows, cols, EPS, AMAX_FLOOR,
        ONE_PASS=config.size("BLOCK") >= cols, HAS_RESIDUAL=residual is not None,
        FP8_MAX=FP8_MAX[dtype], UE8M0=ue8m0, NORMED=normed, **options(config),
    )  # fmt: skip
    return (q, scale, *(tensor for tensor in (total, wide) if tensor is not None))


def _check(x: Tensor, weight: Tensor, residual: Tensor | None, dtype: str) -> None:
    require_fp8("rms_norm_quant", dtype)
    require("rms_norm_quant", x=(x, torch.bfloat16, (None, None)))
    if x.shape[1] % GROUP:
        raise UsageError(f"rms_norm_quant: x must have a multiple of {GROUP} columns, got {x.shape[1]}")
    require("rms_norm_quant", home=x, weight=(weight, torch.float32, (x.shape[1],)))
    if residual is not None:
        require("rms_norm_quant", home=x, residual=(residual, x.dtype, x.shape))
