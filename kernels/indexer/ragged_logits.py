"""Indexer logits of prefill: each token against its own range of keys that lie in one tensor (K11).

logit[t, s] = sum over heads of relu(q[t, h] . k[s]) w[t, h], in FP8 or FP4. A program keeps the queries of a few tokens
and walks STEPS tiles of keys; tiles outside all of its tokens' ranges are filled with -inf and never computed.
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
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._quant import fp8_name
from autotune.kernels.indexer._logits import (
    KEY,
    Queries,
    draw_queries,
    draw_rows,
    expect_logits,
    logits_config,
    logits_reject,
    require_queries,
    wide_rows,
)
from autotune.kernels.indexer._tile_logits import load_queries, tile_logits


@dataclass(frozen=True)
class Problem(Queries):
    """`pattern`: ranges that begin at 0 and grow evenly to all keys, or begin and end anywhere, some empty."""

    keys: int
    fp4: bool = False
    dtype: str = "e4m3fn"
    pattern: str = "causal"

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "keys")
    PATTERNS = ("causal", "ragged")

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        dtype = fp8_name(args.q.dtype)
        return cls(args.q.shape[0], args.q.shape[1], args.k.shape[0], args.q_scale is not None, dtype)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | None, ...]:
        draw = Draw(seed, device)
        if self.pattern == "causal":
            starts = torch.zeros(self.tokens, dtype=torch.int32, device=device)
            ends = (torch.arange(1, self.tokens + 1, device=device) * self.keys // self.tokens).to(torch.int32)
        else:
            starts = draw.integers((self.tokens,), 0, self.keys, torch.int32)
            ends = draw.integers((self.tokens,), 0, self.keys + 1, torch.int32)
        scale = (
            draw.integers((self.keys, 4), 122, 128, torch.uint8) if self.fp4 else draw.uniform((self.keys,), 0.01, 0.1)
        )
        queries = draw_queries(draw, (self.tokens, self.heads), self.fp4, self.dtype)
        return *queries, draw_rows(draw, (self.keys,), self.fp4, self.dtype), scale, starts, ends

    @property
    def flops(self) -> int:
        # A causal chunk sees half of the keys on average, and no pattern much more.
        return self.tokens * self.heads * self.keys * KEY

    @property
    def bytes_moved(self) -> int:
        row = KEY // 2 if self.fp4 else KEY
        return self.tokens * self.heads * (row + 4) + self.keys * (row + 4) + 4 * self.tokens * self.keys


@triton.jit(do_not_specialize=["tokens"])
def _ragged_logits(
    out_ptr, q_ptr, q_scale_ptr, weights_ptr, k_ptr, k_scale_ptr, starts_ptr, ends_ptr, tokens, keys,
    HEADS: tl.constexpr, FP4: tl.constexpr, NATIVE: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    in_tokens = token < tokens
    start = tl.load(starts_ptr + token, mask=in_tokens, other=2147483647)
    end = tl.load(ends_ptr + token, mask=in_tokens, other=0)
    first = tl.program_id(1) * STEPS
    last = tl.minimum(first + STEPS, tl.cdiv(keys, BLOCK_N))
    low = tl.maximum(first, tl.min(start, axis=0) // BLOCK_N)
    high = tl.minimum(last, tl.cdiv(tl.max(end, axis=0), BLOCK_N))
    out_ptrs = out_ptr + token[None, :] * keys
    offs_n = tl.arange(0, BLOCK_N)
    for tile in range(first, last):
        if (tile < low) | (tile >= high):
            s = (tile * BLOCK_N + offs_n)[:, None]
            nothing = tl.full((BLOCK_N, BLOCK_T), float("-inf"), dtype=tl.float32)
            tl.store(out_ptrs + s, nothing, mask=(s < keys) & in_tokens[None, :])
    if low < high:
        row = tl.program_id(0).to(tl.int64) * BLOCK_T * HEADS + tl.arange(0, BLOCK_T * HEADS)
        in_rows = row < tokens.to(tl.int64) * HEADS
        q, q_scale = load_queries(q_ptr, q_scale_ptr, row, in_rows, BLOCK_T * HEADS, FP4, NATIVE)
        weight = tl.load(weights_ptr + row, mask=in_rows, other=0.0)
        WIDE: tl.constexpr = 64 if FP4 else 128
        byte = tl.arange(0, WIDE)
        for tile in range(low, high):
            s = tile * BLOCK_N + offs_n
            # Keys past the end read key 0 again: their logits are never stored.
            key = tl.where(s < keys, s, 0).to(tl.int64)
            k = tl.load(k_ptr + key[:, None] * WIDE + byte[None, :])
            if FP4:
                k_scale = tl.load(k_scale_ptr + key[:, None] * 4 + tl.arange(0, 4)[None, :])
            else:
                k_scale = tl.load(k_scale_ptr + key)
            logits = tile_logits(k, k_scale, q, q_scale, weight, BLOCK_N, BLOCK_T, HEADS, FP4, NATIVE)
            seen = (s[:, None] >= start[None, :]) & (s[:, None] < end[None, :])
            logits = tl.where(seen, logits, float("-inf"))
            tl.store(out_ptrs + s[:, None], logits, mask=(s < keys)[:, None] & in_tokens[None, :])


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide_k = wide_rows(args.k, args.k_scale) if problem.fp4 else args.k.double() * args.k_scale.double()[:, None]
    key = torch.arange(problem.keys, device=args.q.device)[None, :]
    valid = (key >= args.starts[:, None]) & (key < args.ends[:, None])
    return (expect_logits(args.q, args.q_scale, args.weights, wide_k, valid),)


def _default(problem: Problem, device: Device) -> Config:
    block_t = 2 if problem.heads < 16 or (problem.tokens > 64 and problem.heads <= 64) else 1
    return logits_config(problem.tokens, problem.keys, problem.heads, device, block_t=block_t, BLOCK_T=block_t)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    columns = config.size("BLOCK_T") * problem.heads
    if columns < 16:
        return f"BLOCK_T={config['BLOCK_T']} makes {columns} columns, fewer than a product has"
    if config.size("BLOCK_T") >= 2 * problem.tokens and columns > 16:
        return f"BLOCK_T={config['BLOCK_T']} is at least twice the {problem.tokens} tokens"
    return logits_reject(problem.keys, columns, problem.fp4, problem.dtype, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_t, span = config.size("BLOCK_T"), config.size("BLOCK_N") * config.size("STEPS")
    row = KEY // 2 if problem.fp4 else KEY
    programs = triton.cdiv(problem.tokens, block_t) * triton.cdiv(problem.keys, span)
    return Work(
        programs=programs,
        flops_per_program=block_t * problem.heads * span * KEY,
        # Half of the keys lie past their tokens and are not loaded.
        bytes_per_program=(block_t * problem.heads + span) * (row + 4) / 2 + 4 * span * block_t,
        unique_bytes=problem.bytes_moved,
        iterations=config.size("STEPS"),
        dtype=("fp4" if device.has_native_fp4 else "bf16") if problem.fp4 else "fp8",
    )


@tunable(Problem, jit=_ragged_logits, reference=_reference, default=_default, reject=_reject, work=_work)
def ragged_logits(
    q: Tensor,
    q_scale: Tensor | None,
    weights: Tensor,
    k: Tensor,
    k_scale: Tensor,
    starts: Tensor,
    ends: Tensor,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """fp32 [tokens, keys], -inf where key s is not in starts[t] <= s < ends[t].

    FP8: q [tokens, heads, 128], q_scale None (folded into weights), k [keys, 128], k_scale fp32 [keys]. FP4: q uint8
    [tokens, heads, 64], q_scale e8m0 uint8 [tokens, heads, 4], k uint8 [keys, 64], k_scale uint8 [keys, 4]. weights
    fp32 [tokens, heads], starts and ends int32 [tokens]. NaN in a query or key reaches the logits of that token or key
    only, where a product that is NaN counts as 0. No tokens or keys are no launch. Raises UsageError for anything else.
    """
    name = "ragged_logits"
    tokens, heads = require_queries(name, q, q_scale, weights)
    require(name, k=(k, q.dtype, (None, q.shape[2])))
    keys, fp4 = k.shape[0], q_scale is not None
    require(
        name,
        home=q,
        k=(k, q.dtype, k.shape),
        k_scale=(k_scale, torch.uint8, (keys, 4)) if fp4 else (k_scale, torch.float32, (keys,)),
        starts=(starts, torch.int32, (tokens,)),
        ends=(ends, torch.int32, (tokens,)),
    )
    out = torch.empty((tokens, keys), dtype=torch.float32, device=q.device)
    span = config.size("BLOCK_N") * config.size("STEPS")
    launch(_ragged_logits, (triton.cdiv(tokens, config.size("BLOCK_T")), triton.cdiv(keys, span)))(
        out, q, q_scale, weights, k, k_scale, starts, ends, tokens, keys,
        HEADS=heads, FP4=fp4, NATIVE=device.has_native_fp4, **options(config),
    )  # fmt: skip
    return out
