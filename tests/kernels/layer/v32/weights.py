"""DeepSeek V3.2's layers at reduced width: what each is made of, and weights drawn in the formats that kernels read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from layer.weights import KEY, Drawer, Weights
from torch import Tensor

PLAIN, ROPE, LATENT = 128, 64, 512
"""Columns of a query head without and with rotation, and of a key's latent part; a value head has PLAIN."""


@dataclass(frozen=True)
class Sizes:
    hidden: int = 256
    heads: int = 4
    q_lora: int = 128
    experts: int = 16
    experts_per_token: int = 3
    inner: int = 128
    dense_inner: int = 256
    index_heads: int = 8
    index_topk: int = 6
    page_size: int = 4
    vocab: int = 64
    route_scale: float = 2.5


@dataclass(frozen=True)
class Plan:
    """One layer: a wide MLP where `dense`, else experts; `ue8m0`: scales of its FP8 are powers of two."""

    dense: bool
    ue8m0: bool


PLANS = (Plan(dense=True, ue8m0=False), Plan(dense=False, ue8m0=True))
"""Scales of both forms are served: e8m0, or fp32 where a GPU's FP8 instructions take no scales."""


def draw_layer(plan: Plan, sizes: Sizes, dtype: str, seed: int) -> Weights:
    """All weights of one layer."""
    d = Drawer(seed, dtype, plan.ue8m0)
    return _attention(d, sizes) | (_dense(d, sizes) if plan.dense else _experts(d, sizes))


def draw_ends(sizes: Sizes, dtype: str, seed: int) -> Weights:
    """The embedding in front of the layers, and the norm and output matrix behind them."""
    d = Drawer(seed, dtype)
    return {
        "embedding": d.draw.normal((sizes.vocab, sizes.hidden), torch.bfloat16),
        "norm": d.norm(sizes.hidden),
        "lm_head": d.bf16(sizes.vocab, sizes.hidden),
    }


def _attention(d: Drawer, s: Sizes) -> Weights:
    return {
        "attn_norm": d.norm(s.hidden),
        "wqkv_a": d.fp8(s.q_lora + LATENT + ROPE, s.hidden),
        "q_norm": d.norm(s.q_lora),
        "kv_norm": d.norm(LATENT),
        "wq_b": d.fp8(s.heads * (PLAIN + ROPE), s.q_lora),
        "w_key": _by_head(d, s.heads, LATENT, PLAIN),
        "w_value": _by_head(d, s.heads, PLAIN, LATENT),
        "wo": d.fp8(s.hidden, s.heads * PLAIN),
        "index.wk": d.fp8(KEY, s.hidden),
        "index.norm": d.norm(KEY),
        "index.bias": d.draw.normal((KEY,), torch.float32, 0.5),
        "index.wq_b": d.fp8(s.index_heads * KEY, s.q_lora),
        "index.weights": d.bf16(s.index_heads, s.hidden),
    }


def _by_head(d: Drawer, heads: int, n: int, k: int) -> Tensor:
    """bf16 [heads, n, k]."""
    return d.draw.normal((heads, n, k), torch.bfloat16, k**-0.5)


def _dense(d: Drawer, s: Sizes) -> Weights:
    return {"ffn_norm": d.norm(s.hidden), **_mlp(d, "dense", s.hidden, s.dense_inner)}


def _experts(d: Drawer, s: Sizes) -> Weights:
    return {
        "ffn_norm": d.norm(s.hidden),
        "gate": d.bf16(s.experts, s.hidden),
        "bias": d.draw.normal((s.experts,), torch.float32, 0.3),
        "w13": d.fp8(s.experts, 2 * s.inner, s.hidden, gain=5.0),
        "w2": d.fp8(s.experts, s.hidden, s.inner, gain=0.1),
        **_mlp(d, "shared", s.hidden, s.inner),
    }


def _mlp(d: Drawer, name: str, hidden: int, inner: int) -> Weights:
    # Gates and ups of a few units: a clamp at 10, which V4 has, would show.
    return {f"{name}.w13": d.fp8(2 * inner, hidden, gain=5.0), f"{name}.w2": d.fp8(hidden, inner, gain=0.1)}
