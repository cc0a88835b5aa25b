"""The parts around a layer that predicts the token after the next (MTP), assembled from kernels.

Before the layer, the next token's embedding joins the streams that left the model; behind it, a head of the block's own
norms the streams, and the model's output matrix gives the draft. `token_ids` of a scene are those of the next tokens.
"""

from __future__ import annotations

from functools import partial

from layer.batch import Batch
from layer.dense import Fp8Rows, linear
from layer.parts import Site
from torch import Tensor

from autotune.kernels import gemm, hyperconnection, norm, sampling


class Predictor:
    def __init__(self, site: Site) -> None:
        self.weights, self.launch, self.record = site.weights, site.launch, site.record

    def enter(self, streams: Tensor, batch: Batch) -> Tensor:
        """The streams of the block, bf16 [T, 4, dim]: h_proj(hnorm(streams)) + e_proj(enorm(embedding))."""
        put = partial(self.record, rows=batch.rows)
        e, e_fp8 = self._projected("e", self.weights["embedding"][batch.tokens])
        h, h_fp8 = self._projected("h", streams.flatten(0, 1))
        put("mtp.e_fp8", e_fp8.wide), put("mtp.h_fp8", h_fp8.wide.view(streams.shape))
        put("mtp.e", e), put("mtp.h", h.view(streams.shape))
        joined = e[:, None, :] + h.view(streams.shape)
        put("mtp.streams", joined)
        return joined

    def _projected(self, name: str, rows: Tensor) -> tuple[Tensor, Fp8Rows]:
        w, launch = self.weights, self.launch
        x = Fp8Rows(*launch(norm.rms_norm_quant, rows, w[f"{name}_norm"], None, True, False, launch.fp8))
        return linear(x, w[f"{name}_proj"], launch), x

    def leave(self, streams: Tensor, batch: Batch) -> Tensor:
        """The draft, int32 [T]."""
        w, launch, put = self.weights, self.launch, partial(self.record, rows=batch.rows)
        x = launch(hyperconnection.mhc_head, streams, *(w[f"head.{part}"] for part in ("fn", "scale", "base")))
        h = launch(norm.rms_norm, x, w["head_norm"])
        logits = launch(gemm.bf16_linear, h, w["lm_head"])
        draft = launch(sampling.greedy, logits)
        put("head.x", x), put("head.h", h), put("head.logits", logits), put("head.draft", draft)
        return draft
