"""Indexer queries: RoPE, Hadamard, then FP8 with a scale a head or FP4 with one for 32 columns, and head weights (K10).

The constant factors of the logits go into the weights, and in FP8 the query's scale too: the logits kernels then never
see it.
"""

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
from autotune.kernels._quant import (
    AMAX_FLOOR,
    FP8_MAX,
    decode_e8m0,
    decode_fp4,
    expect_fp8_within,
    expect_mx,
    fp4_encode,
    fp8_groups,
    mx_groups,
)
from autotune.kernels._rope import ROPE_DIM, rope_table
from autotune.kernels._rows import fp8_reject, row_config, row_reject
from autotune.kernels.indexer._spread import THETA, WIDTH, YARN, expect_spread, spread


@dataclass(frozen=True)
class Problem:
    """`rope_first`: the first 64 columns turn, as in V3.2; else the last."""

    tokens: int
    heads: int
    fp4: bool = False
    rope_first: bool = False
    dtype: str = "e4m3fn"

    VARYING: ClassVar[tuple[str, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        if min(self.tokens, self.heads) < 1 or self.dtype not in FP8:
            raise ValueError(f"sizes must be positive, dtype one of {', '.join(FP8)}; got {self}")

    @classmethod
    def of(
        cls,
        q: Tensor,
        weights: Tensor,
        table: Tensor,
        positions: Tensor,
        fp4: bool = False,
        rope_first: bool = False,
        dtype: str = "e4m3fn",
    ) -> Problem:
        return cls(q.shape[0], q.shape[1], fp4, rope_first, dtype)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | bool | str, ...]:
        draw = Draw(seed, device)
        return (
            draw.normal((self.tokens, self.heads, WIDTH), torch.bfloat16),
            draw.normal((self.tokens, self.heads), torch.float32),
            rope_table(64, THETA, YARN).to(device),
            draw.integers((self.tokens,), 0, 64, torch.int32),
            self.fp4,
            self.rope_first,
            self.dtype,
        )

    @property
    def row_bytes(self) -> int:
        """Read and written for one head of one token."""
        return 2 * WIDTH + (WIDTH // 2 + 4 if self.fp4 else WIDTH) + 8

    @property
    def flops(self) -> int:
        return 20 * self.tokens * self.heads * WIDTH

    @property
    def bytes_moved(self) -> int:
        return self.tokens * (self.heads * self.row_bytes + 4 * ROPE_DIM)


@triton.jit(do_not_specialize=["tokens"])
def _query_prep(
    out_ptr, scale_ptr, out_weights_ptr, q_ptr, weights_ptr, table_ptr, positions_ptr, tokens, heads, factor, floor,
    ROWS: tl.constexpr, FP4: tl.constexpr, ROPE_FIRST: tl.constexpr, FP8_MAX: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < tokens.to(tl.int64) * heads
    keep = inside[:, None]
    offs = row[:, None] * 128 + tl.arange(0, 128)[None, :]
    x = tl.load(q_ptr + offs, mask=keep, other=0.0).to(tl.float32)
    position = tl.load(positions_ptr + row // heads, mask=inside, other=0)
    weight = tl.load(weights_ptr + row, mask=inside, other=0.0) * factor
    x = spread(x, table_ptr, position, ROWS, ROPE_FIRST)
    if FP4:
        y, exponent = mx_groups(x, ROWS, 128, 6.0)
        tl.store(out_ptr + row[:, None] * 64 + tl.arange(0, 64)[None, :], fp4_encode(y, ROWS, 128), mask=keep)
        tl.store(scale_ptr + row[:, None] * 4 + tl.arange(0, 4)[None, :], exponent, mask=keep)
    else:
        y, scale = fp8_groups(x, floor, ROWS, 128, 128, FP8_MAX, True)
        tl.store(out_ptr + offs, y.to(out_ptr.dtype.element_ty), mask=keep)
        weight *= tl.reshape(scale, (ROWS,))
    tl.store(out_weights_ptr + row, weight, mask=inside)


def _reference(
    problem: Problem,
    q: Tensor,
    weights: Tensor,
    table: Tensor,
    positions: Tensor,
    fp4: bool,
    rope_first: bool,
    dtype: str,
) -> tuple[Expected, ...]:
    turns = table[positions.long()][:, None, :].expand(-1, problem.heads, -1)
    wide = q.double()
    x, off = expect_spread(wide, torch.zeros_like(wide), turns, rope_first)
    scaled = weights.double() * (WIDTH * problem.heads) ** -0.5
    # The factor is rounded to fp32, and so are its product and that with the scale, a power of two.
    rounded = 3 * 2.0**-24 * scaled.abs()
    if fp4:
        return (*expect_mx("q * scale", x, off, "e2m1"), Expected("weights", scaled, rounded))
    value, scale = expect_fp8_within("q", x, off, WIDTH, dtype, ue8m0=True)
    size, slack = scale.value.squeeze(-1), scale.bound.squeeze(-1)
    # The scale is seen in the weight only: q times weight is what the logits are made of.
    whole = scaled[..., None]
    return (
        Expected("q * weight", value.value * whole, value.bound * whole.abs() + 2.0**-22 * (value.value * whole).abs()),
        Expected("weights", scaled * size, scaled.abs() * slack + rounded * (size + slack)),
    )


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if problem.fp4:
        q, scale, weights = outputs
        return decode_fp4(q) * decode_e8m0(scale), torch.exp2(scale.double() - 127), weights.double()
    q, weights = outputs
    return q.double() * weights.double()[..., None], weights.double()


def _default(problem: Problem, device: Device) -> Config:
    many = problem.tokens * problem.heads > 4096
    return row_config({"ROWS": 16 if many else 4, "num_warps": 4 if many else 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    rows = config.size("ROWS")
    if rows >= 2 * problem.tokens * problem.heads:
        return f"ROWS={rows} is at least twice the {problem.tokens * problem.heads} heads of all tokens"
    return row_reject(rows, WIDTH, config, device, 32) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    return Work(
        programs=triton.cdiv(problem.tokens * problem.heads, rows),
        flops_per_program=20 * rows * WIDTH,
        bytes_per_program=rows * (problem.row_bytes + 4 * ROPE_DIM),
        unique_bytes=problem.bytes_moved,
        iterations=1,
        dtype="fp32",
    )


@tunable(Problem, jit=_query_prep, reference=_reference, decode=_decode, rules=(_default, _reject, _work))
def query_prep(
    q: Tensor,
    weights: Tensor,
    table: Tensor,
    positions: Tensor,
    fp4: bool = False,
    rope_first: bool = False,
    dtype: str = "e4m3fn",
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, ...]:
    """FP8: (q FP8 [tokens, heads, 128], weights). FP4: (q uint8 [.., 64], scale e8m0 uint8 [.., 4], weights).

    q bf16 [tokens, heads, 128], weights fp32 [tokens, heads], table fp32 [positions, 64], positions int32 [tokens]. The
    weights that come back are times 128^-0.5 heads^-0.5, in FP8 times the scale of q too. Raises UsageError for others.
    """
    if dtype not in FP8:
        raise UsageError(f"query_prep: dtype must be one of {', '.join(FP8)}, got {dtype!r}")
    require("query_prep", q=(q, torch.bfloat16, (None, None, WIDTH)))
    tokens, heads, _ = q.shape
    require(
        "query_prep",
        q=(q, q.dtype, q.shape),
        weights=(weights, torch.float32, (tokens, heads)),
        table=(table, torch.float32, (None, ROPE_DIM)),
        positions=(positions, torch.int32, (tokens,)),
    )
    shape, home = (tokens, heads), q.device
    out = torch.empty((*shape, WIDTH // 2 if fp4 else WIDTH), dtype=torch.uint8 if fp4 else FP8[dtype], device=home)
    scale = torch.empty((*shape, 4), dtype=torch.uint8, device=home) if fp4 else None
    out_weights = torch.empty_like(weights)
    _query_prep[(triton.cdiv(tokens * heads, config.size("ROWS")),)](
        out, scale, out_weights, q, weights, table, positions, tokens, heads, (WIDTH * heads) ** -0.5, AMAX_FLOOR,
        FP4=fp4, ROPE_FIRST=rope_first, FP8_MAX=FP8_MAX[dtype], **options(config),
    )  # fmt: skip
    return (out, out_weights) if scale is None else (out, scale, out_weights)
