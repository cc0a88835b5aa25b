"""The layers of `weights`, assembled from the project's kernels; what each makes of a token goes into a trace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from autotune.device import Device
from autotune.kernels import gemm, hyperconnection, moe, norm, quant
from autotune.kernels._quant import decode_e8m0
from layer.batch import Batch
from layer.dense import Fp8Rows, linear
from layer.mixer import Attention
from layer.scene import Scene
from layer.weights import Plan, Sizes, Weights

Trace = dict[str, Tensor]


@dataclass(frozen=True)
class Recorder:
    """Puts values in rows of a trace, under the name of a layer."""

    trace: Trace
    scope: str
    sizes: dict[str, int]
    """Rows that the trace has for `tokens` and for `entries`."""

    def __call__(self, name: str, value: Tensor, rows: Tensor, of: str = "tokens") -> None:
        key = f"{self.scope}.{name}"
        if key not in self.trace:
            self.trace[key] = torch.full((self.sizes[of], *value.shape[1:]), float("nan"))
        self.trace[key][rows] = value.float()


class Layer:
    """One layer with its caches; a step takes the streams of its tokens to the next layer's."""

    def __init__(self, plan: Plan, sizes: Sizes, weights: Weights, scene: Scene, gpu: Device, record: Recorder) -> None:
        self.plan, self.sizes, self.weights, self.gpu, self.record = plan, sizes, weights, gpu, record
        self.attention = Attention(plan, sizes, weights, scene, gpu, record)

    def step(self, streams: Tensor, batch: Batch) -> Tensor:
        put = partial(self.record, rows=batch.rows)
        attn, ffn = (
            tuple(self.weights[f"{place}_mix.{part}"] for part in ("fn", "scale", "base")) for place in ("attn", "ffn")
        )
        x, post, comb = hyperconnection.mhc_pre(streams, *attn, device=self.gpu)
        put("attn.x", x), put("attn.post", post), put("attn.comb", comb)
        out = self.attention.step(x, batch)
        if self.plan.fused:
            streams, x, *mixed = hyperconnection.mhc_post_pre(out, streams, post, comb, *ffn, device=self.gpu)
        else:
            streams = hyperconnection.mhc_post(out, streams, post, comb, device=self.gpu)
            x, *mixed = hyperconnection.mhc_pre(streams, *ffn, device=self.gpu)
        post, comb = mixed
        put("attn.streams", streams), put("ffn.x", x), put("ffn.post", post), put("ffn.comb", comb)
        streams = hyperconnection.mhc_post(self._feed_forward(x, batch), streams, post, comb, device=self.gpu)
        put("ffn.streams", streams)
        return streams

    def _feed_forward(self, x: Tensor, batch: Batch) -> Tensor:
        w, s, gpu = self.weights, self.sizes, self.gpu
        put = partial(self.record, rows=batch.rows)
        h = norm.rms_norm(x, w["ffn_norm"], device=gpu)
        gate = gemm.bf16_linear(h, w["gate"], device=gpu)
        hashed = w["hash"][batch.tokens] if self.plan.hashed else None
        scoring = "hash" if self.plan.hashed else "sqrtsoftplus"
        weights, ids = moe.router(
            gate, w.get("bias"), hashed, s.experts_per_token, scoring, s.route_scale, device=gpu
        )  # fmt: skip
        put("ffn.h", h), put("ffn.gate", gate), put("ffn.weights", weights), put("ffn.experts", ids)
        shared = self._shared(h, put)
        inside = weights.flatten() if self.plan.fused else None
        q, scale = quant.mx_quant(h, False, False, gpu.fp8, device=gpu)
        put("ffn.h_mx", q.double() * decode_e8m0(scale))
        up = moe.mxfp4_grouped_gemm(q, scale, w["w13"].q, w["w13"].scale, ids, device=gpu)
        q, scale = moe.swiglu_quant(up, inside, True, gpu.fp8, device=gpu)
        down = moe.mxfp4_grouped_gemm(q, scale, w["w2"].q, w["w2"].scale, ids, device=gpu)
        slots = (len(batch.rows), s.experts_per_token, -1)
        put("ffn.up", up.view(slots)), put("ffn.down", down.view(slots))
        put("ffn.act", (q.double() * decode_e8m0(scale)).view(slots))
        out = moe.combine(down, s.experts_per_token, None if self.plan.fused else weights, shared, device=gpu)
        put("ffn.out", out)
        return out

    def _shared(self, h: Tensor, put: partial[None]) -> Tensor:
        w, gpu = self.weights, self.gpu
        q = Fp8Rows(*quant.fp8_group_quant(h, 128, True, gpu.fp8, device=gpu))
        up = linear(q, w["shared.w13"], gpu)
        act = Fp8Rows(*moe.swiglu_quant(up, None, False, gpu.fp8, device=gpu))
        out = linear(act, w["shared.w2"], gpu)
        put("shared.h", q.wide), put("shared.up", up), put("shared.act", act.wide), put("shared.out", out)
        return out
