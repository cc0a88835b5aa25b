"""DeepSeek V3.2 from the maths, in float64, over whole sequences: norms, feed-forward halves of layers, and the head.

`tap` marks where a kernel stores something; see `layer.taps`. Without taps' roundings this is the exact model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from layer import model
from layer.model import U, expert_linear, normed
from layer.roundings import Rounding, bf16, fp8, fp32
from layer.v32.cases import Case
from layer.v32.maths import Maths
from torch import Tensor


@dataclass(frozen=True)
class Reference(model.Reference):
    """One layer of the case, or behind the last one its ends."""

    case: Case
    maths: Maths

    @property
    def fp8(self) -> Rounding:
        return fp8(self.case.fp8, 128, self.plan.ue8m0 and self.maths.power_scales)


def normed_rows(
    ref: Reference, place: str, x: Tensor, residual: Tensor | None, in_bf16: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(x + residual normed, the same in FP8, x + residual) of a sublayer's output x [T, dim]."""
    h, residual = _summed(ref, f"{place}.sum", x, residual)
    y, off = normed(h, ref.weight(f"{place}_norm"))
    wide = ref.tap(f"{place}.h", y, off, bf16) if in_bf16 else y
    return wide, ref.tap(f"{place}.h_fp8", y, off, ref.fp8), residual


def _summed(ref: Reference, name: str, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    """(what a norm reads, the residual that goes on); the first norm of all has no residual yet."""
    if residual is None:
        return x, x
    total = x + residual if ref.maths.residual_added else x
    stored = ref.tap(name, total, U * (x.abs() + residual.abs()), bf16)
    return stored if ref.maths.sum_rounded else total, stored


def head(ref: Reference, x: Tensor, residual: Tensor) -> Tensor:
    """Logits [T, vocab] of the last layer's output and residual."""
    h, _ = _summed(ref, "head.sum", x, residual)
    h = ref.tap("head.h", *normed(h, ref.weight("norm")), bf16)
    logits = ref.linear("head.logits", h, "lm_head", fp32)
    ref.choose("head.token", logits.argmax(1))
    return logits


def mlp(ref: Reference, name: str, x: Tensor) -> Tensor:
    """The MLP `name` of x [T, dim]."""
    act = ref.tap(f"{name}.act", *_swiglu(ref, ref.linear(f"{name}.up", x, f"{name}.w13")), ref.fp8)
    return ref.linear(f"{name}.out", act, f"{name}.w2")


def _swiglu(ref: Reference, x: Tensor) -> tuple[Tensor, Tensor]:
    """Value and error; exp of an argument as large as the gate."""
    limit = ref.maths.swiglu_limit
    gate, up = x.chunk(2, -1)
    gate, up = gate.clamp_max(limit), up.clamp(-limit, limit)
    y = gate * torch.sigmoid(gate) * up
    return y, y.abs() * (gate.abs() + 8) * 2 * U


def mixture(ref: Reference, h: Tensor, hidden: Tensor) -> Tensor:
    """Routed experts of `hidden` [T, dim] and the shared one; the gate reads `h`, the same in bf16."""
    weights, experts = _route(ref, ref.linear("ffn.gate", h, "gate", fp32))
    shared = mlp(ref, "shared", hidden)
    up = expert_linear(ref, "ffn.up", hidden[:, None, :].expand(-1, experts.shape[1], -1), "w13", experts, 2)
    down = expert_linear(ref, "ffn.down", ref.tap("ffn.act", *_swiglu(ref, up), ref.fp8), "w2", experts, 2)
    terms = torch.cat((down * weights[..., None], shared[:, None, :]), 1)
    return ref.tap("ffn.out", terms.sum(1), 2 * terms.shape[1] * U * terms.abs().sum(1), bf16)


def _route(ref: Reference, logits: Tensor) -> tuple[Tensor, Tensor]:
    """(weights, experts), both [T, k], best first: of 8 groups 4 stay, by their two best experts, then the top k."""
    maths, count = ref.maths, ref.case.sizes.experts_per_token
    score = torch.sigmoid(logits) if maths.sigmoid else torch.softmax(logits, 1)
    choice = score + ref.weight("bias")
    groups = choice.unflatten(1, (8, -1))
    best = groups.topk(maths.group_best, 2).values.sum(2).topk(4, 1).indices
    stays = torch.zeros_like(groups[:, :, 0]).scatter_(1, best, 1.0)[:, :, None] > 0
    allowed = torch.where(stays, groups, float("-inf")).flatten(1) if maths.expert_groups else choice
    experts = ref.choose("ffn.experts", allowed.topk(count, 1).indices).long()
    weights = (choice if maths.bias_in_weights else score).gather(1, experts)
    weights = weights / weights.sum(1, keepdim=True) if maths.weights_summed else weights
    weights = weights * ref.case.sizes.route_scale if maths.route_scaled else weights
    # exp of a few ulps, a division; a sum, a division, a product.
    return ref.tap("ffn.weights", weights, weights.abs() * (count + 40) * 2 * U, fp32), experts
