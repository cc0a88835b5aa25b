"""The indexer's queries: rotation, Hadamard, FP8 or FP4; and the heads' weights, which take the queries' scales (K10).

With FP8 a head has one scale, and relu(s q k) w = relu(q k) (s w): it goes into the weight. FP4's scales go to the
matrix unit. V4 rotates the last 64 columns, in interleaved pairs, V3.2 the first, in halves.
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
    FP8_MAX,
    decode_e8m0,
    decode_fp4,
    e8m0_exponents,
    expect_fp8_within,
    expect_mx,
    hadamard_matrix,
)
from autotune.kernels._rope import ROPE_DIM, drawn_rope_table, reference_rope, require_rotation
from autotune.kernels._rows import fp8_reject, row_config, row_reject
from autotune.kernels.indexer._index_cache import KEY, quantise_rows
from autotune.kernels.indexer._spread import rotate_rows

THETA, YARN = 160000.0, (16, 65536, 32, 1)


@dataclass(frozen=True)
class Problem(Sizes):
    tokens: int
    heads: int = 64
    fp4: bool = False
    rope_first: bool = False
    dtype: str = "e4m3fn"

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.q.shape[0], args.q.shape[1], args.fp4, args.rope_first, args.dtype)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | bool | str, ...]:
        draw = Draw(seed, device)
        return (
            draw.normal((self.tokens, self.heads, KEY), torch.bfloat16),
            draw.normal((self.tokens, self.heads), torch.float32),
            drawn_rope_table(THETA, YARN, device),
            draw.integers((self.tokens,), 0, 64, torch.int32),
            self.fp4,
            self.rope_first,
            self.dtype,
        )

    @property
    def flops(self) -> int:
        return 20 * self.tokens * self.heads * KEY

    @property
    def bytes_moved(self) -> int:
        return self.tokens * self.heads * (2 * KEY + (KEY // 2 + 4 if self.fp4 else KEY) + 8)


@triton.jit(do_not_specialize=["rows"])
def _query_prep(
    out_ptr, scale_ptr, out_weights_ptr, q_ptr, weights_ptr, table_ptr, positions_ptr, rows, heads, factor,
    ROWS: tl.constexpr, FP4: tl.constexpr, FIRST: tl.constexpr, FP8_MAX: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < rows
    mask = inside[:, None]
    position = tl.load(positions_ptr + row // heads, mask=inside, other=0)
    x = tl.load(q_ptr + row[:, None] * 128 + tl.arange(0, 128)[None, :], mask=mask, other=0.0).to(tl.float32)
    q, scale = quantise_rows(rotate_rows(x, table_ptr, position, ROWS, FIRST), ROWS, FP4, FP8_MAX, FNUZ)
    weight = tl.load(weights_ptr + row, mask=inside, other=0.0) * factor
    if FP4:
        tl.store(out_ptr + row[:, None] * 64 + tl.arange(0, 64)[None, :], q, mask=mask)
        tl.store(scale_ptr + row[:, None] * 4 + tl.arange(0, 4)[None, :], scale, mask=mask)
    else:
        tl.store(out_ptr + row[:, None] * 128 + tl.arange(0, 128)[None, :], q, mask=mask)
        weight *= tl.reshape(scale, (ROWS,))
    tl.store(out_weights_ptr + row, weight, mask=inside)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    rotation = args.table[args.positions.long()][:, None, :].expand(-1, problem.heads, -1)
    x = reference_rope(args.q.double(), rotation, first=args.rope_first)
    y = x @ hadamard_matrix(KEY, x.device) * KEY**-0.5
    # A rotation (products and a sum) and seven levels of sums in fp32, relative to the row's magnitude; then bf16.
    error = 12 * 2.0**-24 * args.q.double().abs().sum(2, keepdim=True) * KEY**-0.5 + 2.0**-8 * y.abs()
    w = args.weights.double() * KEY**-0.5 * problem.heads**-0.5
    if args.fp4:
        return (*expect_mx("q", y, error, "e2m1"), Expected("weights", w, w.abs() * 2.0**-22))
    value, scale = expect_fp8_within("q", y, error, KEY, args.dtype, True)
    # q comes without its scale, which is in the weights: their product is what must be right.
    whole = w[..., None] * value.value
    off = w[..., None].abs() * (value.bound + value.value.abs() * 2.0**-21)
    return (
        Expected("weights * q", whole, off),
        Expected("weights", w * scale.value[..., 0], w.abs() * (scale.bound[..., 0] + scale.value[..., 0] * 2.0**-21)),
    )


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if problem.fp4:
        q, scale, weights = outputs
        return decode_fp4(q) * decode_e8m0(scale), e8m0_exponents(scale), weights.double()
    q, weights = outputs
    return q.double() * weights.double()[..., None], weights.double()


def _default(problem: Problem, device: Device) -> Config:
    many = problem.tokens * problem.heads > 4096
    # One warp for 4 rows spills 8 B a thread on sm_90, in FP4.
    return row_config({"ROWS": 8 if many else 4, "num_warps": 2}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return row_reject(config.size("ROWS"), KEY, config, device, 64) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    out = KEY // 2 + 4 if problem.fp4 else KEY
    return Work(
        programs=triton.cdiv(problem.tokens * problem.heads, rows),
        flops_per_program=20 * rows * KEY,
        # Heads of one token turn by the same row of the table.
        bytes_per_program=rows * (2 * KEY + out + 8) + triton.cdiv(rows, problem.heads) * 4 * ROPE_DIM,
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_query_prep, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
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
    """q bf16 [tokens, heads, 128], weights fp32 [tokens, heads] -> (q FP8, weights), or (q FP4, scale, weights).

    q FP8 [tokens, heads, 128], its scale folded into the weights; q FP4 uint8 [tokens, heads, 64] with e8m0 uint8
    [tokens, heads, 4]. Weights come out times (128 heads)^-0.5. table fp32 [positions, 64], positions int32 [tokens].
    NaN in a head makes its own scale, which FP8 has in the weight, NaN. No tokens are no launch. Raises UsageError for
    anything else.
    """
    name = "query_prep"
    require(name, q=(q, torch.bfloat16, (None, None, KEY)))
    tokens, heads, _ = q.shape
    require(name, home=q, weights=(weights, torch.float32, (tokens, heads)))
    require_rotation(name, q, table, positions, tokens)
    require_fp8(name, dtype)
    out = torch.empty((tokens, heads, KEY // 2 if fp4 else KEY), dtype=torch.uint8, device=q.device)
    scale = torch.empty((tokens, heads, 4), dtype=torch.uint8, device=q.device) if fp4 else None
    new_weights = torch.empty_like(weights)
    launch(_query_prep, (triton.cdiv(tokens * heads, config.size("ROWS")),))(
        out, scale, new_weights, q, weights, table, positions, tokens * heads, heads, (KEY * heads) ** -0.5,
        FP4=fp4, FIRST=rope_first, FP8_MAX=FP8_MAX[dtype], FNUZ=dtype == "e4m3fnuz", **options(config),
    )  # fmt: skip
    return (out.view(FP8[dtype]), new_weights) if scale is None else (out, scale, new_weights)
