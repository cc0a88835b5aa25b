"""Layers of DeepSeek V4 at reduced width: what each is made of, and weights drawn in the formats that kernels read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.inputs import FP8, Draw
from autotune.kernels._quant import decode_e8m0, decode_fp4, e8m0_powers, scale_powers

HEAD, ROPE, KEY, STREAMS = 512, 64, 128, 4
NOTHING = -1e30
"""Stands for -inf in comparisons, where inf - inf would be NaN."""


@dataclass(frozen=True)
class Sizes:
    hidden: int = 256
    heads: int = 4
    q_lora: int = 128
    o_groups: int = 2
    o_lora: int = 128
    experts: int = 8
    experts_per_token: int = 3
    inner: int = 128
    index_heads: int = 16
    index_topk: int = 2
    window: int = 8
    vocab: int = 64
    route_scale: float = 2.5


@dataclass(frozen=True)
class Plan:
    """One layer: its attention (`ratio` 4 is CSA, 128 HCA, 0 the window alone, or all keys where `full`), and the
    forms that kernels have for it: cache layout, FP4 or FP8 indexer, fused or separate launches."""

    ratio: int = 0
    full: bool = False
    layout: str = "bf16"
    page_size: int = 4
    fp4_index: bool = False
    hashed: bool = False
    fp8_output: bool = False
    predicts: bool = False
    """The block of MTP: an embedding joins its streams, and it has a head."""
    fused: bool = False
    """Norm with quantisation, post with the next pre, the routing weight with the activation."""


KINDS = {
    "csa": (
        Plan(4, layout="bf16", fp8_output=True),
        Plan(4, layout="fp8_584", fp4_index=True, hashed=True, fused=True),
    ),
    "hca": (
        Plan(128, layout="fp8", page_size=2, fused=True),
        Plan(128, layout="fp8_pools", page_size=2, fp8_output=True),
    ),
    "window": (
        Plan(layout="fp8_584", hashed=True, fused=True, fp8_output=True),
        Plan(layout="fp8"),
    ),
    "full": (Plan(full=True), Plan(full=True, fp8_output=True, fused=True)),
    "mtp": (Plan(layout="fp8_584", fp8_output=True, fused=True, predicts=True),),
}


@dataclass(frozen=True)
class Fp8:
    """[.., n, k] with a scale a block of 128 x 128, e8m0 as in the checkpoints or fp32."""

    q: Tensor
    scale: Tensor

    def exact(self) -> Tensor:
        n, k = self.q.shape[-2:]
        rows = scale_powers(self.scale).repeat_interleave(128, -2)[..., :n, :]
        return self.q.double() * rows.repeat_interleave(128, -1)[..., :k]


@dataclass(frozen=True)
class Fp4:
    """Packed [.., n, k / 2] with an e8m0 scale a group of 32."""

    q: Tensor
    scale: Tensor

    def exact(self) -> Tensor:
        return decode_fp4(self.q) * decode_e8m0(self.scale)


Weights = dict[str, Tensor | Fp8 | Fp4]


def exact(weight: Tensor | Fp8 | Fp4) -> Tensor:
    """float64 values."""
    return weight.double() if isinstance(weight, Tensor) else weight.exact()


class Drawer:
    """Draws weights; with `ue8m0` scales of FP8 are e8m0 bytes, else fp32 ones that are no powers of two."""

    def __init__(self, seed: int, dtype: str, ue8m0: bool = True) -> None:
        self.draw, self.dtype, self.ue8m0 = Draw(seed, "cpu"), dtype, ue8m0

    def fp8(self, *shape: int, gain: float = 1.0) -> Fp8:
        *lead, n, k = shape
        blocks = (*lead, -(-n // 128), -(-k // 128))
        exponent = 127 + round(math.log2(gain * k**-0.5))
        scale = self.draw.integers(blocks, exponent - 1, exponent + 1, torch.uint8)
        if not self.ue8m0:
            scale = e8m0_powers(scale).float() * self.draw.uniform(blocks, 0.75, 1.25)
        return Fp8(self.draw.normal(shape, FP8[self.dtype]), scale)

    def fp4(self, *shape: int, exponent: int) -> Fp4:
        *lead, k = shape
        q = self.draw.integers((*lead, k // 2), 0, 256, torch.uint8)
        return Fp4(q, self.draw.integers((*lead, k // 32), exponent + 126, exponent + 128, torch.uint8))

    def bf16(self, n: int, k: int, gain: float = 1.0) -> Tensor:
        return self.draw.normal((n, k), torch.bfloat16, gain * k**-0.5)

    def norm(self, width: int) -> Tensor:
        return self.draw.uniform((width,), 0.5, 1.5)


def draw_layer(plan: Plan, sizes: Sizes, dtype: str, seed: int) -> Weights:
    """All weights of one layer."""
    d = Drawer(seed, dtype)
    weights = _attention(d, plan, sizes) | _feed_forward(d, plan, sizes)
    for place in ("attn", "ffn"):
        k = STREAMS * sizes.hidden
        weights[f"{place}_norm"] = d.norm(sizes.hidden)
        weights[f"{place}_mix.fn"] = d.draw.normal((24, k), torch.float32, k**-0.5)
        weights[f"{place}_mix.scale"] = d.draw.uniform((3,), 0.5, 1.5)
        weights[f"{place}_mix.base"] = d.draw.normal((24,), torch.float32, 0.5)
    return weights | (_predictor(d, sizes) if plan.predicts else {})


def _predictor(d: Drawer, s: Sizes) -> Weights:
    return {
        "embedding": d.draw.normal((s.vocab, s.hidden), torch.bfloat16),
        "e_norm": d.norm(s.hidden),
        "h_norm": d.norm(s.hidden),
        "e_proj": d.fp8(s.hidden, s.hidden),
        "h_proj": d.fp8(s.hidden, s.hidden),
        "head.fn": d.draw.normal((STREAMS, STREAMS * s.hidden), torch.float32, (STREAMS * s.hidden) ** -0.5),
        "head.scale": d.draw.uniform((1,), 0.5, 1.5),
        "head.base": d.draw.normal((STREAMS,), torch.float32, 0.5),
        "head_norm": d.norm(s.hidden),
        "lm_head": d.bf16(s.vocab, s.hidden),
    }


def _attention(d: Drawer, plan: Plan, s: Sizes) -> Weights:
    wo_a_shape = (s.o_groups, s.o_lora, s.heads * HEAD // s.o_groups)
    found: Weights = {
        "wqkv_a": d.fp8(s.q_lora + HEAD, s.hidden),
        "q_norm": d.norm(s.q_lora),
        "kv_norm": d.norm(HEAD),
        "wq_b": d.fp8(s.heads * HEAD, s.q_lora),
        "sink": d.draw.normal((s.heads,), torch.float32),
        "wo_a": d.fp8(*wo_a_shape)
        if plan.fp8_output
        else d.draw.normal(wo_a_shape, torch.bfloat16, wo_a_shape[2] ** -0.5),
        "wo_b": d.fp8(s.hidden, s.o_groups * s.o_lora),
    }
    if plan.ratio:
        found |= _compressor(d, "compress", plan.ratio, HEAD, s.hidden)
    if plan.ratio == 4:
        found |= _compressor(d, "index", plan.ratio, KEY, s.hidden)
        found["index.wq_b"] = d.fp8(s.index_heads * KEY, s.q_lora)
        found["index.weights"] = d.bf16(s.index_heads, s.hidden)
    return found


def _compressor(d: Drawer, name: str, ratio: int, width: int, hidden: int) -> Weights:
    channels = 2 * width if ratio == 4 else width
    return {
        f"{name}.w": d.bf16(2 * channels, hidden),
        f"{name}.ape": d.draw.normal((ratio, channels), torch.float32),
        f"{name}.norm": d.norm(width),
    }


def _feed_forward(d: Drawer, plan: Plan, s: Sizes) -> Weights:
    found: Weights = {
        "gate": d.bf16(s.experts, s.hidden),
        # Gates and ups of a few units: some reach the clamp at 10.
        "w13": d.fp4(s.experts, 2 * s.inner, s.hidden, exponent=-3),
        "w2": d.fp4(s.experts, s.hidden, s.inner, exponent=-7),
        "shared.w13": d.fp8(2 * s.inner, s.hidden, gain=5.0),
        "shared.w2": d.fp8(s.hidden, s.inner, gain=0.1),
    }
    if plan.hashed:
        ranks = torch.rand((s.vocab, s.experts), generator=torch.Generator().manual_seed(s.vocab)).argsort(1)
        found["hash"] = ranks[:, : s.experts_per_token].int().contiguous()
    else:
        found["bias"] = d.draw.normal((s.experts,), torch.float32, 0.3)
    return found
