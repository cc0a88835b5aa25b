"""Sparse attention of decode steps: queries of all heads over listed rows of K = V caches, with a sink (K13).

Two index lists, as the layers have them: a sliding window, and compressed entries chosen by the indexer (or all of
them); they may point into two caches of their own layout and page size, or into one pool. Few tokens leave most of
the device idle, so keys are split over programs and combined in order by the last of them, or by a second launch.
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
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._kv_cache import decode_cache, draw_cache, layout_of, require_cache, row_bytes
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._rows import fp8_reject
from autotune.kernels.attention._listed import SCALE, Listed, listed_tile
from autotune.kernels.attention._problem import draw_indices, expect_attention
from autotune.kernels.attention._rules import attention_reject, split_for, split_reject, split_work
from autotune.kernels.attention._softmax import LOG2E, WIDTH, attend_list, epilogue, partial_buffers, reduce_partials


@dataclass(frozen=True)
class Problem(Listed):
    """Both lists name rows of caches, of one layout and perhaps pages of two sizes."""

    extra_page_size: int = 1

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        extra = 0 if args.extra_indices is None else args.extra_indices.shape[1]
        return cls(
            args.q.shape[0],
            args.q.shape[1],
            args.indices.shape[1],
            extra,
            layout_of(args.cache, args.cache_aux),
            args.page_size,
            extra_page_size=args.extra_page_size,
        )

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | None, ...]:
        draw = Draw(seed, device)
        q = draw.normal((self.tokens, self.heads, WIDTH), torch.bfloat16)
        sources: list[Tensor | None] = []
        for keys, page_size in ((self.keys, self.page_size), (self.extra_keys, self.extra_page_size)):
            if keys:
                # Every token is of another request, with keys of its own.
                slots = 2 * keys + 1
                sources += draw_cache(draw, self.tokens * slots, self.layout, page_size, self.dtype)
                sources.append(draw_indices(draw, (self.tokens, keys), slots, self.pattern, self.tokens))
            else:
                sources += [None, None, None]
        return q, *sources, draw.normal((self.heads,), torch.float32), self.page_size, self.extra_page_size

    @property
    def bytes_moved(self) -> int:
        listed = row_bytes(self.layout) + 4
        return self.tokens * ((self.keys + self.extra_keys) * listed + 4 * self.heads * WIDTH)


@triton.jit
def _sparse_decode(
    q_ptr, cache_ptr, aux_ptr, indices_ptr, extra_ptr, extra_aux_ptr, extra_indices_ptr, sink_ptr,
    out_ptr, partial_ptr, peak_ptr, ticket_ptr, heads, keys, extra_keys, scale,
    PAGE_SIZE: tl.constexpr, EXTRA_PAGE_SIZE: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr, SPLIT_KV: tl.constexpr,
    HAS_EXTRA: tl.constexpr, LAYOUT: tl.constexpr, EXTRA_LAYOUT: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    split = tl.program_id(2)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    q_ptrs = q_ptr + (token * heads + head)[:, None] * 512 + tl.arange(0, 512)[None, :]
    q = tl.load(q_ptrs, mask=(head < heads)[:, None], other=0.0)
    acc = tl.zeros((BLOCK_H, 512), dtype=tl.float32)
    peak = tl.full((BLOCK_H,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_H,), dtype=tl.float32)
    # Blocks of both lists in a row, cut into SPLIT_KV equal parts.
    blocks = tl.cdiv(keys, BLOCK_N)
    every = blocks + tl.cdiv(extra_keys, BLOCK_N)
    share = tl.cdiv(every, SPLIT_KV)
    first = split * share
    last = min(first + share, every)
    acc, peak, total = attend_list(
        acc, peak, total, q, indices_ptr + token * keys, first, min(last, blocks), keys,
        cache_ptr, aux_ptr, scale, PAGE_SIZE, BLOCK_N, LAYOUT, FNUZ,
    )  # fmt: skip
    if HAS_EXTRA:
        acc, peak, total = attend_list(
            acc, peak, total, q, extra_indices_ptr + token * extra_keys, max(first - blocks, 0), last - blocks,
            extra_keys, extra_ptr, extra_aux_ptr, scale, EXTRA_PAGE_SIZE, BLOCK_N, EXTRA_LAYOUT, FNUZ,
        )  # fmt: skip
    epilogue(
        acc,
        peak,
        total,
        sink_ptr,
        out_ptr,
        partial_ptr,
        peak_ptr,
        ticket_ptr,
        token,
        split,
        head,
        heads,
        SPLIT_KV,
        True,
    )


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    rows = [decode_cache(args.cache, args.cache_aux, args.page_size, problem.dtype)[args.indices.clamp_min(0).long()]]
    seen = [args.indices >= 0]
    if args.extra_cache is not None and args.extra_indices is not None:
        extra = decode_cache(args.extra_cache, args.extra_aux, args.extra_page_size, problem.dtype)
        rows.append(extra[args.extra_indices.clamp_min(0).long()])
        seen.append(args.extra_indices >= 0)
    return expect_attention(args.q.double(), torch.cat(rows, 1), torch.cat(seen, 1), SCALE, args.sink)


def _default(problem: Problem, device: Device) -> Config:
    tile = listed_tile(problem.heads, problem.layout, device)
    programs = problem.tokens * triton.cdiv(problem.heads, tile["BLOCK_H"])
    blocks = triton.cdiv(problem.keys, 32) + triton.cdiv(problem.extra_keys, 32)
    return matrix_config({**tile, "SPLIT_KV": split_for(programs, blocks, device)}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    block_n = config.size("BLOCK_N")
    blocks = triton.cdiv(problem.keys, block_n) + triton.cdiv(problem.extra_keys, block_n)
    rows_reject = attention_reject(problem.heads, config, device)
    return split_reject(blocks, config) or rows_reject or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return split_work(
        problem,
        problem.keys + problem.extra_keys,
        config,
        device,
        rows=min(config.size("BLOCK_H"), problem.heads),
        flops=4 * WIDTH,
        key_bytes=row_bytes(problem.layout) + 4,
        query_bytes=2 * WIDTH,
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_sparse_decode, reference=_reference, default=_default, reject=_reject, work=_work)
def sparse_decode(
    q: Tensor,
    cache: Tensor,
    cache_aux: Tensor | None,
    indices: Tensor,
    extra_cache: Tensor | None,
    extra_aux: Tensor | None,
    extra_indices: Tensor | None,
    sink: Tensor,
    page_size: int = 1,
    extra_page_size: int = 1,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """q bf16 [tokens, heads, 512] -> bf16 of its shape; softmax scale 512^-0.5, sink fp32 [heads].

    Caches in a layout of `_kv_cache`; indices int32 [tokens, keys] are slots of `cache`, extra_indices of
    `extra_cache`, -1 for none; a token without any key gets zeros. NaN or any bits in a row of a cache reach only the
    tokens whose lists name it. No tokens are no launch. Raises UsageError for anything else.
    """
    name = "sparse_decode"
    require(name, q=(q, torch.bfloat16, (None, None, WIDTH)))
    tokens, heads, _ = q.shape
    require(name, home=q, indices=(indices, torch.int32, (tokens, None)), sink=(sink, torch.float32, (heads,)))
    require_cache(name, q, cache, cache_aux, page_size)
    if (extra_cache is None) != (extra_indices is None):
        raise UsageError(f"{name}: extra_cache and extra_indices go together, got one without the other")
    if extra_cache is not None and extra_indices is not None:
        require_cache(name, q, extra_cache, extra_aux, extra_page_size, ("extra_cache", "extra_aux"))
        require(name, home=q, extra_indices=(extra_indices, torch.int32, (tokens, None)))
    out = torch.empty_like(q)
    split = config.size("SPLIT_KV")
    head_tiles = triton.cdiv(heads, config.size("BLOCK_H"))
    parts = partial_buffers(out, split, head_tiles, device)
    grid = (tokens, head_tiles, split)
    launch(_sparse_decode, grid)(
        q, cache, cache_aux, indices, extra_cache, extra_aux, extra_indices, sink, out, *parts,
        heads, indices.shape[1], 0 if extra_indices is None else extra_indices.shape[1], SCALE * LOG2E,
        PAGE_SIZE=page_size, EXTRA_PAGE_SIZE=extra_page_size, HAS_EXTRA=extra_cache is not None,
        LAYOUT=layout_of(cache, cache_aux),
        EXTRA_LAYOUT="bf16" if extra_cache is None else layout_of(extra_cache, extra_aux),
        FNUZ=device.fp8 == "e4m3fnuz", **options(config),
    )  # fmt: skip
    reduce_partials(out, *parts, sink)
    return out
