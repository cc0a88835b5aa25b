"""The layers of `weights`, assembled from the project's kernels; what each makes of a token goes into a trace."""

from __future__ import annotations

from functools import partial

from layer.batch import Batch
from layer.dense import Fp8Rows, linear
from layer.mixer import Attention
from layer.parts import Site
from layer.predict import Predictor
from torch import Tensor

from autotune.kernels import gemm, hyperconnection, moe, norm, quant
from autotune.kernels._quant import decode_e8m0
from autotune.kernels.moe.swiglu_quant import LIMIT


class Layer:
    """One layer with its caches; a step takes the streams of its tokens to the next layer's."""

    def __init__(self, site: Site) -> None:
        self.site, self.attention = site, Attention(site)
        self.predictor = Predictor(site) if site.plan.predicts else None

    def step(self, streams: Tensor, batch: Batch) -> Tensor:
        if self.predictor is None:
            return self._block(streams, batch)
        streams = self._block(self.predictor.enter(streams, batch), batch)
        self.predictor.leave(streams, batch)
        return streams

    def _block(self, streams: Tensor, batch: Batch) -> Tensor:
        put = partial(self.site.record, rows=batch.rows)
        attn, ffn = self._mix("attn"), self._mix("ffn")
        x, post, comb = self.site.launch(hyperconnection.mhc_pre, streams, *attn)
        put("attn.x", x), put("attn.post", post), put("attn.comb", comb)
        out = self.attention.step(x, batch)
        if self.site.plan.fused:
            streams, x, *mixed = self.site.launch(hyperconnection.mhc_post_pre, out, streams, post, comb, *ffn)
        else:
            streams = self.site.launch(hyperconnection.mhc_post, out, streams, post, comb)
            x, *mixed = self.site.launch(hyperconnection.mhc_pre, streams, *ffn)
        post, comb = mixed
        put("attn.streams", streams), put("ffn.x", x), put("ffn.post", post), put("ffn.comb", comb)
        streams = self.site.launch(hyperconnection.mhc_post, self._feed_forward(x, batch), streams, post, comb)
        put("ffn.streams", streams)
        return streams

    def _mix(self, place: str) -> list[Tensor]:
        return [self.site.weights[f"{place}_mix.{part}"] for part in ("fn", "scale", "base")]

    def _feed_forward(self, x: Tensor, batch: Batch) -> Tensor:
        w, s, launch = self.site.weights, self.site.sizes, self.site.launch
        put = partial(self.site.record, rows=batch.rows)
        h = launch(norm.rms_norm, x, w["ffn_norm"])
        gate = launch(gemm.bf16_linear, h, w["gate"])
        hashed = w["hash"][batch.tokens] if self.site.plan.hashed else None
        scoring = "hash" if self.site.plan.hashed else "sqrtsoftplus"
        weights, ids = launch(moe.router,
            gate, w.get("bias"), hashed, s.experts_per_token, scoring, s.route_scale
        )  # fmt: skip
        put("ffn.h", h), put("ffn.gate", gate), put("ffn.weights", weights), put("ffn.experts", ids)
        shared = self._shared(h, put)
        inside = weights.flatten() if self.site.plan.fused else None
        q, scale = launch(quant.mx_quant, h, False, False, launch.fp8)
        put("ffn.h_mx", q.double() * decode_e8m0(scale))
        up = launch(moe.mxfp4_grouped_gemm, q, scale, w["w13"].q, w["w13"].scale, ids)
        q, scale = launch(moe.swiglu_quant, up, inside, True, launch.fp8)
        down = launch(moe.mxfp4_grouped_gemm, q, scale, w["w2"].q, w["w2"].scale, ids)
        slots = (len(batch.rows), s.experts_per_token, -1)
        put("ffn.up", up.view(slots)), put("ffn.down", down.view(slots))
        put("ffn.act", (q.double() * decode_e8m0(scale)).view(slots))
        out = launch(moe.combine, down, s.experts_per_token, None if self.site.plan.fused else weights, shared)
        put("ffn.out", out)
        return out

    def _shared(self, h: Tensor, put: partial[None]) -> Tensor:
        w, launch = self.site.weights, self.site.launch
        q = Fp8Rows(*launch(quant.fp8_group_quant, h, 128, True, launch.fp8))
        up = linear(q, w["shared.w13"], launch)
        act = Fp8Rows(*launch(moe.swiglu_quant, up, None, False, launch.fp8, LIMIT, True))
        out = linear(act, w["shared.w2"], launch)
        put("shared.h", q.wide), put("shared.up", up), put("shared.act", act.wide), put("shared.out", out)
        return out
