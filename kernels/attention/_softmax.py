"""Device parts of all attention kernels: one step of online softmax, splits over keys, and their reduction.

Keys are values: 512 columns, seen by all heads. A sink is a logit without a value: it is in the denominator only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.device import Device
from autotune.kernels._kv_cache import load_rows
from autotune.kernels._launch import launch
from autotune.kernels._tickets import arrives_last, joins_in_launch, tickets

WIDTH = 512
LOG2E = 1.4426950408889634


@triton.jit
def softmax_update(acc, peak, total, scores, kv):
    """Online softmax over one more block: acc [H, 512], peak and total [H], scores [H, N] in base 2 (-inf: no key),
    kv [N, 512]."""
    new = tl.maximum(peak, tl.max(scores, axis=1))
    # A row that has seen no key yet: subtract 0, so that no infinities meet.
    shift = tl.where(new == float("-inf"), 0.0, new)
    p = tl.exp2(scores - shift[:, None])
    keep = tl.exp2(peak - shift)
    acc = tl.dot(p.to(tl.bfloat16), kv, acc * keep[:, None])
    return acc, new, total * keep + tl.sum(p, axis=1)


@triton.jit
def finish(acc, peak, total, sink):
    """acc over total and the sink's term (base 2); zeros where there was no key at all."""
    new = tl.maximum(peak, sink)
    shift = tl.where(new == float("-inf"), 0.0, new)
    keep = tl.exp2(peak - shift)
    below = total * keep + tl.exp2(sink - shift)
    return acc * (keep / tl.where(below > 0, below, 1.0))[:, None]


@triton.jit
def attend_list(
    acc, peak, total, q, indices_ptr, first, last, keys, cache_ptr, aux_ptr, scale,
    PAGE_SIZE: tl.constexpr, BLOCK_N: tl.constexpr, LAYOUT: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    """Online softmax over blocks `first` to `last` of an index list of `keys` slots, -1 for none."""
    for block in range(first, last):
        offs = block * BLOCK_N + tl.arange(0, BLOCK_N)
        slot = tl.load(indices_ptr + offs, mask=offs < keys, other=-1).to(tl.int64)
        valid = slot >= 0
        kv = load_rows(slot, valid, cache_ptr, aux_ptr, PAGE_SIZE, LAYOUT, FNUZ)
        scores = tl.where(valid[None, :], tl.dot(q, tl.trans(kv)) * scale, float("-inf"))
        acc, peak, total = softmax_update(acc, peak, total, scores, kv)
    return acc, peak, total


@triton.jit
def _sinks(sink_ptr, head, heads, HAS_SINK: tl.constexpr):
    """Sinks in base 2 of `head` [H], -inf for none."""
    if HAS_SINK:
        return tl.load(sink_ptr + head, mask=head < heads, other=0.0) * 1.4426950408889634
    else:
        return tl.full((head.shape[0],), float("-inf"), dtype=tl.float32)


@triton.jit
def _join(
    out_ptr, partial_ptr, peak_ptr, sink_ptr, token, head, heads, SPLIT_KV: tl.constexpr, HAS_SINK: tl.constexpr
):  # fmt: skip
    """Write the result of `head` [H] of a token: its splits, added in their order."""
    col = tl.arange(0, 512)
    here = head < heads
    acc = tl.zeros((head.shape[0], 512), dtype=tl.float32)
    peak = tl.full((head.shape[0],), float("-inf"), dtype=tl.float32)
    total = tl.zeros((head.shape[0],), dtype=tl.float32)
    for split in range(SPLIT_KV):
        row = (token * SPLIT_KV + split) * heads + head
        there = tl.load(peak_ptr + row * 2, mask=here, other=float("-inf"))
        new = tl.maximum(peak, there)
        shift = tl.where(new == float("-inf"), 0.0, new)
        keep, take = tl.exp2(peak - shift), tl.exp2(there - shift)
        part = tl.load(partial_ptr + row[:, None] * 512 + col[None, :], mask=here[:, None], other=0.0)
        acc = acc * keep[:, None] + part * take[:, None]
        total = total * keep + tl.load(peak_ptr + row * 2 + 1, mask=here, other=0.0) * take
        peak = new
    out = finish(acc, peak, total, _sinks(sink_ptr, head, heads, HAS_SINK))
    tl.store(out_ptr + (token * heads + head)[:, None] * 512 + col[None, :], out.to(tl.bfloat16), mask=here[:, None])


@triton.jit
def epilogue(
    acc, peak, total, sink_ptr, out_ptr, partial_ptr, peak_ptr, ticket_ptr, token, split, head, heads,
    SPLIT_KV: tl.constexpr, HAS_SINK: tl.constexpr,
):  # fmt: skip
    """Write the result, or this split's partial of it; with tickets, the last split to arrive joins them all."""
    col = tl.arange(0, 512)
    mask = (head < heads)[:, None]
    if SPLIT_KV == 1:
        out = finish(acc, peak, total, _sinks(sink_ptr, head, heads, HAS_SINK))
        tl.store(out_ptr + (token * heads + head)[:, None] * 512 + col[None, :], out.to(tl.bfloat16), mask=mask)
    else:
        row = (token * SPLIT_KV + split) * heads + head
        tl.store(partial_ptr + row[:, None] * 512 + col[None, :], acc, mask=mask)
        tl.store(peak_ptr + row * 2, peak, mask=head < heads)
        tl.store(peak_ptr + row * 2 + 1, total, mask=head < heads)
        if ticket_ptr is not None:
            if arrives_last(ticket_ptr + token * tl.num_programs(1) + tl.program_id(1), SPLIT_KV):
                _join(out_ptr, partial_ptr, peak_ptr, sink_ptr, token, head, heads, SPLIT_KV, HAS_SINK)


@triton.jit
def reduce_splits(out_ptr, partial_ptr, peak_ptr, sink_ptr, heads, SPLIT_KV: tl.constexpr, HAS_SINK: tl.constexpr):
    """Add the splits of one head of one token in their order."""
    head = tl.program_id(1) + tl.arange(0, 1)
    _join(out_ptr, partial_ptr, peak_ptr, sink_ptr, tl.program_id(0).to(tl.int64), head, heads, SPLIT_KV, HAS_SINK)


def last_joins(split: int, device: Device) -> bool:
    """True if the last of `split` programs joins them.

    It reads 2 KiB a head and split alone, 256 KiB for 16 heads and 8 splits; more are left to a second launch, a
    program a head.
    """
    return split <= 8 and joins_in_launch(device)


def partial_buffers(
    out: Tensor, split: int, head_tiles: int, device: Device
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """fp32 partials [tokens, split, heads, 512], their peaks and totals [.., 2], tickets [tokens, head_tiles]; none
    where nothing is split, no tickets where a second launch joins."""
    if split == 1:
        return None, None, None
    tokens, heads, _ = out.shape
    partial = torch.empty((tokens, split, heads, WIDTH), device=out.device)
    peaks = torch.empty((tokens, split, heads, 2), device=out.device)
    return partial, peaks, tickets(tokens * head_tiles, out.device) if last_joins(split, device) else None


def reduce_partials(
    out: Tensor, partial: Tensor | None, peaks: Tensor | None, arrivals: Tensor | None, sink: Tensor | None
) -> None:
    """Launch `reduce_splits` where keys were split and not joined."""
    if partial is not None and arrivals is None:
        tokens, heads, _ = out.shape
        launch(reduce_splits, (tokens, heads))(
            out, partial, peaks, sink, heads, SPLIT_KV=partial.shape[1], HAS_SINK=sink is not None, num_warps=4
        )
