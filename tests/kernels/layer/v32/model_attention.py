"""V3.2's attention in the float64 model: the indexer's choice of keys, and attention over them.

Absorbed projections are exact rewritings: a query goes through the keys' matrix of its head in place of each key, and
the sum of latent rows through that of the values. The kernels round between them, and the taps are where they do.
"""

from __future__ import annotations

import torch
from layer.model import EPS, U, normed
from layer.model_attention import frequencies, hadamard, turn
from layer.roundings import bf16, fp8, fp32, then
from layer.v32.model import Reference
from layer.v32.weights import LATENT, PLAIN, ROPE
from layer.weights import KEY, NOTHING
from torch import Tensor

YARN = (40, 4096)
"""Factor, and original length."""


def attention(ref: Reference, h: Tensor, hidden: Tensor) -> Tensor:
    """Attention of the normed rows h [T, dim], in FP8 `hidden`."""
    sizes = ref.case.sizes
    qkv = ref.linear("attn.qkv", hidden, "wqkv_a")
    latent, kv = qkv.split((sizes.q_lora, LATENT + ROPE), 1)
    latent = ref.tap("attn.latent", *normed(latent, ref.weight("q_norm")), ref.fp8)
    key = _keys(ref, kv)
    chosen = _chosen(ref, h, hidden, latent)
    q = ref.linear("attn.q_heads", latent, "wq_b").unflatten(1, (sizes.heads, PLAIN + ROPE))
    plain, rotary = q.split((PLAIN, ROPE), 2)
    q_latent = _by_head(ref, "attn.q_latent", plain, "w_key")
    q_rope = ref.tap("attn.q_rope", *_rope(ref, rotary, ref.maths.interleaved), bf16)
    o = ref.tap("attn.o", *_attend(ref, torch.cat((q_latent, q_rope), 2), key, chosen), bf16)
    heads = _by_head(ref, "attn.heads", o, "w_value").flatten(1)
    return ref.linear("attn.out", ref.tap("attn.heads_fp8", heads, 0.0, ref.fp8), "wo")


def _keys(ref: Reference, kv: Tensor) -> Tensor:
    """Keys [T, 576] as they lie in the cache; their first 512 columns are the values."""
    weight, rest = ref.weight("kv_norm"), torch.ones(ROPE, dtype=torch.float64)
    normed_columns = LATENT + ROPE if ref.maths.rotary_key_normed else LATENT
    y, off = normed(kv[:, :normed_columns], torch.cat((weight, rest))[:normed_columns])
    copied = kv[:, normed_columns:]
    kv = ref.tap("attn.kv", torch.cat((y, copied), 1), torch.cat((off, torch.zeros_like(copied)), 1), bf16)
    key, off = _rope(ref, kv[:, LATENT:], ref.maths.interleaved)
    whole = torch.cat((kv[:, :LATENT], key), 1), torch.cat((torch.zeros_like(kv[:, :LATENT]), off), 1)
    return ref.tap("attn.key", *whole, bf16)


