"""Indexer logits of decode: each token against the keys of its request, which lie in pages of a cache (K11).

logit[t, s] = sum over heads of relu(q[t, h] . k[s]) w[t, h], in FP8 or FP4. Keys stream past the queries of one token;
a program walks STEPS tiles of them, and what lies past the token's length is filled with -inf and never read.
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
from autotune.errors import UsageError
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._quant import fp8_name
from autotune.kernels.indexer._index_cache import decode_keys, draw_pages, page_bytes
from autotune.kernels.indexer._logits import (
    KEY,
    Queries,
    draw_queries,
    expect_logits,
    logits_config,
    logits_reject,
    require_queries,
)
from autotune.kernels.indexer._tile_logits import load_queries, tile_logits


@dataclass(frozen=True)
class Problem(Queries):
    """`pages` a token, of which `pattern` says how many keys are valid: all, or any number of them."""

    pages: int
    page_size: int = 64
    fp4: bool = False
    dtype: str = "e4m3fn"
    pattern: str = "full"

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "pages")
    PATTERNS = ("full", "ragged")

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        dtype = fp8_name(args.q.dtype)
        return cls(
            args.q.shape[0], args.q.shape[1], args.page_table.shape[1], args.page_size, args.q_scale is not None, dtype
        )

    @property
    def keys(self) -> int:
        return self.pages * self.page_size

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | None, ...]:
        draw = Draw(seed, device)
        queries = draw_queries(draw, (self.tokens, self.heads), self.fp4, self.dtype)
        total = self.tokens * self.pages
        cache = draw_pages(draw, total, self.page_size, self.fp4, self.dtype)
        page_table = draw.normal((total,), torch.float32).argsort().to(torch.int32).view(self.tokens, self.pages)
        least = 0 if self.pattern == "ragged" else self.keys
        lengths = draw.integers((self.tokens,), least, self.keys + 1, torch.int32)
        if self.pattern == "ragged" and device != "meta":
            edges = [length for length in (self.page_size + 1, 0, self.page_size - 1) if length <= self.keys]
            edges = (edges * self.tokens)[: self.tokens - 1]
            lengths[1:] = torch.tensor(edges, dtype=torch.int32, device=device)
            # Pages past a length need not exist.
            used = (lengths + self.page_size - 1) // self.page_size
            page_table[torch.arange(self.pages, device=device)[None, :] >= used[:, None]] = -1
        return *queries, cache, page_table, lengths, self.page_size

    @property
    def flops(self) -> int:
        return 2 * self.tokens * self.heads * self.keys * KEY // (1 if self.pattern == "full" else 2)

    @property
    def bytes_moved(self) -> int:
        row = KEY // 2 if self.fp4 else KEY
        return self.tokens * (self.heads * (row + 4) + self.keys * (row + 8) + 4 * self.pages)


@triton.jit
def _paged_logits(
    out_ptr, q_ptr, q_scale_ptr, weights_ptr, cache_ptr, page_table_ptr, lengths_ptr, pages,
    PAGE_SIZE: tl.constexpr, HEADS: tl.constexpr, FP4: tl.constexpr, NATIVE: tl.constexpr, FNUZ: tl.constexpr,
    BLOCK_N: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    WIDE: tl.constexpr = 64 if FP4 else 128
    COLUMNS: tl.constexpr = max(HEADS, 16)  # a product has no fewer; those of no head weigh 0
    token = tl.program_id(0).to(tl.int64)
    keys = pages * PAGE_SIZE
    length = tl.minimum(tl.load(lengths_ptr + token), keys)
    out_ptr += token * keys
    offs_n = tl.arange(0, BLOCK_N)
    first = tl.program_id(1) * STEPS
    last = tl.minimum(first + STEPS, tl.cdiv(keys, BLOCK_N))
    stop = tl.minimum(last, tl.cdiv(length, BLOCK_N))
    if first < stop:
        head = tl.arange(0, COLUMNS)
        row = token * HEADS + head
        q, q_scale = load_queries(q_ptr, q_scale_ptr, row, head < HEADS, COLUMNS, FP4, NATIVE)
        weight = tl.load(weights_ptr + row, mask=head < HEADS, other=0.0)
        byte = tl.arange(0, WIDE)
        for tile in range(first, stop):
            s = tile * BLOCK_N + offs_n
            # Keys past the length read the token's first page: their logits are never stored.
            key = tl.where(s < length, s, 0)
            page = tl.load(page_table_ptr + token * pages + key // PAGE_SIZE).to(tl.int64) * PAGE_SIZE * (WIDE + 4)
            at = (page + key % PAGE_SIZE * WIDE)[:, None] + byte[None, :]
            scales = page + PAGE_SIZE * WIDE + key % PAGE_SIZE * 4
            if FP4:
                k = tl.load(cache_ptr + at)
                k_scale = tl.load(cache_ptr + scales[:, None] + tl.arange(0, 4)[None, :])
            else:
                k = tl.load(cache_ptr.to(tl.pointer_type(tl.float8e4b8 if FNUZ else tl.float8e4nv)) + at)
                k_scale = tl.load(cache_ptr.to(tl.pointer_type(tl.float32)) + scales // 4)
            logits = tile_logits(k, k_scale, q, q_scale, weight, BLOCK_N, 1, COLUMNS, FP4, NATIVE)
            logits = tl.where(s < length, tl.reshape(logits, (BLOCK_N,)), float("-inf"))
            tl.store(out_ptr + s, logits, mask=s < keys)
    for tile in range(tl.maximum(first, stop), last):
        s = tile * BLOCK_N + offs_n
        tl.store(out_ptr + s, tl.full((BLOCK_N,), float("-inf"), dtype=tl.float32), mask=s < keys)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    keys = decode_keys(args.cache, args.page_size, problem.fp4, problem.dtype).unflatten(0, (-1, args.page_size))
    wide_k = keys[args.page_table.long().clamp_min(0)].flatten(1, 2)
    valid = torch.arange(problem.keys, device=args.q.device)[None, :] < args.lengths[:, None]
    return (expect_logits(args.q, args.q_scale, args.weights, wide_k, valid),)


def _default(problem: Problem, device: Device) -> Config:
    return logits_config(problem.tokens, problem.keys, problem.heads, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return logits_reject(problem.keys, max(16, problem.heads), problem.fp4, problem.dtype, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    span = config.size("BLOCK_N") * config.size("STEPS")
    row = KEY // 2 if problem.fp4 else KEY
    return Work(
        programs=problem.tokens * triton.cdiv(problem.keys, span),
        flops_per_program=2 * problem.heads * span * KEY,
        bytes_per_program=problem.heads * (row + 4) + span * (row + 8),
        unique_bytes=problem.bytes_moved,
        iterations=config.size("STEPS"),
        dtype=("fp4" if device.has_native_fp4 else "bf16") if problem.fp4 else "fp8",
    )


@tunable(Problem, jit=_paged_logits, reference=_reference, default=_default, reject=_reject, work=_work)
def paged_logits(
    q: Tensor,
    q_scale: Tensor | None,
    weights: Tensor,
    cache: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    page_size: int = 64,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """fp32 [tokens, pages * page_size], -inf from lengths[t] on.

    FP8: q [tokens, heads, 128], q_scale None (folded into weights). FP4: q uint8 [tokens, heads, 64], q_scale e8m0
    uint8 [tokens, heads, 4]. weights fp32 [tokens, heads]; cache uint8 [pages, page_size * 132 or 68] as
    `index_key_store` writes it; page_table int32 [tokens, pages], of which only pages within the length are read;
    lengths int32 [tokens]. NaN in a query or key reaches the logits of that token or key only, where a product that is
    NaN counts as 0; keys past a length may hold any bits. No tokens are no launch. Raises UsageError for anything else.
    """
    name = "paged_logits"
    if page_size < 1:
        raise UsageError(f"{name}: page_size must be positive, got {page_size}")
    tokens, heads = require_queries(name, q, q_scale, weights)
    fp4 = q_scale is not None
    require(
        name,
        home=q,
        cache=(cache, torch.uint8, (None, page_bytes(page_size, fp4))),
        page_table=(page_table, torch.int32, (tokens, None)),
        lengths=(lengths, torch.int32, (tokens,)),
    )
    pages = page_table.shape[1]
    out = torch.empty((tokens, pages * page_size), dtype=torch.float32, device=q.device)
    span = config.size("BLOCK_N") * config.size("STEPS")
    launch(_paged_logits, (tokens, triton.cdiv(pages * page_size, span)))(
        out, q, q_scale, weights, cache, page_table, lengths, pages, PAGE_SIZE=page_size, HEADS=heads, FP4=fp4,
        NATIVE=device.has_native_fp4, FNUZ=q.dtype == torch.float8_e4m3fnuz, **options(config),
    )  # fmt: skip
    return out
