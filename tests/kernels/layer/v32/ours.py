"""V3.2's layers, assembled from the project's kernels; what each makes of a token goes into a trace."""

from __future__ import annotations

import math
from functools import partial

from layer.batch import Batch
from layer.dense import Fp8Rows, linear
from layer.parts import Site
from layer.v32.mixer import Attention
from torch import Tensor

from autotune.kernels import gemm, moe, norm, sampling


class Layer:
    """One layer with its caches; a step takes its tokens' (output of the sublayer before, residual) to the next's."""

    def __init__(self, site: Site) -> None:
        self.site, self.attention = site, Attention(site)

    def step(self, x: Tensor, residual: Tensor | None, batch: Batch) -> tuple[Tensor, Tensor]:
        put = partial(self.site.record, rows=batch.rows)
        *normed, residual = self._normed("attn", x, residual, True, put)
        x = self.attention.step(*normed, batch)
        h, hidden, residual = self._normed("ffn", x, residual, not self.site.plan.dense, put)
        return (self._mlp("dense", hidden, put) if h is None else self._experts(h, hidden, put)), residual

    def _normed(
        self, place: str, x: Tensor, residual: Tensor | None, in_bf16: bool, put: partial[None]
    ) -> tuple[Tensor | None, Fp8Rows, Tensor]:
        w, launch, ue8m0 = self.site.weights[f"{place}_norm"], self.site.launch, self.site.plan.ue8m0
        q, scale, *rest = launch(norm.rms_norm_quant, x, w, residual, ue8m0, in_bf16, launch.fp8)
        hidden = Fp8Rows(q, scale)
        h = rest.pop() if in_bf16 else None
        put(f"{place}.h_fp8", hidden.wide)
        if h is not None:
            put(f"{place}.h", h)
        if rest:
            put(f"{place}.sum", rest[0])
        return h, hidden, rest[0] if rest else x

    def _mlp(self, name: str, x: Fp8Rows, put: partial[None]) -> Tensor:
        w, launch = self.site.weights, self.site.launch
        up = linear(x, w[f"{name}.w13"], launch)
        act = self._swiglu(up)
        out = linear(act, w[f"{name}.w2"], launch)
        put(f"{name}.up", up), put(f"{name}.act", act.wide), put(f"{name}.out", out)
        return out

    def _swiglu(self, up: Tensor) -> Fp8Rows:
        launch = self.site.launch
        return Fp8Rows(*launch(moe.swiglu_quant, up, None, False, launch.fp8, math.inf, self.site.plan.ue8m0))

    def _experts(self, h: Tensor, x: Fp8Rows, put: partial[None]) -> Tensor:
        w, s, launch = self.site.weights, self.site.sizes, self.site.launch
        gate = launch(gemm.bf16_linear, h, w["gate"])
        weights, ids = launch(moe.router, gate, w["bias"], None, s.experts_per_token, "grouped_sigmoid", s.route_scale)
        put("ffn.gate", gate), put("ffn.weights", weights), put("ffn.experts", ids)
        shared = self._mlp("shared", x, put)
        up = launch(moe.fp8_grouped_gemm, x.q, x.scale, w["w13"].q, w["w13"].scale, ids)
        act = self._swiglu(up)
        down = launch(moe.fp8_grouped_gemm, act.q, act.scale, w["w2"].q, w["w2"].scale, ids)
        slots = (len(h), s.experts_per_token, -1)
        put("ffn.up", up.view(slots)), put("ffn.act", act.wide.view(slots)), put("ffn.down", down.view(slots))
        out = launch(moe.combine, down, s.experts_per_token, weights, shared)
        put("ffn.out", out)
        return out


class Head:
    """The last norm, the output matrix, and the choice of a token."""

    def __init__(self, site: Site) -> None:
        self.weights, self.launch, self.record = site.weights, site.launch, site.record

    def step(self, x: Tensor, residual: Tensor, batch: Batch) -> None:
        put, launch = partial(self.record, rows=batch.rows), self.launch
        h, total = launch(norm.rms_norm, x, self.weights["norm"], residual)
        logits = launch(gemm.bf16_linear, h, self.weights["lm_head"])
        put("head.sum", total), put("head.h", h), put("head.logits", logits)
        put("head.token", launch(sampling.greedy, logits))
