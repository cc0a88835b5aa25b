"""Queries and keys made ready for attention in one launch (K9).

Each query head is RMS-normed without a weight and its last 64 columns are rotated to its position; the normed key =
value row is rotated too and stored in the cache, in any of its three layouts. Rows of queries and rows of keys have
programs of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._kv_cache import (
    WIDTH,
    Cached,
    decode_cache,
    decode_written,
    draw_cache,
    expect_stored,
    layout_of,
    require_cache,
    store_rows,
    stored_bytes,
)
from autotune.kernels._launch import launch, options, require
from autotune.kernels._quant import FP8_MAX
from autotune.kernels._rope import ROPE_DIM, drawn_rope_table, load_rotation, reference_rope, require_rotation, rotate
from autotune.kernels._rows import fp8_reject, row_config, row_reject

EPS = 1e-6
THETA, YARN = 160000.0, (16, 65536, 32, 1)


@dataclass(frozen=True)
class Problem(Cached):
    tokens: int
    heads: int
    layout: str = "bf16"
    page_size: int = 1
    dtype: str = "e4m3fn"

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.q.shape[0], args.q.shape[1], layout_of(args.cache, args.cache_aux), args.page_size)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | None, ...]:
        draw = Draw(seed, device)
        slots_drawn = 2 * self.tokens + 3
        q = draw.normal((self.tokens, self.heads, WIDTH), torch.bfloat16)
        kv = draw.normal((self.tokens, WIDTH), torch.bfloat16)
        positions = draw.integers((self.tokens,), 0, 64, torch.int32)
        # Every second slot, none twice; the last token of several is not stored.
        slots = torch.arange(self.tokens, dtype=torch.int32, device=device) * 2
        if self.tokens > 1 and device != "meta":
            slots[-1] = -1
        cache = draw_cache(draw, slots_drawn, self.layout, self.page_size, self.dtype)
        return q, kv, drawn_rope_table(THETA, YARN, device), positions, slots, *cache, self.page_size

    @property
    def flops(self) -> int:
        return 4 * self.tokens * self.heads * WIDTH

    @property
    def bytes_moved(self) -> int:
        return self.tokens * (4 * self.heads * WIDTH + 2 * WIDTH + stored_bytes(self.layout))


@triton.jit(do_not_specialize=["tokens"])
def _qk_prep(
    out_ptr, q_ptr, kv_ptr, table_ptr, positions_ptr, slots_ptr, cache_ptr, aux_ptr, tokens, heads, eps,
    PAGE_SIZE: tl.constexpr, ROWS: tl.constexpr, LAYOUT: tl.constexpr, FP8_MAX: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    query_programs = tl.cdiv(tokens * heads, ROWS)
    col = tl.arange(0, 512)
    if tl.program_id(0) < query_programs:
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = row < tokens * heads
        q_at = tl.load(positions_ptr + row // heads, mask=inside, other=0)
        x = tl.load(q_ptr + row[:, None] * 512 + col[None, :], mask=inside[:, None], other=0.0).to(tl.float32)
        x = x * (1.0 / tl.sqrt(tl.sum(x * x, axis=1) / 512 + eps))[:, None]
        q_cos, q_sin = load_rotation(table_ptr, q_at, ROWS, 512, False)
        q = rotate(x, q_cos, q_sin, ROWS, 512)
        tl.store(out_ptr + row[:, None] * 512 + col[None, :], q.to(tl.bfloat16), mask=inside[:, None])
    else:
        token = (tl.program_id(0) - query_programs).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        in_tokens = token < tokens
        kv_at = tl.load(positions_ptr + token, mask=in_tokens, other=0)
        slot = tl.load(slots_ptr + token, mask=in_tokens, other=-1).to(tl.int64)
        kv = tl.load(kv_ptr + token[:, None] * 512 + col[None, :], mask=in_tokens[:, None], other=0.0).to(tl.float32)
        kv_cos, kv_sin = load_rotation(table_ptr, kv_at, ROWS, 512, False)
        rotated = rotate(kv, kv_cos, kv_sin, ROWS, 512)
        store_rows(rotated, slot, cache_ptr, aux_ptr, PAGE_SIZE, ROWS, LAYOUT, FP8_MAX, FNUZ)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    def rotated(x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        # Two products and a sum in fp32, of values no larger than both of the pair.
        pair = x.abs().unflatten(-1, (-1, 2)).sum(-1).repeat_interleave(2, -1)
        return reference_rope(x, rotation), 3 * 2.0**-24 * pair

    rotation = args.table[args.positions.long()]
    wide = args.q.double()
    normed = wide * torch.rsqrt(wide.square().mean(2, keepdim=True) + EPS)
    out, off = rotated(normed, rotation[:, None, :].expand(-1, problem.heads, -1))
    # 512 squares in fp32, halved by the root, reach both of a pair; then bf16.
    off = off * (1 + 260 / 3) + 2.0**-8 * out.abs()
    stored, error = rotated(args.kv.double(), rotation)
    before = decode_cache(args.cache, args.cache_aux, args.page_size, problem.dtype)
    return Expected("q", out, off), expect_stored(before, stored, error, args.slots, problem.layout, problem.dtype)


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, *written = outputs
    return q.double(), decode_written(written, problem.page_size, problem.dtype)


def _default(problem: Problem, device: Device) -> Config:
    many = problem.tokens * problem.heads > 2048
    return row_config({"ROWS": 4 if many else 1, "num_warps": 4 if many else 2}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return row_reject(config.size("ROWS"), WIDTH, config, device, 64) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    programs = triton.cdiv(problem.tokens * problem.heads, rows) + triton.cdiv(problem.tokens, rows)
    return Work(
        programs=programs,
        flops_per_program=4 * rows * WIDTH,
        bytes_per_program=rows * (4 * WIDTH + 4 * ROPE_DIM),
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_qk_prep, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def qk_prep(
    q: Tensor,
    kv: Tensor,
    table: Tensor,
    positions: Tensor,
    slots: Tensor,
    cache: Tensor,
    cache_aux: Tensor | None = None,
    page_size: int = 1,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, ...]:
    """(q bf16 [tokens, heads, 512], cache), and the cache's scales where it has any; the cache is written in place.

    kv bf16 [tokens, 512], already normed; table fp32 [positions, 64]; positions and slots int32 [tokens], slot -1 for a
    row that is not stored; cache in a layout of `_kv_cache`. NaN or any bits in a row reach its own row only, and none
    where it is not stored; positions are rows of the table, those of padding tokens too. No tokens are no launch.
    Raises UsageError for anything else.
    """
    name = "qk_prep"
    require(name, q=(q, torch.bfloat16, (None, None, WIDTH)))
    tokens, heads, _ = q.shape
    require(name, home=q, kv=(kv, torch.bfloat16, (tokens, WIDTH)), slots=(slots, torch.int32, (tokens,)))
    require_rotation(name, q, table, positions, tokens)
    require_cache(name, q, cache, cache_aux, page_size)
    out = torch.empty_like(q)
    rows = config.size("ROWS")
    grid = (triton.cdiv(tokens * heads, rows) + triton.cdiv(tokens, rows),)
    launch(_qk_prep, grid)(
        out, q, kv, table, positions, slots, cache, cache_aux, tokens, heads, EPS,
        PAGE_SIZE=page_size, LAYOUT=layout_of(cache, cache_aux), FP8_MAX=FP8_MAX[device.fp8],
        FNUZ=device.fp8 == "e4m3fnuz", **options(config),
    )  # fmt: skip
    return (out, cache) if cache_aux is None else (out, cache, cache_aux)
