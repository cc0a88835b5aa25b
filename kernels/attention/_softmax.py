"""Parts of all attention kernels: one step of online softmax, splits over keys and their reduction, the reference.

Keys are values: 512 columns, seen by all heads. A sink is a logit without a value: it is in the denominator only.
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
from autotune.kernel import Expected
from autotune.kernels._kv_cache import load_rows
from autotune.kernels._launch import launch
from autotune.kernels._problem import Sizes

WIDTH = 512
LOG2E = 1.4426950408889634
_CHUNK = 2**27
"""Elements of the keys that a reference takes at a time, some tokens' of them: 1 GB in float64."""
PATTERNS = ("full", "short", "holes", "none", "clustered")
"""Index lists: all keys there; tails of -1; -1 anywhere; every second list empty; runs of RUN neighbours."""
RUN = 64


@dataclass(frozen=True)
class Attention(Sizes):
    """Queries of `tokens` and `heads` over `keys`."""

    tokens: int
    heads: int
    keys: int

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "keys")


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
    acc, peak, total, q, indices_ptr, first, last, keys, cache_ptr, scale_ptr, page_size, scale,
    BLOCK_N: tl.constexpr, LAYOUT: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    """Online softmax over blocks `first` to `last` of an index list of `keys` slots, -1 for none."""
    for block in range(first, last):
        offs = block * BLOCK_N + tl.arange(0, BLOCK_N)
        slot = tl.load(indices_ptr + offs, mask=offs < keys, other=-1).to(tl.int64)
        valid = slot >= 0
        kv = load_rows(slot, valid, cache_ptr, scale_ptr, page_size, LAYOUT, FNUZ)
        scores = tl.where(valid[None, :], tl.dot(q, tl.trans(kv)) * scale, float("-inf"))
        acc, peak, total = softmax_update(acc, peak, total, scores, kv)
    return acc, peak, total


@triton.jit
def epilogue(
    acc, peak, total, sink_ptr, out_ptr, partial_ptr, peak_ptr, token, split, head, heads,
    SPLIT_KV: tl.constexpr, HAS_SINK: tl.constexpr,
):  # fmt: skip
    """Write the result, or this split's partial of it."""
    col = tl.arange(0, 512)
    mask = (head < heads)[:, None]
    if SPLIT_KV == 1:
        if HAS_SINK:
            sink = tl.load(sink_ptr + head, mask=head < heads, other=0.0) * 1.4426950408889634
        else:
            sink = tl.full((head.shape[0],), float("-inf"), dtype=tl.float32)
        out = finish(acc, peak, total, sink)
        tl.store(out_ptr + (token * heads + head)[:, None] * 512 + col[None, :], out.to(tl.bfloat16), mask=mask)
    else:
        row = (token * SPLIT_KV + split) * heads + head
        tl.store(partial_ptr + row[:, None] * 512 + col[None, :], acc, mask=mask)
        tl.store(peak_ptr + row * 2, peak, mask=head < heads)
        tl.store(peak_ptr + row * 2 + 1, total, mask=head < heads)


