"""The parts around an MTP layer in the float64 model: the embedding joins the streams, and a head gives the draft.

It follows DeepSeek V4's `inference/model.py` (class MTPBlock); transformers has no such block.
"""

from __future__ import annotations

import torch
from layer.model import EPS, Reference, U, normed
from layer.roundings import bf16, fp32
from torch import Tensor


def enter(ref: Reference, streams: Tensor) -> Tensor:
    """The streams of the block [T, 4, dim]."""
    maths = ref.maths
    embedding = ref.weight("embedding")[ref.case.token_ids]
    e_norm, h_norm = ref.weight("e_norm"), ref.weight("h_norm")
    if maths.predict_norms_swapped:
        e_norm, h_norm = h_norm, e_norm
    e = ref.tap("mtp.e_fp8", *normed(embedding, e_norm), ref.fp8)
    h, off = normed(streams, h_norm)
    if maths.streams_normed_together:
        h, off = (part.unflatten(1, streams.shape[1:]) for part in normed(streams.flatten(1), h_norm.repeat(4)))
    h = ref.tap("mtp.h_fp8", h, off, ref.fp8)
    e, h = ref.linear("mtp.e", e, "e_proj")[:, None, :], ref.linear("mtp.h", h, "h_proj")
    return ref.tap("mtp.streams", e + h, U * (e.abs() + h.abs()), bf16)


def leave(ref: Reference, streams: Tensor) -> Tensor:
    """The draft of each token, [T]."""
    fn, scale, base = (ref.weight(f"head.{part}") for part in ("fn", "scale", "base"))
    flat = streams.flatten(1)
    norm = torch.rsqrt(flat.square().mean(1, keepdim=True) + EPS)
    m = flat @ fn.T * norm
    # As in `model.mix`: products in fp32 of two bf16 parts of fn, and the norm's own sum.
    off = norm * (flat.shape[1] * U + 2.0**-16) * (flat.abs() @ fn.abs().T) + m.abs() * (flat.shape[1] * U + 2.0**-20)
    gate = torch.sigmoid(m * scale + base) + EPS
    gate_off = (off * scale.abs() + (m * scale).abs() * 2.0**-22) / 4 + 2.0**-21
    x = torch.einsum("ti,tid->td", gate, streams)
    x = ref.tap("head.x", x, torch.einsum("ti,tid->td", gate_off + 6 * U * gate, streams.abs()), bf16)
    h = ref.tap("head.h", *normed(x, ref.weight("head_norm")), bf16)
    return ref.choose("head.draft", ref.linear("head.logits", h, "lm_head", fp32).argmax(1))
