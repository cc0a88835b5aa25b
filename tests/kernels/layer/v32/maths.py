"""The choices of V3.2's maths that are easy to get wrong, each a field whose default is right; and each got wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Maths:
    residual_added: bool = True
    sum_rounded: bool = True
    """A norm reads the sum of output and residual as it is stored, in bf16."""
    rotary_key_normed: bool = False
    """The norm of the latent would be one of all 576 columns."""
    interleaved: bool = True
    """Pairs of attention are columns 2i and 2i + 1."""
    index_interleaved: bool = False
    """Those of the indexer are i and i + 32."""
    index_rope_last: bool = False
    theta: float = 10000.0
    yarn: bool = True
    mscale: float = 0.1 * math.log(40) + 1
    """YaRN's factor, whose square multiplies the scale of the softmax."""
    scale_width: int = 192
    """Columns of a head before absorption."""
    key_centred: bool = True
    """The indexer's keys have a LayerNorm, not an RMSNorm."""
    key_bias: bool = True
    hadamard: bool = True
    index_relu: bool = True
    index_scaled: bool = True
    seen_beyond: int = 0
    """Keys that a token sees beyond its own."""
    chosen_beyond: int = 0
    """Keys chosen beside index_topk."""
    power_scales: bool = True
    """Scales are powers of two where they are e8m0, and in the indexer."""
    sigmoid: bool = True
    """Scores of experts are sigmoids, not a softmax."""
    expert_groups: bool = True
    """Only experts of the best groups may be chosen."""
    group_best: int = 2
    """A group is as good as the sum of so many of its experts."""
    bias_in_weights: bool = False
    weights_summed: bool = True
    route_scaled: bool = True
    swiglu_limit: float = math.inf


RIGHT = Maths()

# The stage, of any layer, at which each must be noticed first.
TRAPS: dict[str, tuple[Maths, str]] = {
    "residual not added": (replace(RIGHT, residual_added=False), "ffn.sum"),
    "sum normed before it is rounded": (replace(RIGHT, sum_rounded=False), "ffn.h_fp8"),
    "rotary key normed too": (replace(RIGHT, rotary_key_normed=True), "attn.kv"),
    "RoPE of attention on halves": (replace(RIGHT, interleaved=False), "attn.key"),
    "RoPE of the indexer on pairs": (replace(RIGHT, index_interleaved=True), "index.key"),
    "RoPE on the indexer's last 64": (replace(RIGHT, index_rope_last=True), "index.key"),
    "theta 160000": (replace(RIGHT, theta=160000.0), "attn.key"),
    "no YaRN": (replace(RIGHT, yarn=False), "attn.key"),
    "no mscale": (replace(RIGHT, mscale=1.0), "attn.o"),
    "scale of the absorbed width": (replace(RIGHT, scale_width=576), "attn.o"),
    "indexer's keys not centred": (replace(RIGHT, key_centred=False), "index.key"),
    "no bias of the indexer's keys": (replace(RIGHT, key_bias=False), "index.key"),
    "no Hadamard": (replace(RIGHT, hadamard=False), "index.key"),
    "no relu": (replace(RIGHT, index_relu=False), "index.logits"),
    "indexer weights unscaled": (replace(RIGHT, index_scaled=False), "index.weights"),
    "own key unseen": (replace(RIGHT, seen_beyond=-1), "index.logits"),
    "next key seen": (replace(RIGHT, seen_beyond=1), "index.logits"),
    "one key too few chosen": (replace(RIGHT, chosen_beyond=-1), "index.chosen"),
    "one key too many chosen": (replace(RIGHT, chosen_beyond=1), "index.chosen"),
    "scales no powers of two": (replace(RIGHT, power_scales=False), "index.key"),
    "softmax for sigmoid": (replace(RIGHT, sigmoid=False), "ffn.experts"),
    "no groups of experts": (replace(RIGHT, expert_groups=False), "ffn.experts"),
    "groups as good as their best": (replace(RIGHT, group_best=1), "ffn.experts"),
    "bias in the routing weights": (replace(RIGHT, bias_in_weights=True), "ffn.weights"),
    "routing weights not normalised": (replace(RIGHT, weights_summed=False), "ffn.weights"),
    "routing weights not scaled": (replace(RIGHT, route_scaled=False), "ffn.weights"),
    "SwiGLU clamped": (replace(RIGHT, swiglu_limit=10.0), "dense.act"),
}
