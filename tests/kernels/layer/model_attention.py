"""Attention of the float64 model: keys of whole sequences, compressed entries, the indexer's choice, and the output."""

from __future__ import annotations

import math

import torch
from layer.model import Reference, U, normed
from layer.roundings import bf16, fp8, fp32, kv_row, mx, then
from layer.weights import HEAD, KEY, NOTHING, ROPE
from torch import Tensor

YARN = (16, 65536)
"""Factor, and original length."""


def attention(ref: Reference, x: Tensor) -> Tensor:
    """Attention of x [T, dim], the tokens of all requests."""
    case, plan, sizes = ref.case, ref.plan, ref.case.sizes
    positions = case.scene.positions
    y, off = normed(x, ref.weight("attn_norm"))
    if plan.fused and not plan.ratio:  # one launch, nothing in bf16 between
        h, hidden = y, ref.tap("attn.h_fp8", y, off, ref.fp8)
    else:
        h = ref.tap("attn.h", y, off, bf16)
        hidden = ref.tap("attn.h_fp8", h, 0.0, ref.fp8)
    latent, kv = ref.linear("attn.qkv", hidden, "wqkv_a").split((sizes.q_lora, HEAD), 1)
    latent = ref.tap("attn.latent", *normed(latent, ref.weight("q_norm")), ref.fp8)
    kv = ref.tap("attn.kv", *normed(kv, ref.weight("kv_norm")), bf16)
    q = ref.linear("attn.q_heads", latent, "wq_b").unflatten(1, (sizes.heads, HEAD))
    entries = chosen = None
    if plan.ratio:
        entries = _entries(ref, "compress", h)
        seen = _closed(ref)
        chosen = _index(ref, h, latent, seen) if plan.ratio == 4 else seen
    q = normed(q)[0] if ref.maths.head_norm else q
    q, off = rope(ref, q, positions)
    q = ref.tap("attn.q", q, off * 100, bf16)  # the norm's 512 squares in fp32, beside the turn's three roundings
    key, off = rope(ref, kv, positions)
    o = _attend(ref, q, _keys(ref, key, off), entries, chosen)
    turned, off = rope(ref, o, positions, inverse=True) if ref.maths.inverse_rope else (o, 0.0 * o)
    turned = ref.tap("attn.turned", turned, off, ref.fp8 if plan.fp8_output else bf16)
    return _projected(ref, turned)


