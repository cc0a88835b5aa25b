"""DeepSeek V4's layers from the maths, in float64, over whole sequences: no caches, no steps, no kernels.

`tap` marks where a kernel stores something, with how far an fp32 computation of it may be off and the format it is
stored in; see `taps`. Without taps' roundings this is the exact model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from layer.cases import Case
from layer.maths import Maths
from layer.roundings import Rounding, bf16, fp8, fp32, mx
from layer.taps import Exact
from layer.weights import Plan, exact
from torch import Tensor

EPS = 1e-6
U = 2.0**-24
"""Half an ulp of fp32."""


@dataclass(frozen=True)
class Reference:
    """One layer of a case, the maths that it follows, and what happens at its taps."""

    number: int
    case: Case
    maths: Maths
    taps: Exact

    @property
    def plan(self) -> Plan:
        return self.case.plans[self.number]

    @property
    def fp8(self) -> Rounding:
        return fp8(self.case.fp8, 128)

    def weight(self, name: str) -> Tensor:
        return exact(self.case.weights[self.number][name])

    def tap(self, name: str, value: Tensor, error: Tensor | float, rounding: Rounding) -> Tensor:
        return self.taps(f"{self.number}.{name}", value, error, rounding)

    def choose(self, name: str, value: Tensor) -> Tensor:
        return self.taps.choose(f"{self.number}.{name}", value)

    def linear(self, name: str, x: Tensor, weight: str, rounding: Rounding = bf16) -> Tensor:
        """x Wᵀ; k products added in fp32 in any order, two roundings for scales (Higham 2002, §4.2)."""
        w = self.weight(weight)
        return self.tap(name, x @ w.T, (x.shape[-1] + 2) * U * (x.abs() @ w.abs().T), rounding)


def normed(x: Tensor, weight: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """RMSNorm, and its error: a sum of squares, halved by the root, and a few products."""
    y = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * weight
    return y, (x.shape[-1] / 2 + 6) * U * y.abs()


def mix(ref: Reference, place: str, streams: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """mHC pre: (x, post, comb) of streams [T, 4, dim]."""
    fn, scale, base = (ref.weight(f"{place}_mix.{part}") for part in ("fn", "scale", "base"))
    flat = streams.flatten(1)
    norm = torch.rsqrt(flat.square().mean(1, keepdim=True) + EPS)
    m = flat @ fn.T * norm
    # Products in fp32, of fn cut into two bf16 parts; the norm's own sum.
    off = norm * (flat.shape[1] * U + 2.0**-16) * (flat.abs() @ fn.abs().T) + m.abs() * (flat.shape[1] * U + 2.0**-20)
    which = torch.tensor([0] * 4 + [1] * 4 + [2] * 16)
    at, off = m * scale[which] + base, off * scale[which].abs() + (m * scale[which]).abs() * 2.0**-22
    gate, gate_off = torch.sigmoid(at[:, :8]), off[:, :8] / 4 + 2.0**-21
    pre, pre_off = gate[:, :4] + EPS, gate_off[:, :4]
    x = torch.einsum("ti,tid->td", pre, streams)
    x_off = torch.einsum("ti,tid->td", pre_off + 6 * U * pre, streams.abs())
    post = ref.maths.post_factor * gate[:, 4:]
    comb, comb_off = _sinkhorn_within(at[:, 8:].unflatten(1, (4, 4)), off[:, 8:], ref.maths.sinkhorn_steps)
    return (
        ref.tap(f"{place}.x", x, x_off, bf16),
        ref.tap(f"{place}.post", post, 2 * gate_off[:, 4:], fp32),
        ref.tap(f"{place}.comb", comb, comb_off, fp32),
    )


def _sinkhorn(logits: Tensor, steps: int) -> Tensor:
    comb = torch.softmax(logits, -1) + EPS
    comb = comb / (comb.sum(-2, keepdim=True) + EPS)
    for _ in range(steps - 1):
        comb = comb / (comb.sum(-1, keepdim=True) + EPS)
        comb = comb / (comb.sum(-2, keepdim=True) + EPS)
    return comb


def _sinkhorn_within(logits: Tensor, off: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Value and error: the slope by every logit, a tenth on top for its change; forty divisions of six roundings."""
    slope = torch.func.vmap(torch.func.jacrev(lambda at: _sinkhorn(at, steps)))(logits).abs()
    comb = _sinkhorn(logits, steps)
    moved = torch.einsum("tijk,tk->tij", slope.flatten(3), off + logits.flatten(1).abs() * 2.0**-22)
    return comb, 1.1 * moved + comb * 240 * U


