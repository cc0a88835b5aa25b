"""V3.2's queries and keys made ready for latent attention in one launch (K9).

A query head is 128 columns for the absorbed projection, copied out to be its rows, and 64 that are rotated to the
token's position; a key is 512 normed latent columns and 64 that are rotated, stored in the cache. Rows of queries and
rows of keys have programs of their own.
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
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes
from autotune.kernels._rope import ROPE_DIM, drawn_rope_table, load_rotation, reference_rotate, require_rotation, rotate
from autotune.kernels._rows import row_config, row_reject

PLAIN = 128
LATENT = 512
THETA, YARN = 10000.0, (40, 4096, 32, 1)


@dataclass(frozen=True)
class Problem(Sizes):
    tokens: int
    heads: int

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.q.shape[0], args.q.shape[1])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        q = draw.normal((self.tokens, self.heads, PLAIN + ROPE_DIM), torch.bfloat16)
        kv = draw.normal((self.tokens, LATENT + ROPE_DIM), torch.bfloat16)
        positions = draw.integers((self.tokens,), 0, 64, torch.int32)
        # Every second slot, none twice; the last token of several is not stored.
        slots = torch.arange(self.tokens, dtype=torch.int32, device=device) * 2
        if self.tokens > 1 and device != "meta":
            slots[-1] = -1
        cache = draw.normal((2 * self.tokens + 3, LATENT + ROPE_DIM), torch.bfloat16)
        return q, kv, drawn_rope_table(THETA, YARN, device), positions, slots, cache

    @property
    def flops(self) -> int:
        return 3 * self.tokens * (self.heads + 1) * ROPE_DIM

    @property
    def bytes_moved(self) -> int:
        return 4 * self.tokens * (self.heads * (PLAIN + ROPE_DIM) + LATENT + ROPE_DIM + ROPE_DIM)


@triton.jit
def _rotated(x_ptrs, table_ptr, position, mask, ROWS: tl.constexpr):
    """bf16 [ROWS, 64] rotated to their positions; zeros for rows past the last token."""
    x = tl.load(x_ptrs, mask=mask, other=0.0).to(tl.float32)
    cos, sin = load_rotation(table_ptr, position, ROWS, 64, False)
    return rotate(x, cos, sin, ROWS, 64).to(tl.bfloat16)


@triton.jit(do_not_specialize=["tokens"])
def _mla_prep(
    nope_ptr, rope_ptr, q_ptr, kv_ptr, table_ptr, positions_ptr, slots_ptr, cache_ptr, tokens, heads,
    ROWS: tl.constexpr,
):  # fmt: skip
    query_programs = tl.cdiv(tokens * heads, ROWS)
    rope_col = tl.arange(0, 64)[None, :]
    if tl.program_id(0) < query_programs:
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = row < tokens * heads
        in_rows = inside[:, None]
        q_at = tl.load(positions_ptr + row // heads, mask=inside, other=0)
        q_rows = q_ptr + row[:, None] * 192
        plain = tl.arange(0, 128)[None, :]
        nope = tl.load(q_rows + plain, mask=in_rows, other=0.0)
        tl.store(nope_ptr + row[:, None] * 128 + plain, nope, mask=in_rows)
        rope = _rotated(q_rows + 128 + rope_col, table_ptr, q_at, in_rows, ROWS)
        tl.store(rope_ptr + row[:, None] * 64 + rope_col, rope, mask=in_rows)
    else:
        token = (tl.program_id(0) - query_programs).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        in_tokens = token < tokens
        kv_at = tl.load(positions_ptr + token, mask=in_tokens, other=0)
        slot = tl.load(slots_ptr + token, mask=in_tokens, other=-1).to(tl.int64)
        keep = (slot >= 0)[:, None]
        kv_rows = kv_ptr + token[:, None] * 576
        cache_rows = cache_ptr + tl.where(slot >= 0, slot, 0)[:, None] * 576
        col = tl.arange(0, 512)[None, :]
        tl.store(cache_rows + col, tl.load(kv_rows + col, mask=keep, other=0.0), mask=keep)
        k_rope = _rotated(kv_rows + 512 + rope_col, table_ptr, kv_at, keep, ROWS)
        tl.store(cache_rows + 512 + rope_col, k_rope, mask=keep)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    def rotated(x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
        # Two products and a sum in fp32, of values no larger than both of the pair; then bf16.
        value = reference_rotate(x, rotation)
        pair = x.abs().unflatten(-1, (-1, 2)).sum(-1).repeat_interleave(2, -1)
        return value, 3 * 2.0**-24 * pair + 2.0**-8 * value.abs()

    rotation = args.table[args.positions.long()]
    nope, rope = args.q.double().split((PLAIN, ROPE_DIM), 2)
    latent, key = args.kv.double().split((LATENT, ROPE_DIM), 1)
    key, off = rotated(key, rotation)
    value = args.cache.double()
    bound = torch.zeros_like(value)
    keep = args.slots >= 0
    at = args.slots[keep].long()
    value[at], bound[at, LATENT:] = torch.cat((latent, key), 1)[keep], off[keep]
    return (
        Expected("q_nope", nope, torch.zeros_like(nope)),
        Expected("q_rope", *rotated(rope, rotation[:, None, :].expand(-1, problem.heads, -1))),
        Expected("cache", value, bound),
    )


def _default(problem: Problem, device: Device) -> Config:
    many = problem.tokens * problem.heads > 2048
    return row_config({"ROWS": 4 if many else 1, "num_warps": 2 if many else 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return row_reject(config.size("ROWS"), LATENT, config, device, 64)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    programs = triton.cdiv(problem.tokens * problem.heads, rows) + triton.cdiv(problem.tokens, rows)
    return Work(
        programs=programs,
        flops_per_program=3 * rows * ROPE_DIM,
        bytes_per_program=rows * (4 * (PLAIN + ROPE_DIM) + 4 * ROPE_DIM),
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_mla_prep, reference=_reference, default=_default, reject=_reject, work=_work)
def mla_prep(
    q: Tensor,
    kv: Tensor,
    table: Tensor,
    positions: Tensor,
    slots: Tensor,
    cache: Tensor,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, Tensor, Tensor]:
    """(q_nope bf16 [tokens, heads, 128], q_rope bf16 [tokens, heads, 64], cache); the cache is written in place.

    q bf16 [tokens, heads, 192]; kv bf16 [tokens, 576], its first 512 columns already normed; table fp32 [positions,
    64]; positions and slots int32 [tokens], slot -1 for a row that is not stored; cache bf16 [slots, 576]. NaN or any
    bits in a row reach its own row only, and none where it is not stored; positions are rows of the table, those of
    padding tokens too. No tokens are no launch. Raises UsageError for anything else.
    """
    name = "mla_prep"
    require(name, q=(q, torch.bfloat16, (None, None, PLAIN + ROPE_DIM)))
    tokens, heads, _ = q.shape
    require(
        name,
        home=q,
        kv=(kv, torch.bfloat16, (tokens, LATENT + ROPE_DIM)),
        slots=(slots, torch.int32, (tokens,)),
        cache=(cache, torch.bfloat16, (None, LATENT + ROPE_DIM)),
    )
    require_rotation(name, q, table, positions, tokens)
    nope = torch.empty((tokens, heads, PLAIN), dtype=torch.bfloat16, device=q.device)
    rope = torch.empty((tokens, heads, ROPE_DIM), dtype=torch.bfloat16, device=q.device)
    rows = config.size("ROWS")
    grid = (triton.cdiv(tokens * heads, rows) + triton.cdiv(tokens, rows),)
    launch(_mla_prep, grid)(nope, rope, q, kv, table, positions, slots, cache, tokens, heads, **options(config))
    return nope, rope, cache