def rope(ref: Reference, x: Tensor, positions: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """The last 64 columns of x [T, .., n] turned, and the error of cosines in fp32, two products and a sum."""
    maths, plan = ref.maths, ref.plan
    theta, yarn = (maths.long_theta, maths.yarn) if plan.ratio else (maths.short_theta, maths.short_yarn)
    plain, part = x[..., :-ROPE], x[..., -ROPE:]
    if not maths.rope_last:
        part, plain = x[..., :ROPE], x[..., ROPE:]
    turned = turn(part, positions, frequencies(theta, YARN if yarn else None), maths.interleaved, inverse)
    size = x.abs().unflatten(-1, (-1, 2)).sum(-1).repeat_interleave(2, -1)
    return torch.cat((plain, turned) if maths.rope_last else (turned, plain), -1), 4 * U * size


def turn(x: Tensor, positions: Tensor, frequency: Tensor, interleaved: bool, inverse: bool = False) -> Tensor:
    """x [T, .., 64] turned to its positions [T], in pairs (2i, 2i + 1) or, not `interleaved`, (i, i + 32)."""
    angle = positions.double()[:, None] * frequency
    angle = angle.view(len(angle), *(1,) * (x.ndim - 2), ROPE // 2)
    rotation = torch.polar(torch.ones_like(angle), -angle if inverse else angle)
    pairs = x.unflatten(-1, (-1, 2)) if interleaved else torch.stack(x.chunk(2, -1), -1)
    turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * rotation)
    return turned.flatten(-2) if interleaved else torch.cat(turned.unbind(-1), -1)


def frequencies(theta: float, yarn: tuple[int, int] | None) -> Tensor:
    """32 radians a position; `yarn` (factor, length) slows those that turn less than 32 times in `length` positions,
    `factor`-fold below one."""
    frequency = torch.tensor([theta ** (-2 * i / ROPE) for i in range(ROPE // 2)], dtype=torch.float64)
    if yarn is None:
        return frequency
    factor, length = yarn
    # The (real) index of the pair that turns so many times.
    fast, slow = (math.log(length / (turns * 2 * math.pi), theta) * ROPE / 2 for turns in (32, 1))
    fast, slow = max(math.floor(fast), 0), min(math.ceil(slow), ROPE - 1)
    kept = 1 - ((torch.arange(ROPE // 2) - fast) / (slow - fast)).clamp(0, 1)
    return frequency * kept + frequency / factor * (1 - kept)


def _keys(ref: Reference, key: Tensor, off: Tensor) -> tuple[Tensor, Tensor]:
    """Keys as their own chunk sees them, in bf16, and as all later tokens do, from the cache."""
    maths, plan = ref.maths, ref.plan
    rounding = kv_row(plan.layout, ref.case.fp8, maths.kv_power, maths.kv_rope_quantised)
    stored = ref.tap("attn.key", key, off, rounding if maths.kv_quantised else bf16)
    return stored if plan.full else ref.tap("attn.chunk_key", key, off, bf16), stored


def _attend(
    ref: Reference, q: Tensor, keys: tuple[Tensor, Tensor], entries: Tensor | None, chosen: Tensor | None
) -> Tensor:
    scene, plan = ref.case.scene, ref.plan
    window = max(scene.lengths) if plan.full else ref.case.sizes.window + ref.maths.window_keys
    found = []
    for request, (offset, length) in enumerate(zip(scene.offsets, scene.lengths, strict=True)):
        here = slice(offset, offset + length)
        t, s = torch.arange(length)[:, None], torch.arange(length)[None, :]
        near = (s <= t) & (s > t - window)
        in_chunk = s >= scene.chunk_starts[here, None]
        rows, seen = [keys[0][here], keys[1][here]], [near & in_chunk, near & ~in_chunk]
        if entries is not None and chosen is not None:
            first, count = scene.entry_offsets(plan.ratio)[request], scene.entries(plan.ratio)[request]
            rows.append(entries[first : first + count])
            seen.append(chosen[here, :count] > 0)
        found.append(_softmax(ref, q[here], torch.cat(rows), torch.cat(seen, 1)))
    return ref.tap("attn.o", *(torch.cat(part) for part in zip(*found, strict=True)), bf16)


def _softmax(ref: Reference, q: Tensor, rows: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Value and error of attention of q [T, heads, 512] over keys = values rows [S, 512], where seen [T, S]."""
    rows = torch.where(seen.any(0)[:, None], rows, 0.0)  # a row that nobody sees may hold anything
    scale = HEAD**-0.5 * ref.maths.mscale
    scores = torch.einsum("thd,sd->ths", q, rows) * scale
    scores = torch.where(seen[:, None, :], scores, float("-inf"))
    sink = ref.weight("sink")[None, :, None].expand(*scores.shape[:2], 1)
    logits = {
        "denominator": lambda: torch.cat((scores, sink), 2),
        "value": lambda: torch.cat((scores, sink), 2),
        "scaled": lambda: torch.cat((scores, sink * scale), 2),
        "none": lambda: scores,
    }[ref.maths.sink]()
    weights = torch.softmax(logits, 2)[..., : rows.shape[0]]
    if ref.maths.sink == "value":  # as if the weights of the keys had to add up to one
        weights = weights / weights.sum(2, keepdim=True)
    # 512 products in fp32 and a scaled argument of exp2 move numerator and denominator; p is rounded to bf16.
    size = torch.einsum("thd,sd->ths", q.abs(), rows.abs()) * scale
    off = torch.where(seen[:, None, :], (HEAD + 4) * U * size, 0.0).amax(2, keepdim=True) + 2.0**-20
    relative = torch.expm1(2 * off) + 2.0**-8 + 2 * rows.shape[0] * U
    return weights @ rows, relative * (weights @ rows.abs())


def _closed(ref: Reference) -> Tensor:
    """1 for each entry that a token may see, float64 [T, most entries of a request]."""
    entry = torch.arange(max(ref.case.scene.entries(ref.plan.ratio)))
    ends = (entry + ref.maths.closed_by) * ref.plan.ratio - 1
    if ref.maths.closed_by == 0:  # the window of the token itself does not count, even where it closes
        ends = (entry + 1) * ref.plan.ratio
    return (ref.case.scene.positions[:, None] >= ends[None, :]).double()


def _entries(ref: Reference, name: str, h: Tensor) -> Tensor:
    """Compressed keys [entries, 512], or those of the indexer [entries, 128]."""
    scene, ratio, width = ref.case.scene, ref.plan.ratio, HEAD if name == "compress" else KEY
    x = ref.linear(f"{name}.x", h, f"{name}.w", fp32)
    found, firsts = [], []
    for offset, length in zip(scene.offsets, scene.lengths, strict=True):
        count = length // ratio
        kv, score = x[offset : offset + count * ratio].unflatten(0, (count, ratio)).chunk(2, -1)
        found.append(_pooled(ref, kv, score + ref.weight(f"{name}.ape"), width))
        last = 0 if ref.maths.first_of_window else ratio - 1
        firsts.append(torch.arange(count) * ratio + last)
    pooled = ref.tap(f"{name}.pooled", *(torch.cat(part) for part in zip(*found, strict=True)), fp32)
    y, _ = normed(ref.taps.rounded(pooled, bf16), ref.weight(f"{name}.norm"))
    y, off = rope(ref, y, torch.cat(firsts))
    if name == "compress":
        rounding = kv_row(ref.plan.layout, ref.case.fp8)
        return ref.tap("compress.entry", y, off * 66, rounding)  # 512 squares beside the turn
    return _spread(ref, "index.key", y, 80)


def _pooled(ref: Reference, kv: Tensor, score: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Windows kv, score [W, ratio, channels] -> [W, width]: value and error. At ratio 4 windows overlap."""
    maths = ref.maths
    if kv.shape[2] > width:
        own, next_ = (
            (slice(width, None), slice(None, width)) if maths.own_half else (slice(None, width), slice(width, None))
        )
        old_kv = torch.cat((torch.zeros_like(kv[:1, :, next_]), kv[:-1, :, next_]))
        old_score = torch.cat((torch.full_like(kv[:1, :, next_], maths.missing_half), score[:-1, :, next_]))
        kv, score = kv[..., own], score[..., own]
        if maths.overlap:
            kv, score = torch.cat((old_kv, kv), 1), torch.cat((old_score, score), 1)
    weights = torch.softmax(score, 1)
    # exp of differences of scores that were rounded once; twice as many sums as there are rows.
    most = torch.where(score.isinf(), 0.0, score).abs().amax(1)
    relative = most * 8 * U + (2 * kv.shape[1] + 8) * U
    return (weights * kv).sum(1), relative * (weights * kv.abs()).sum(1)


def _spread(ref: Reference, name: str, y: Tensor, roundings: int) -> Tensor:
    """Hadamard-transformed rows of 128, rounded to bf16, then to FP8 or FP4; seven levels of sums in fp32."""
    size = y.abs().sum(-1, keepdim=True) * KEY**-0.5
    if ref.maths.hadamard:
        y = y @ hadamard()
    quantised = mx("e2m1") if ref.plan.fp4_index else fp8(ref.case.fp8, KEY)
    return ref.tap(name, y, roundings * U * size, then(bf16, quantised))


def hadamard() -> Tensor:
    """The orthogonal Hadamard matrix, float64 [128, 128]."""
    bits = torch.arange(KEY)[:, None] & torch.arange(KEY)[None, :]
    odd = sum((bits >> i) & 1 for i in range(7)) % 2
    return (1 - 2 * odd).double() * KEY**-0.5


def _index(ref: Reference, h: Tensor, latent: Tensor, seen: Tensor) -> Tensor:
    """1 for each entry that the indexer chooses for a token, [T, most entries]."""
    scene, sizes, maths = ref.case.scene, ref.case.sizes, ref.maths
    keys = _entries(ref, "index", h)
    q = ref.linear("index.q_heads", latent, "index.wq_b").unflatten(1, (sizes.index_heads, KEY))
    q = _spread(ref, "index.q", rope(ref, q, scene.positions)[0], 12)
    weights = ref.linear("index.raw_weights", h, "index.weights", fp32)
    weights = weights * (KEY * sizes.index_heads) ** -0.5 if maths.index_scaled else weights
    weights = ref.tap("index.weights", weights, 4 * U * weights.abs(), fp32)
    logits, off = torch.full_like(seen, NOTHING), torch.zeros_like(seen)
    for request, (offset, length) in enumerate(zip(scene.offsets, scene.lengths, strict=True)):
        first, count = scene.entry_offsets(4)[request], scene.entries(4)[request]
        here, there = slice(offset, offset + length), keys[first : first + count]
        dots = torch.einsum("thd,ed->the", q[here], there)
        size = torch.einsum("thd,ed->the", q[here].abs(), there.abs()) * weights[here, :, None].abs()
        dots = torch.relu(dots) if maths.index_relu else dots
        logits[here, :count] = (dots * weights[here, :, None]).sum(1)
        off[here, :count] = (KEY + sizes.index_heads + 4) * U * size.sum(1)
    logits = torch.where(seen > 0, logits, NOTHING)
    logits = ref.tap("index.logits", logits, torch.where(seen > 0, off, 0.0), fp32)
    best = logits.topk(min(sizes.index_topk, logits.shape[1]), 1).indices
    return ref.choose("index.chosen", torch.zeros_like(seen).scatter_(1, best, 1.0) * (seen > 0))


def _projected(ref: Reference, turned: Tensor) -> Tensor:
    """Heads in groups through wo_a, all of them through wo_b."""
    w = ref.weight("wo_a")
    grouped = turned.flatten(1).unflatten(1, (w.shape[0], -1))
    value = torch.einsum("tgk,gnk->tgn", grouped, w)
    size = torch.einsum("tgk,gnk->tgn", grouped.abs(), w.abs())
    low = ref.tap("attn.low", value, (w.shape[2] + 2) * U * size, bf16).flatten(1)
    return ref.linear("attn.out", ref.tap("attn.low_fp8", low, 0.0, ref.fp8), "wo_b")