def put_back(ref: Reference, place: str, out: Tensor, streams: Tensor, post: Tensor, comb: Tensor) -> Tensor:
    """mHC post: a sublayer's output into the streams [T, 4, dim]."""
    way = "tij,tid->tjd" if ref.maths.comb_from_to else "tji,tid->tjd"
    value = post[:, :, None] * out[:, None, :] + torch.einsum(way, comb, streams)
    size = post[:, :, None] * out.abs()[:, None, :] + torch.einsum(way, comb, streams.abs())
    return ref.tap(f"{place}.streams", value, 6 * U * size, bf16)


def feed_forward(ref: Reference, x: Tensor) -> Tensor:
    """Routed experts and the shared one, of x [T, dim]."""
    h = ref.tap("ffn.h", *normed(x, ref.weight("ffn_norm")), bf16)
    weights, experts = _route(ref, ref.linear("ffn.gate", h, "gate", fp32))
    shared = ref.tap("shared.h", h, 0.0, ref.fp8)
    act = _swiglu(ref, ref.linear("shared.up", shared, "shared.w13"))
    shared = ref.linear("shared.out", ref.tap("shared.act", *act, ref.fp8), "shared.w2")
    inside = weights if ref.plan.fused else torch.ones_like(weights)
    h = ref.tap("ffn.h_mx", h, 0.0, mx(ref.case.fp8))
    up = expert_linear(ref, "ffn.up", h[:, None, :].expand(-1, experts.shape[1], -1), "w13", experts)
    act, act_off = (part * inside[..., None] for part in _swiglu(ref, up))
    down = expert_linear(ref, "ffn.down", ref.tap("ffn.act", act, act_off, mx(ref.case.fp8)), "w2", experts)
    terms = torch.cat((down if ref.plan.fused else down * weights[..., None], shared[:, None, :]), 1)
    return ref.tap("ffn.out", terms.sum(1), 2 * terms.shape[1] * U * terms.abs().sum(1), bf16)


def _route(ref: Reference, logits: Tensor) -> tuple[Tensor, Tensor]:
    """(weights, experts), both [T, k], best first; hashed layers take their experts from the token's id."""
    maths, count = ref.maths, ref.case.sizes.experts_per_token
    score = torch.nn.functional.softplus(logits).sqrt()
    choice = score if ref.plan.hashed else score + ref.weight("bias")
    experts = ref.weight("hash")[ref.case.token_ids] if ref.plan.hashed else choice.topk(count, 1).indices
    experts = ref.choose("ffn.experts", experts).long()
    weights = (choice if maths.bias_in_weights else score).gather(1, experts)
    weights = weights / weights.sum(1, keepdim=True) if maths.weights_summed else weights
    weights = weights * ref.case.sizes.route_scale if maths.route_scaled else weights
    # exp, log and root of a few ulps each; a sum, a division, a product.
    return ref.tap("ffn.weights", weights, weights.abs() * (count + 40) * 2 * U, fp32), experts


def _swiglu(ref: Reference, x: Tensor) -> tuple[Tensor, Tensor]:
    """Value and error; exp of an argument as large as the gate."""
    limit = ref.maths.swiglu_limit
    gate, up = x.chunk(2, -1)
    gate, up = gate.clamp_max(limit), up.clamp(-limit, limit)
    gate = gate.clamp_min(-limit) if ref.maths.gate_clamped_below else gate
    y = gate * torch.sigmoid(gate) * up
    return y, y.abs() * (gate.abs() + 8) * 2 * U


def expert_linear(
    ref: Reference, name: str, x: Tensor, weight: str, experts: Tensor, scale_roundings: int = 0
) -> Tensor:
    """x [T, k, n] by the weight of each slot's expert; scales that are no powers of two round too."""
    w = ref.weight(weight)
    value, size = (torch.empty(*experts.shape, w.shape[1], dtype=torch.float64) for _ in range(2))
    for expert in range(w.shape[0]):
        slots = experts == expert
        value[slots], size[slots] = x[slots] @ w[expert].T, x[slots].abs() @ w[expert].abs().T
    return ref.tap(name, value, (x.shape[-1] + scale_roundings) * U * size, bf16)
