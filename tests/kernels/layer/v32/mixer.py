"""V3.2's attention, assembled from kernels: projections, keys in pages, the list of chosen keys, output."""

from __future__ import annotations

from functools import partial

import torch
from layer.batch import Batch
from layer.dense import Fp8Rows, linear
from layer.parts import Site
from layer.pool import poisoned
from layer.v32.index import Indexer
from layer.v32.maths import RIGHT
from layer.v32.pages import Pages
from layer.v32.weights import LATENT, PLAIN, ROPE
from torch import Tensor

from autotune.kernels import attention, gemm, metadata, norm, quant, rope
from autotune.kernels._rope import rope_table
from autotune.kernels.attention.sparse_mla import SCALE

YARN = (40, 4096, 32, 1)


class Attention:
    def __init__(self, site: Site) -> None:
        self.plan, self.sizes, self.weights = site.plan, site.sizes, site.weights
        self.launch, self.record = site.launch, site.record
        self.pages = Pages(site.scene, site.sizes.page_size)
        self.table = rope_table(max(site.scene.lengths), 10000.0, YARN)
        self.cache = poisoned((self.pages.slots, LATENT + ROPE), torch.bfloat16)
        self.indexer = Indexer(site, self.pages, self.table)

    def step(self, h: Tensor, hidden: Fp8Rows, batch: Batch) -> Tensor:
        w, launch, heads = self.weights, self.launch, self.sizes.heads
        put = partial(self.record, rows=batch.rows)
        qkv = linear(hidden, w["wqkv_a"], launch)
        *latent, kv = launch(norm.qkv_rms_norm, qkv, w["q_norm"], w["kv_norm"], ROPE, self.plan.ue8m0, launch.fp8)
        latent = Fp8Rows(*latent)
        q = linear(latent, w["wq_b"], launch).view(-1, heads, PLAIN + ROPE)
        put("attn.qkv", qkv), put("attn.latent", latent.wide), put("attn.kv", kv), put("attn.q_heads", q)
        slots = self.pages.slots_of(batch)
        plain, q_rope, _ = launch(rope.mla_prep, q, kv, self.table, batch.positions, slots, self.cache)
        put("attn.key", self.cache[slots.long()]), put("attn.q_rope", q_rope)
        listed = self._listed(h, hidden, latent, batch)
        q_latent = launch(gemm.bf16_grouped, plain, w["w_key"])
        o = launch(attention.sparse_mla, q_latent, q_rope, self.cache, listed, SCALE * RIGHT.mscale**2)
        put("attn.q_latent", q_latent), put("attn.o", o)
        return self._projected(o, put)

    def _listed(self, h: Tensor, hidden: Fp8Rows, latent: Fp8Rows, batch: Batch) -> Tensor:
        """Slots of the keys that each token attends to: the indexer chooses only where a context is long enough."""
        self.indexer.store(hidden, batch)
        longest, topk, pages = int((batch.starts + batch.lengths).max()), self.sizes.index_topk, self.pages
        if longest > topk:
            listed = self.indexer.choose(h, latent, batch)
        else:
            listed = self.launch(
                metadata.compressed_indices, batch.positions, batch.requests, pages.table, 1, pages.size, longest
            )
        self.record("index.chosen", pages.chosen(listed, batch), batch.rows)
        return listed

    def _projected(self, o: Tensor, put: partial[None]) -> Tensor:
        launch = self.launch
        heads = launch(gemm.bf16_grouped, o, self.weights["w_value"])
        q = Fp8Rows(*launch(quant.fp8_group_quant, heads.flatten(1), 128, self.plan.ue8m0, launch.fp8))
        out = linear(q, self.weights["wo"], launch)
        put("attn.heads", heads), put("attn.heads_fp8", q.wide), put("attn.out", out)
        return out
