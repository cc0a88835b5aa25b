"""Indexer keys of V3.2, one a token: LayerNorm, RoPE on the first 64 columns, Hadamard, FP8, a scale a row (K10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.draw import FP8, Draw
from autotune.errors import UsageError
from autotune.kernel import Expected, Work, tunable
from autotune.kernels._launch import options, require
from autotune.kernels._quant import AMAX_FLOOR, FP8_MAX, expect_fp8_within, fp8_groups
from autotune.kernels._rope import ROPE_DIM, rope_table
from autotune.kernels._rows import fp8_reject, row_config, row_reject
from autotune.kernels.indexer._spread import THETA, WIDTH, YARN, expect_spread, spread

EPS = 1e-6


@dataclass(frozen=True)
class Problem:
    tokens: int
    dtype: str = "e4m3fn"

    VARYING: ClassVar[tuple[str, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.dtype not in FP8:
            raise ValueError(f"tokens must be positive, dtype one of {', '.join(FP8)}; got {self}")

    @classmethod
    def of(
        cls, k: Tensor, weight: Tensor, bias: Tensor, table: Tensor, positions: Tensor, dtype: str = "e4m3fn"
    ) -> Problem:
        return cls(k.shape[0], dtype)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | str, ...]:
        draw = Draw(seed, device)
        return (
            draw.normal((self.tokens, WIDTH), torch.bfloat16),
            draw.uniform((WIDTH,), 0.5, 1.5),
            draw.normal((WIDTH,), torch.float32),
            rope_table(64, THETA, YARN).to(device),
            draw.integers((self.tokens,), 0, 64, torch.int32),
            self.dtype,
        )

    @property
    def flops(self) -> int:
        return 25 * self.tokens * WIDTH

    @property
    def bytes_moved(self) -> int:
        return self.tokens * (3 * WIDTH + 4 * ROPE_DIM + 4) + 8 * WIDTH


@triton.jit(do_not_specialize=["tokens"])
def _key_prep(
    q_ptr, scale_ptr, k_ptr, weight_ptr, bias_ptr, table_ptr, positions_ptr, tokens, eps, floor,
    ROWS: tl.constexpr, FP8_MAX: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, 128)
    inside = row < tokens
    offs = row[:, None] * 128 + col[None, :]
    x = tl.load(k_ptr + offs, mask=inside[:, None], other=0.0).to(tl.float32)
    # The mean first: squares of centred values do not cancel.
    x -= (tl.sum(x, axis=1) / 128)[:, None]
    rstd = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) / 128 + eps)
    x = x * rstd[:, None] * tl.load(weight_ptr + col)[None, :] + tl.load(bias_ptr + col)[None, :]
    position = tl.load(positions_ptr + row, mask=inside, other=0)
    q, scale = fp8_groups(spread(x, table_ptr, position, ROWS, True), floor, ROWS, 128, 128, FP8_MAX, True)
    tl.store(q_ptr + offs, q.to(q_ptr.dtype.element_ty), mask=inside[:, None])
    tl.store(scale_ptr + row, tl.reshape(scale, (ROWS,)), mask=inside)


def _reference(
    problem: Problem, k: Tensor, weight: Tensor, bias: Tensor, table: Tensor, positions: Tensor, dtype: str
) -> tuple[Expected, ...]:
    wide = k.double()
    centred = wide - wide.mean(1, keepdim=True)
    rstd = torch.rsqrt(centred.square().mean(1, keepdim=True) + EPS)
    scaled = centred * rstd * weight.double()
    y = scaled + bias.double()
    # The mean errs by 128 roundings of the mean magnitude, the variance by as many of itself, halved by the root.
    u = 2.0**-24
    centre = WIDTH * u * wide.abs().mean(1, keepdim=True) * rstd * weight.double().abs()
    error = 2 * centre + (WIDTH + 6) * u * scaled.abs() + 2 * u * y.abs()
    key, off = expect_spread(y, error, table[positions.long()], rope_first=True)
    return expect_fp8_within("k * scale", key, off, WIDTH, dtype, ue8m0=True)


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, scale = outputs
    wide = scale.double()[:, None]
    return q.double() * wide, wide


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 4, "num_warps": 1} if problem.tokens > 64 else {"ROWS": 1, "num_warps": 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return row_reject(config.size("ROWS"), WIDTH, config, device, 32) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    return Work(
        programs=triton.cdiv(problem.tokens, rows),
        flops_per_program=25 * rows * WIDTH,
        bytes_per_program=rows * (3 * WIDTH + 4 * ROPE_DIM + 4) + 8 * WIDTH,
        unique_bytes=problem.bytes_moved,
        iterations=1,
        dtype="fp32",
    )


@tunable(Problem, jit=_key_prep, reference=_reference, decode=_decode, rules=(_default, _reject, _work))
def key_prep(
    k: Tensor,
    weight: Tensor,
    bias: Tensor,
    table: Tensor,
    positions: Tensor,
    dtype: str = "e4m3fn",
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, Tensor]:
    """k bf16 [tokens, 128] -> (FP8 [tokens, 128], power-of-two scale fp32 [tokens]).

    weight and bias fp32 [128], table fp32 [positions, 64], positions int32 [tokens]. Raises UsageError for others.
    """
    if dtype not in FP8:
        raise UsageError(f"key_prep: dtype must be one of {', '.join(FP8)}, got {dtype!r}")
    require("key_prep", k=(k, torch.bfloat16, (None, WIDTH)))
    tokens = k.shape[0]
    require(
        "key_prep",
        k=(k, k.dtype, k.shape),
        weight=(weight, torch.float32, (WIDTH,)),
        bias=(bias, torch.float32, (WIDTH,)),
        table=(table, torch.float32, (None, ROPE_DIM)),
        positions=(positions, torch.int32, (tokens,)),
    )
    q = torch.empty((tokens, WIDTH), dtype=FP8[dtype], device=k.device)
    scale = torch.empty((tokens,), dtype=torch.float32, device=k.device)
    _key_prep[(triton.cdiv(tokens, config.size("ROWS")),)](
        q, scale, k, weight, bias, table, positions, tokens, EPS, AMAX_FLOOR, FP8_MAX=FP8_MAX[dtype], **options(config)
    )
    return q, scale
