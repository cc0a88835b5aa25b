"""The choices of the maths that are easy to get wrong, each a field whose default is right; and each got wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Maths:
    post_factor: float = 2.0
    """post = 2 sigmoid(m s + b)."""
    comb_from_to: bool = True
    """comb is indexed [from, to]."""
    sinkhorn_steps: int = 20
    head_norm: bool = True
    """Query heads are normed, without a weight."""
    rope_last: bool = True
    interleaved: bool = True
    """Pairs are columns 2i and 2i + 1."""
    long_theta: float = 160000.0
    yarn: bool = True
    """Both where the ratio is not 0."""
    short_theta: float = 10000.0
    short_yarn: bool = False
    inverse_rope: bool = True
    mscale: float = 1.0
    """No YaRN factor on the softmax scale."""
    sink: str = "denominator"
    kv_power: bool = True
    """Scales of keys are powers of two."""
    kv_rope_quantised: bool = False
    kv_quantised: bool = True
    window_keys: int = 0
    """Beside the window's own count."""
    first_of_window: bool = True
    """An entry turns to the position of its window's first token."""
    own_half: int = 1
    """Which half of a token's channels its own window pools."""
    overlap: bool = True
    missing_half: float = float("-inf")
    """Score of the window before the first."""
    closed_by: int = 1
    """The window that closes on a token is seen by it."""
    hadamard: bool = True
    index_relu: bool = True
    index_scaled: bool = True
    bias_in_weights: bool = False
    weights_summed: bool = True
    route_scaled: bool = True
    swiglu_limit: float = 10.0
    gate_clamped_below: bool = False
    predict_norms_swapped: bool = False
    """In an MTP block: the embedding's norm and that of the streams."""
    streams_normed_together: bool = False
    """Before an MTP block: one RMS of all four streams, not one each."""


RIGHT = Maths()

# Where each must be noticed first: kinds of layers, and stages (of any layer).
TRAPS: dict[str, tuple[Maths, str, str]] = {
    "post without its factor 2": (replace(RIGHT, post_factor=1.0), "csa hca window full", "attn.post"),
    "comb transposed": (replace(RIGHT, comb_from_to=False), "csa hca window full", "attn.streams"),
    "one Sinkhorn step": (replace(RIGHT, sinkhorn_steps=1), "csa hca window full", "attn.comb"),
    "query heads not normed": (replace(RIGHT, head_norm=False), "csa hca window full", "attn.q"),
    "RoPE on the first 64": (replace(RIGHT, rope_last=False), "csa hca window full", "compress.entry attn.q"),
    "RoPE on halves, not pairs": (replace(RIGHT, interleaved=False), "csa hca window full", "compress.entry attn.q"),
    "theta 10000 with a ratio": (replace(RIGHT, long_theta=10000.0), "csa hca", "compress.entry attn.q"),
    "no YaRN with a ratio": (replace(RIGHT, yarn=False), "csa hca", "compress.entry attn.q"),
    "theta 160000 without a ratio": (replace(RIGHT, short_theta=160000.0), "window full", "attn.q"),
    "YaRN without a ratio": (replace(RIGHT, short_yarn=True), "window full", "attn.q"),
    "no inverse RoPE": (replace(RIGHT, inverse_rope=False), "csa hca window full", "attn.turned"),
    "YaRN's factor on the scale": (replace(RIGHT, mscale=1.2773**2), "csa hca window full", "attn.o"),
    "no sink": (replace(RIGHT, sink="none"), "csa hca window full", "attn.o"),
    "sink as a key of its own value": (replace(RIGHT, sink="value"), "csa hca window full", "attn.o"),
    "sink scaled as scores are": (replace(RIGHT, sink="scaled"), "csa hca window full", "attn.o"),
    "keys not quantised": (replace(RIGHT, kv_quantised=False), "csa hca window", "attn.key"),
    "scales of keys no powers of two": (replace(RIGHT, kv_power=False), "csa hca window", "attn.key"),
    "rotary columns quantised": (replace(RIGHT, kv_rope_quantised=True), "csa hca window", "attn.key"),
    "window one key long": (replace(RIGHT, window_keys=1), "csa hca window", "attn.o"),
    "window one key short": (replace(RIGHT, window_keys=-1), "csa hca window", "attn.o"),
    "entry at its last position": (replace(RIGHT, first_of_window=False), "csa hca", "compress.entry"),
    "overlap halves swapped": (replace(RIGHT, own_half=0), "csa", "compress.pooled"),
    "no overlap": (replace(RIGHT, overlap=False), "csa", "compress.pooled"),
    "missing first half counted": (replace(RIGHT, missing_half=0.0), "csa", "compress.pooled"),
    "closing window unseen": (replace(RIGHT, closed_by=0), "csa hca", "index.logits attn.o"),
    "open window seen": (replace(RIGHT, closed_by=2), "csa hca", "index.logits attn.o"),
    "no Hadamard": (replace(RIGHT, hadamard=False), "csa", "index.key"),
    "no relu": (replace(RIGHT, index_relu=False), "csa", "index.logits"),
    "indexer weights unscaled": (replace(RIGHT, index_scaled=False), "csa", "index.weights"),
    "bias in the routing weights": (replace(RIGHT, bias_in_weights=True), "csa hca window full", "ffn.weights"),
    "routing weights not normalised": (replace(RIGHT, weights_summed=False), "csa hca window full", "ffn.weights"),
    "routing weights not scaled": (replace(RIGHT, route_scaled=False), "csa hca window full", "ffn.weights"),
    "SwiGLU not clamped": (replace(RIGHT, swiglu_limit=1e9), "csa hca window full", "shared.act ffn.act"),
    "norms of the MTP block swapped": (replace(RIGHT, predict_norms_swapped=True), "mtp", "mtp.e_fp8 mtp.h_fp8"),
    "streams normed together": (replace(RIGHT, streams_normed_together=True), "mtp", "mtp.h_fp8"),
    "gate clamped below": (replace(RIGHT, gate_clamped_below=True), "csa hca window full", "shared.act ffn.act"),
}
