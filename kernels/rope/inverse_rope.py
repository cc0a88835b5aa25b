"""Attention's output rotated back: the values carry the rotation of their own positions in the last 64 columns (K15).

Without this the output projection would see values rotated by absolute position. FP8 in groups of 128 along each head
is the form that the grouped output projection reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require, require_fp8
from autotune.kernels._problem import Sizes
from autotune.kernels._quant import (
    AMAX_FLOOR,
    FP8_MAX,
    decode_fp8,
    expect_fp8_within,
    fp8_groups,
    scale_dtype,
    stored_scales,
)
from autotune.kernels._rope import ROPE_DIM, drawn_rope_table, load_rotation, reference_rope, require_rotation, rotate
from autotune.kernels._rows import fp8_reject, row_config, row_reject, row_work

WIDTH = 512
GROUP = 128
THETA, YARN = 160000.0, (16, 65536, 32, 1)


@dataclass(frozen=True)
class Problem(Sizes):
    """`ue8m0` and `dtype` matter where `quantised`."""

    tokens: int
    heads: int
    quantised: bool = False
    ue8m0: bool = True
    dtype: str = "e4m3fn"

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.o.shape[0], args.o.shape[1], args.quantise, args.ue8m0, args.dtype)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | bool | str, ...]:
        draw = Draw(seed, device)
        return (
            draw.normal((self.tokens, self.heads, WIDTH), torch.bfloat16),
            drawn_rope_table(THETA, YARN, device),
            draw.integers((self.tokens,), 0, 64, torch.int32),
            self.quantised,
            self.ue8m0,
            self.dtype,
        )

    @property
    def flops(self) -> int:
        return 6 * self.tokens * self.heads * ROPE_DIM

    @property
    def bytes_moved(self) -> int:
        return self.tokens * self.heads * WIDTH * (3 if self.quantised else 4)


@triton.jit(do_not_specialize=["tokens"])
def _inverse_rope(
    out_ptr, scale_ptr, o_ptr, table_ptr, positions_ptr, tokens, heads, floor,
    ROWS: tl.constexpr, QUANTISED: tl.constexpr, FP8_MAX: tl.constexpr, UE8M0: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < tokens.to(tl.int64) * heads
    position = tl.load(positions_ptr + row // heads, mask=inside, other=0)
    offs = row[:, None] * 512 + tl.arange(0, 512)[None, :]
    x = tl.load(o_ptr + offs, mask=inside[:, None], other=0.0).to(tl.float32)
    cos, sin = load_rotation(table_ptr, position, ROWS, 512, False)
    y = rotate(x, cos, -sin, ROWS, 512)
    if QUANTISED:
        q, scale = fp8_groups(y, floor, ROWS, 512, 128, FP8_MAX, UE8M0)
        tl.store(out_ptr + offs, q.to(out_ptr.dtype.element_ty), mask=inside[:, None])
        scale = stored_scales(scale, UE8M0)
        tl.store(scale_ptr + row[:, None] * 4 + tl.arange(0, 4)[None, :], scale, mask=inside[:, None])
    else:
        tl.store(out_ptr + offs, y.to(tl.bfloat16), mask=inside[:, None])


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    rotation = args.table[args.positions.long()][:, None, :].expand(-1, problem.heads, -1)
    y = reference_rope(args.o.double(), rotation, inverse=True)
    # Two products and a sum in fp32, of values no larger than both of the pair.
    pair = args.o.double().abs().unflatten(2, (-1, 2)).sum(3).repeat_interleave(2, 2)
    error = 3 * 2.0**-24 * pair
    if args.quantise:
        return expect_fp8_within("o * scale", y, error, GROUP, args.dtype, args.ue8m0)
    return (Expected("o", y, error + 2.0**-8 * y.abs()),)


def _decode(problem: Problem, outputs: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    if isinstance(outputs, Tensor):
        return (outputs.double(),)
    q, scale = outputs
    return decode_fp8(q, scale, GROUP)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 4 if problem.tokens > 64 else 1, "num_warps": 4 if problem.tokens > 64 else 2}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return row_reject(config.size("ROWS"), WIDTH, config, device, 64) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    row_bytes = WIDTH * (3 if problem.quantised else 4) + 4 * ROPE_DIM
    return row_work(problem, problem.tokens * problem.heads, config, flops=6 * ROPE_DIM, row_bytes=row_bytes)


@tunable(Problem, jit=_inverse_rope, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def inverse_rope(
    o: Tensor,
    table: Tensor,
    positions: Tensor,
    quantise: bool = False,
    ue8m0: bool = True,
    dtype: str = "e4m3fn",
    *,
    config: Config,
    device: Device,
) -> Tensor | tuple[Tensor, Tensor]:
    """o bf16 [tokens, heads, 512] -> the same shape in bf16, or (FP8, scale fp32 [tokens, heads, 4]).

    With `ue8m0` scales are powers of two, as e8m0 uint8. table fp32 [positions, 64] of `rope_table`, positions int32
    [tokens]. NaN or any bits in a row reach its own row only; positions are rows of the table, those of padding tokens
    too. No tokens are no launch. Raises UsageError for anything else.
    """
    name = "inverse_rope"
    require(name, o=(o, torch.bfloat16, (None, None, WIDTH)))
    tokens, heads, _ = o.shape
    require_rotation(name, o, table, positions, tokens)
    require_fp8(name, dtype)
    out = torch.empty(o.shape, dtype=FP8[dtype] if quantise else o.dtype, device=o.device)
    shape = (tokens, heads, WIDTH // GROUP)
    scale = torch.empty(shape, dtype=scale_dtype(ue8m0), device=o.device) if quantise else None
    grid = (triton.cdiv(tokens * heads, config.size("ROWS")),)
    launch(_inverse_rope, grid)(
        out, scale, o, table, positions, tokens, heads, AMAX_FLOOR,
        QUANTISED=quantise, FP8_MAX=FP8_MAX[dtype], UE8M0=ue8m0, **options(config),
    )  # fmt: skip
    return out if scale is None else (out, scale)