def _rope(ref: Reference, x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """x [T, .., 64] turned, and the error of cosines in fp32, two products and a sum."""
    frequency = frequencies(ref.maths.theta, YARN if ref.maths.yarn else None)
    y = turn(x, ref.case.scene.positions, frequency, interleaved)
    return y, 4 * U * x.abs().unflatten(-1, (-1, 2)).sum(-1).repeat_interleave(2, -1)


def _by_head(ref: Reference, name: str, x: Tensor, weight: str) -> Tensor:
    """x [T, heads, k] by the matrix of each head [heads, n, k]."""
    w = ref.weight(weight)
    value = torch.einsum("thk,hnk->thn", x, w)
    size = torch.einsum("thk,hnk->thn", x.abs(), w.abs())
    return ref.tap(name, value, (w.shape[2] + 2) * U * size, bf16)


def _attend(ref: Reference, q: Tensor, key: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Value and error of attention of q [T, heads, 576] to the keys `chosen` [T, longest] of each token's request."""
    scene, maths = ref.case.scene, ref.maths
    scale = maths.scale_width**-0.5 * maths.mscale**2
    values, errors = [], []
    for offset, length in zip(scene.offsets, scene.lengths, strict=True):
        here = slice(offset, offset + length)
        rows, sees = key[here], chosen[here, None, :length] > 0
        scores = torch.where(sees, torch.einsum("thd,sd->ths", q[here], rows) * scale, float("-inf"))
        weights = torch.softmax(scores, 2)
        # 576 products in fp32 and a scaled argument of exp2 move numerator and denominator; p is rounded to bf16.
        size = torch.einsum("thd,sd->ths", q[here].abs(), rows.abs()) * scale
        off = torch.where(sees, (LATENT + ROPE + 4) * U * size, 0.0).amax(2, keepdim=True) + 2.0**-20
        relative = torch.expm1(2 * off) + 2.0**-8 + 2 * length * U
        latents = rows[:, :LATENT]
        values.append(weights @ latents)
        errors.append(relative * (weights @ latents.abs()))
    return torch.cat(values), torch.cat(errors)


def _chosen(ref: Reference, h: Tensor, hidden: Tensor, latent: Tensor) -> Tensor:
    """1 for each key that a token attends to, [T, longest]: all that it sees, or of more the best by the indexer."""
    scene, sizes, maths = ref.case.scene, ref.case.sizes, ref.maths
    keys = _index_keys(ref, hidden)
    q = ref.linear("index.q_heads", latent, "index.wq_b").unflatten(1, (sizes.index_heads, KEY))
    q = _spread(ref, "index.q", q, 0.0)
    weights = ref.linear("index.raw_weights", h, "index.weights", fp32)
    weights = weights * (KEY * sizes.index_heads) ** -0.5 if maths.index_scaled else weights
    weights = ref.tap("index.weights", weights, 4 * U * weights.abs(), fp32)
    longest = torch.arange(max(scene.lengths))
    seen = longest[None, :] <= scene.positions[:, None] + maths.seen_beyond
    logits = ref.tap("index.logits", *_logits(ref, q, weights, keys, seen), fp32)
    count = sizes.index_topk + maths.chosen_beyond
    best = torch.zeros_like(logits).scatter_(1, logits.nan_to_num().topk(count, 1).indices, 1.0)
    # The kernels leave the logits out where no context of a step is longer than the choice.
    all_seen = seen.sum(1, keepdim=True) <= count
    return ref.choose("index.chosen", (seen & (all_seen | (best > 0))).double())


def _index_keys(ref: Reference, hidden: Tensor) -> Tensor:
    """Keys of the indexer [T, 128]: LayerNorm, RoPE on their first half, Hadamard, FP8."""
    maths = ref.maths
    k = ref.linear("index.k", hidden, "index.wk")
    weight = ref.weight("index.norm")
    centred = k - k.mean(1, keepdim=True) if maths.key_centred else k
    rstd = torch.rsqrt(centred.square().mean(1, keepdim=True) + EPS)
    scaled = centred * rstd * weight
    y = scaled + ref.weight("index.bias") if maths.key_bias else scaled
    # The mean errs by 128 roundings of the mean magnitude, the variance by as many of itself, halved by the root.
    centre = KEY * U * k.abs().mean(1, keepdim=True) * rstd * weight.abs()
    return _spread(ref, "index.key", y, 2 * centre + (KEY + 6) * U * scaled.abs() + 2 * U * y.abs())


def _spread(ref: Reference, name: str, x: Tensor, error: Tensor | float) -> Tensor:
    """x [T, .., 128], known within `error`, turned, Hadamard-transformed, rounded to bf16 and then to FP8."""
    maths = ref.maths
    rotary, plain = x.split(ROPE, -1)
    if maths.index_rope_last:
        plain, rotary = rotary, plain
    turned = _rope(ref, rotary, maths.index_interleaved)[0]
    y = torch.cat((plain, turned) if maths.index_rope_last else (turned, plain), -1)
    y = y @ hadamard() if maths.hadamard else y
    # A turn errs by three roundings of both of its pair; then seven levels of sums and a product, of whole rows.
    off = 2 * (error + torch.zeros_like(x)).sum(-1, keepdim=True) + (2 * 3 + 2 * 8) * U * x.abs().sum(-1, keepdim=True)
    return ref.tap(name, y, off * KEY**-0.5, then(bf16, fp8(ref.case.fp8, KEY, maths.power_scales)))


def _logits(ref: Reference, q: Tensor, weights: Tensor, keys: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Value and error of the indexer's logits [T, longest], NOTHING where a token does not see a key."""
    scene, heads = ref.case.scene, ref.case.sizes.index_heads
    logits, off = torch.full(seen.shape, NOTHING, dtype=torch.float64), torch.zeros(seen.shape, dtype=torch.float64)
    for offset, length in zip(scene.offsets, scene.lengths, strict=True):
        here = slice(offset, offset + length)
        dots = torch.einsum("thd,sd->ths", q[here], keys[here])
        size = torch.einsum("thd,sd->ths", q[here].abs(), keys[here].abs()) * weights[here, :, None].abs()
        dots = torch.relu(dots) if ref.maths.index_relu else dots
        logits[here, :length] = (dots * weights[here, :, None]).sum(1)
        off[here, :length] = (KEY + heads + 4) * U * size.sum(1)
    return torch.where(seen, logits, NOTHING), torch.where(seen, off, 0.0)
