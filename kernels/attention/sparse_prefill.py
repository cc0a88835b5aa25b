"""Sparse attention of prefill steps: one key list into the chunk itself, another into the cache, and a sink (K14).

The window's keys are rows of the chunk that is being prefilled, still in bf16; the compressed entries, and what the
window reaches back before the chunk, are rows of the cache. Many tokens fill the device, so keys are not split.
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
from autotune.kernels._kv_cache import decode_cache, draw_cache, layout_of, require_cache, row_bytes
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._rows import fp8_reject
from autotune.kernels.attention._listed import SCALE, Listed, listed_tile
from autotune.kernels.attention._problem import draw_indices, expect_attention
from autotune.kernels.attention._rules import attention_reject
from autotune.kernels.attention._softmax import LOG2E, WIDTH, attend_list, epilogue


@dataclass(frozen=True)
class Problem(Listed):
    """The first list names rows of the chunk, the second rows of the cache."""

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        tokens, heads, _ = args.q.shape
        return cls(
            tokens,
            heads,
            args.chunk_indices.shape[1],
            args.indices.shape[1],
            layout_of(args.cache, args.cache_aux),
            args.page_size,
        )

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | None, ...]:
        draw = Draw(seed, device)
        q = draw.normal((self.tokens, self.heads, WIDTH), torch.bfloat16)
        chunk = draw.normal((self.tokens, WIDTH), torch.bfloat16)
        slots = 2 * self.extra_keys + 1
        cache = draw_cache(draw, slots, self.layout, self.page_size, self.dtype)
        in_chunk = draw_indices(draw, (self.tokens, self.keys), self.tokens, self.pattern)
        in_cache = draw_indices(draw, (self.tokens, self.extra_keys), slots, self.pattern)
        return q, chunk, in_chunk, *cache, in_cache, draw.normal((self.heads,), torch.float32), self.page_size

    @property
    def bytes_moved(self) -> int:
        lists = 4 * self.tokens * (self.keys + self.extra_keys)
        # Neighbouring tokens share most keys: their lists name twice as many rows as one's, and each crosses DRAM once.
        seen = self.extra_keys * min(2, self.tokens)
        return lists + self.tokens * WIDTH * (4 * self.heads + 2) + row_bytes(self.layout) * seen


@triton.jit
def _sparse_prefill(
    q_ptr, chunk_ptr, chunk_indices_ptr, cache_ptr, aux_ptr, indices_ptr, sink_ptr, out_ptr,
    heads, keys, extra_keys, scale,
    PAGE_SIZE: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr, LAYOUT: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    # Head blocks of a token are neighbours, so that its keys are in L2 for all but the first.
    tiles = tl.cdiv(heads, BLOCK_H)
    token = (tl.program_id(0) // tiles).to(tl.int64)
    head = tl.program_id(0) % tiles * BLOCK_H + tl.arange(0, BLOCK_H)
    q_ptrs = q_ptr + (token * heads + head)[:, None] * 512 + tl.arange(0, 512)[None, :]
    q = tl.load(q_ptrs, mask=(head < heads)[:, None], other=0.0)
    acc = tl.zeros((BLOCK_H, 512), dtype=tl.float32)
    peak = tl.full((BLOCK_H,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_H,), dtype=tl.float32)
    acc, peak, total = attend_list(
        acc, peak, total, q, chunk_indices_ptr + token * keys, 0, tl.cdiv(keys, BLOCK_N), keys,
        chunk_ptr, None, scale, 1, BLOCK_N, "bf16", FNUZ,
    )  # fmt: skip
    acc, peak, total = attend_list(
        acc, peak, total, q, indices_ptr + token * extra_keys, 0, tl.cdiv(extra_keys, BLOCK_N), extra_keys,
        cache_ptr, aux_ptr, scale, PAGE_SIZE, BLOCK_N, LAYOUT, FNUZ,
    )  # fmt: skip
    epilogue(acc, peak, total, sink_ptr, out_ptr, None, None, None, token, 0, head, heads, 1, True)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    near = args.chunk.double()[args.chunk_indices.clamp_min(0).long()]
    far = decode_cache(args.cache, args.cache_aux, args.page_size, problem.dtype)[args.indices.clamp_min(0).long()]
    seen = torch.cat((args.chunk_indices >= 0, args.indices >= 0), 1)
    return expect_attention(args.q.double(), torch.cat((near, far), 1), seen, SCALE, args.sink)


def _default(problem: Problem, device: Device) -> Config:
    return matrix_config(listed_tile(problem.heads, problem.layout, device), device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return attention_reject(problem.heads, config, device) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_h, block_n = config.size("BLOCK_H"), config.size("BLOCK_N")
    keys, rows = problem.keys + problem.extra_keys, min(block_h, problem.heads)
    # The chunk's rows are in bf16 whatever the cache is in, and every key has an index.
    keys_bytes = row_bytes("bf16") * problem.keys + row_bytes(problem.layout) * problem.extra_keys + 4 * keys
    return Work(
        programs=problem.tokens * triton.cdiv(problem.heads, block_h),
        flops_per_program=4 * block_h * keys * WIDTH,
        bytes_per_program=keys_bytes + 4 * rows * WIDTH,
        unique_bytes=problem.bytes_moved,
        iterations=triton.cdiv(problem.keys, block_n) + triton.cdiv(problem.extra_keys, block_n),
        dtype="bf16",
    )


@tunable(Problem, jit=_sparse_prefill, reference=_reference, default=_default, reject=_reject, work=_work)
def sparse_prefill(
    q: Tensor,
    chunk: Tensor,
    chunk_indices: Tensor,
    cache: Tensor,
    cache_aux: Tensor | None,
    indices: Tensor,
    sink: Tensor,
    page_size: int = 1,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """q bf16 [tokens, heads, 512] -> bf16 of its shape; softmax scale 512^-0.5, sink fp32 [heads].

    chunk bf16 [rows, 512] with chunk_indices int32 [tokens, keys] into it; cache in a layout of `_kv_cache` with
    indices int32 [tokens, extra_keys] of its slots; -1 for none. NaN or any bits in a row of chunk or cache reach only
    the tokens whose lists name it. No tokens are no launch. Raises UsageError for anything else.
    """
    name = "sparse_prefill"
    require(name, q=(q, torch.bfloat16, (None, None, WIDTH)))
    tokens, heads, _ = q.shape
    require(
        name,
        home=q,
        chunk=(chunk, torch.bfloat16, (None, WIDTH)),
        chunk_indices=(chunk_indices, torch.int32, (tokens, None)),
        indices=(indices, torch.int32, (tokens, None)),
        sink=(sink, torch.float32, (heads,)),
    )
    require_cache(name, q, cache, cache_aux, page_size)
    out = torch.empty_like(q)
    grid = (tokens * triton.cdiv(heads, config.size("BLOCK_H")),)
    launch(_sparse_prefill, grid)(
        q, chunk, chunk_indices, cache, cache_aux, indices, sink, out,
        heads, chunk_indices.shape[1], indices.shape[1], SCALE * LOG2E,
        PAGE_SIZE=page_size, LAYOUT=layout_of(cache, cache_aux), FNUZ=device.fp8 == "e4m3fnuz", **options(config),
    )  # fmt: skip
    return out
