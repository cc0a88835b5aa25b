"""The two norms behind the fused projection, one launch: q latents to FP8 for their GEMMs, keys = values to bf16 (K4).

Rows of the projection are [q_cols | kv_cols | rest_cols]; the first two are normed each by itself, by programs of their
own. The rest, V3.2's rotary part of the keys, goes along with the keys as it is.
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
from autotune.kernels._problem import Sizes, at_least, multiple_of
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

GROUP = 128
EPS = 1e-6


@dataclass(frozen=True)
class Problem(Sizes):
    tokens: int
    q_cols: int
    kv_cols: int
    rest_cols: int = 0
    ue8m0: bool = False
    dtype: str = "e4m3fn"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, kv_cols=GROUP)
        multiple_of(self, q_cols=GROUP)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(
            args.qkv.shape[0], args.q_weight.shape[0], args.kv_weight.shape[0], args.rest_cols, args.ue8m0, args.dtype
        )

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | str, ...]:
        draw = Draw(seed, device)
        return (
            draw.normal((self.tokens, self.q_cols + self.kv_cols + self.rest_cols), torch.bfloat16),
            draw.uniform((self.q_cols,), 0.5, 1.5),
            draw.uniform((self.kv_cols,), 0.5, 1.5),
            self.rest_cols,
            self.ue8m0,
            self.dtype,
        )

    @property
    def flops(self) -> int:
        return 8 * self.tokens * self.q_cols + 4 * self.tokens * self.kv_cols

    @property
    def bytes_moved(self) -> int:
        weights = 4 * (self.q_cols + self.kv_cols)
        kv = 4 * (self.kv_cols + self.rest_cols)
        return self.tokens * (3 * self.q_cols + bytes_of_scale(self.ue8m0) * self.q_cols // GROUP + kv) + weights


@triton.jit
def _normed(x_ptr, weight_ptr, row, in_rows, stride, cols, eps, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    mask = in_rows[:, None] & (col < cols)[None, :]
    x = tl.load(x_ptr + row[:, None] * stride + col[None, :], mask=mask, other=0.0).to(tl.float32)
    rstd = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) / cols + eps)
    weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0)
    return x * rstd[:, None] * weight[None, :], mask


@triton.jit(do_not_specialize=["tokens"])
def _qkv_rms_norm(
    q_ptr, q_scale_ptr, kv_ptr, x_ptr, q_weight_ptr, kv_weight_ptr, tokens, q_cols, kv_cols, eps, floor,
    ROWS: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_KV: tl.constexpr, REST: tl.constexpr, BLOCK_REST: tl.constexpr,
    FP8_MAX: tl.constexpr, UE8M0: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_rows = row < tokens
    stride = q_cols + kv_cols + REST
    if tl.program_id(1) == 0:
        q, in_q = _normed(x_ptr, q_weight_ptr, row, in_rows, stride, q_cols, eps, BLOCK_Q)
        q, scale = fp8_groups(q, floor, ROWS, BLOCK_Q, 128, FP8_MAX, UE8M0)
        q_ptrs = q_ptr + row[:, None] * q_cols + tl.arange(0, BLOCK_Q)[None, :]
        tl.store(q_ptrs, q.to(q_ptr.dtype.element_ty), mask=in_q)
        group = tl.arange(0, BLOCK_Q // 128)
        inside = in_rows[:, None] & (group < q_cols // 128)[None, :]
        scale = stored_scales(scale, UE8M0)
        tl.store(q_scale_ptr + row[:, None] * (q_cols // 128) + group[None, :], scale, mask=inside)
    else:
        kv, in_kv = _normed(x_ptr + q_cols, kv_weight_ptr, row, in_rows, stride, kv_cols, eps, BLOCK_KV)
        kv_rows = kv_ptr + row[:, None] * (kv_cols + REST)
        tl.store(kv_rows + tl.arange(0, BLOCK_KV)[None, :], kv.to(tl.bfloat16), mask=in_kv)
        if REST > 0:
            col = tl.arange(0, BLOCK_REST)[None, :]
            in_rest = in_rows[:, None] & (col < REST)
            rest = tl.load(x_ptr + row[:, None] * stride + q_cols + kv_cols + col, mask=in_rest)
            tl.store(kv_rows + kv_cols + col, rest, mask=in_rest)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    def normed(x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + EPS) * weight.double()

    q, kv, rest = args.qkv.double().split((problem.q_cols, problem.kv_cols, args.rest_cols), 1)
    kv = normed(kv, args.kv_weight)
    # fp32 sums of squares (halved by the root), a few roundings, then FP8 or bf16.
    relative = (max(problem.q_cols, problem.kv_cols) / 2 + 4) * 2.0**-24
    quantised = expect_fp8("q * scale", normed(q, args.q_weight), relative, GROUP, args.dtype, args.ue8m0)
    bound = torch.cat((kv.abs() * (relative + 2.0**-8), torch.zeros_like(rest)), 1)
    return (*quantised, Expected("kv", torch.cat((kv, rest), 1), bound))


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, scale, kv = outputs
    return *decode_fp8(q, scale, GROUP), kv.double()


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 1, "num_warps": 4}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    widest = triton.next_power_of_2(max(problem.q_cols, problem.kv_cols))
    return row_reject(config.size("ROWS"), widest, config, device, 64) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    programs = 2 * triton.cdiv(problem.tokens, rows)
    q_width = 3 + bytes_of_scale(problem.ue8m0) / GROUP
    return Work(
        programs=programs,
        flops_per_program=problem.flops * rows / problem.tokens / 2,
        bytes_per_program=(q_width * problem.q_cols + 4 * (problem.kv_cols + problem.rest_cols)) * rows / 2
        + 2 * (problem.q_cols + problem.kv_cols),
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_qkv_rms_norm, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def qkv_rms_norm(
    qkv: Tensor,
    q_weight: Tensor,
    kv_weight: Tensor,
    rest_cols: int = 0,
    ue8m0: bool = False,
    dtype: str = "e4m3fn",
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, Tensor, Tensor]:
    """qkv bf16 [tokens, q_cols + kv_cols + rest_cols] -> (q FP8 [tokens, q_cols], scale, kv).

    scale fp32 [tokens, q_cols / 128], or with `ue8m0` powers of two as e8m0 uint8; kv bf16 [tokens, kv_cols +
    rest_cols] with the rest copied; weights fp32 [q_cols] and [kv_cols]. NaN or any bits in a row reach its own row
    only; an infinity makes it NaN and zeros. No tokens are no launch. Raises UsageError for other dtypes, shapes or
    strides.
    """
    require("qkv_rms_norm", q_weight=(q_weight, torch.float32, (None,)), kv_weight=(kv_weight, torch.float32, (None,)))
    q_cols, kv_cols = q_weight.shape[0], kv_weight.shape[0]
    if rest_cols < 0:
        raise UsageError(f"qkv_rms_norm: rest_cols must not be negative, got {rest_cols}")
    require("qkv_rms_norm", home=q_weight, qkv=(qkv, torch.bfloat16, (None, q_cols + kv_cols + rest_cols)))
    if q_cols % GROUP or dtype not in FP8:
        raise UsageError(
            f"qkv_rms_norm: q_weight must have a multiple of {GROUP} entries, dtype be one of {', '.join(FP8)}; "
            f"got {q_cols}, {dtype!r}"
        )
    tokens, home = qkv.shape[0], qkv.device
    q = torch.empty((tokens, q_cols), dtype=FP8[dtype], device=home)
    scale = torch.empty((tokens, q_cols // GROUP), dtype=scale_dtype(ue8m0), device=home)
    kv = torch.empty((tokens, kv_cols + rest_cols), dtype=torch.bfloat16, device=home)
    grid = (triton.cdiv(tokens, config.size("ROWS")), 2)
    launch(_qkv_rms_norm, grid)(
        q, scale, kv, qkv, q_weight, kv_weight, tokens, q_cols, kv_cols, EPS, AMAX_FLOOR,
        BLOCK_Q=triton.next_power_of_2(q_cols), BLOCK_KV=triton.next_power_of_2(kv_cols),
        REST=rest_cols, BLOCK_REST=triton.next_power_of_2(rest_cols),
        FP8_MAX=FP8_MAX[dtype], UE8M0=ue8m0, **options(config),
    )  # fmt: skip
    return q, scale, kv