@triton.jit
def reduce_splits(out_ptr, partial_ptr, peak_ptr, sink_ptr, heads, SPLIT_KV: tl.constexpr, HAS_SINK: tl.constexpr):
    """Add the splits of one head of one token in their order."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    col = tl.arange(0, 512)
    acc = tl.zeros((1, 512), dtype=tl.float32)
    peak = tl.full((1,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((1,), dtype=tl.float32)
    for split in range(SPLIT_KV):
        row = (token * SPLIT_KV + split) * heads + head
        there = tl.load(peak_ptr + row * 2)
        new = tl.maximum(peak, there)
        shift = tl.where(new == float("-inf"), 0.0, new)
        keep, take = tl.exp2(peak - shift), tl.exp2(there - shift)
        acc = acc * keep[:, None] + tl.load(partial_ptr + row * 512 + col)[None, :] * take[:, None]
        total = total * keep + tl.load(peak_ptr + row * 2 + 1) * take
        peak = new
    if HAS_SINK:
        sink = tl.zeros((1,), dtype=tl.float32) + tl.load(sink_ptr + head) * 1.4426950408889634
    else:
        sink = tl.full((1,), float("-inf"), dtype=tl.float32)
    out = finish(acc, peak, total, sink)
    tl.store(out_ptr + (token * heads + head) * 512 + col[None, :], out.to(tl.bfloat16))


def partial_buffers(out: Tensor, split: int) -> tuple[Tensor | None, Tensor | None]:
    """fp32 partials [tokens, split, heads, 512] and their peaks and totals [.., 2]; none where nothing is split."""
    if split == 1:
        return None, None
    tokens, heads, _ = out.shape
    partial = torch.empty((tokens, split, heads, WIDTH), device=out.device)
    return partial, torch.empty((tokens, split, heads, 2), device=out.device)


def reduce_partials(out: Tensor, partial: Tensor | None, peaks: Tensor | None, sink: Tensor | None) -> None:
    """Launch `reduce_splits` where keys were split."""
    if partial is not None:
        tokens, heads, _ = out.shape
        launch(reduce_splits, (tokens, heads))(
            out, partial, peaks, sink, heads, SPLIT_KV=partial.shape[1], HAS_SINK=sink is not None, num_warps=4
        )


def draw_indices(draw: Draw, shape: tuple[int, int], slots: int, pattern: str, requests: int = 1) -> Tensor:
    """int32 [tokens, keys], patterned, of the `slots` that each of `requests` has, one's behind another's; distinct for
    a token where there are enough. `clustered`: runs of RUN neighbours, as pages of a request lie."""
    indices = _scattered(draw, shape, slots)
    if indices.is_meta:
        return indices
    indices = _patterned(draw, indices, slots, pattern)
    first = torch.arange(shape[0], device=indices.device)[:, None] % requests * slots
    return torch.where(indices < 0, indices, indices + first).int()


def _scattered(draw: Draw, shape: tuple[int, int], slots: int) -> Tensor:
    """One slot of each of as many neighbourhoods as there are keys, these in an order of their own."""
    width = slots // shape[1]
    if width < 2:
        return draw.integers(shape, 0, slots, torch.int32)
    within = draw.integers(shape, 0, width, torch.int32)
    if within.is_meta:
        return within
    order = draw.uniform((shape[1],), 0, 1).argsort(stable=True)
    return order * width + within


def _patterned(draw: Draw, indices: Tensor, slots: int, pattern: str) -> Tensor:
    shape = tokens, keys = indices.shape
    if pattern == "full":
        return indices
    if pattern == "clustered":
        place = torch.arange(keys, device=indices.device)
        return (indices[:, place // RUN * RUN] + place % RUN) % slots
    if pattern == "short":
        length = draw.integers((tokens, 1), 0, keys + 1, torch.int32)
        return torch.where(torch.arange(keys, device=indices.device) < length, indices, -1)
    if pattern == "holes":
        return torch.where(draw.integers(shape, 0, 3, torch.int32) == 0, -1, indices)
    return torch.where(torch.arange(tokens, device=indices.device)[:, None] % 2 == 0, -1, indices)


def expect_attention(q: Tensor, keys: Tensor, seen: Tensor, scale: float, sink: Tensor | None) -> tuple[Expected, ...]:
    """q float64 [T, H, D], keys [T, K, D] (values are their first 512 columns), seen bool [T, K], sink [H] or None."""
    chunk = max(1, _CHUNK // (keys.shape[1] * keys.shape[2]))
    if q.shape[0] <= chunk:
        return (_expect_chunk(q, keys, seen, scale, sink),)
    chunks = zip(q.split(chunk), keys.split(chunk), seen.split(chunk), strict=True)
    parts = [_expect_chunk(*tensors, scale, sink) for tensors in chunks]
    return (Expected("o", torch.cat([part.value for part in parts]), torch.cat([part.bound for part in parts])),)


def _expect_chunk(q: Tensor, keys: Tensor, seen: Tensor, scale: float, sink: Tensor | None) -> Expected:
    scores = torch.einsum("thd,tkd->thk", q, keys) * scale
    there = seen[:, None, :].expand_as(scores)
    logits = torch.where(there, scores, float("-inf"))
    if sink is not None:
        logits = torch.cat((logits, sink.double()[None, :, None].expand(*logits.shape[:2], 1)), 2)
    # Without any key and sink the softmax of nothing is NaN, and the output zeros.
    some = (logits > float("-inf")).any(2, keepdim=True) | logits.isnan().any(2, keepdim=True)
    weights = torch.where(some, torch.softmax(logits, 2), 0.0)[..., : keys.shape[1]]
    # A key that is not in a list is not read: 0 x NaN would be NaN.
    keys = torch.where(seen[:, :, None], keys, 0.0)
    values = keys[..., :WIDTH]
    value = torch.einsum("thk,tkd->thd", weights, values)
    # D exact products in fp32, then a scaled argument of exp2: what each score may be off by, at worst.
    magnitude = torch.einsum("thd,tkd->thk", q.abs(), keys.abs()) * scale
    off = torch.where(there, (q.shape[2] + 4) * 2.0**-24 * magnitude, 0.0).amax(2, keepdim=True) + 2.0**-20
    # Numerator and denominator both move by it; p is rounded to bf16 in the numerator; sums of K in fp32; bf16 out.
    spread = torch.einsum("thk,tkd->thd", weights, values.abs())
    relative = torch.expm1(2 * off) + 2.0**-8 + 2 * keys.shape[1] * 2.0**-24
    return Expected("o", value, spread * relative + 2.0**-8 * value.abs())


def attention_reject(rows: int, config: Config, device: Device) -> str | None:
    """Rules of BLOCK_H query rows and BLOCK_N keys, 512 wide; `rows` is what there is to fill BLOCK_H with."""
    block_h, block_n = config.size("BLOCK_H"), config.size("BLOCK_N")
    threads = config.size("num_warps") * device.warp_size
    if block_h > 16 and block_h >= 2 * rows:
        return f"BLOCK_H={block_h} is at least twice the {rows} query rows"
    if block_h * WIDTH > 128 * threads:
        return f"{block_h * WIDTH // threads} fp32 accumulators a thread do not fit beside scores and keys"
    if block_h * block_n < threads // 2:
        return f"{threads} threads for {block_h * block_n} scores leave threads idle"
    tiles = 2 * WIDTH * (block_n * config.size("num_stages") + block_h)
    if tiles > device.shared_bytes_per_block:
        return f"{tiles} B of queries and staged keys exceed {device.shared_bytes_per_block} B of shared memory"
    return None
