"""The lightning indexer, assembled from kernels: its keys, its queries, their logits, and the entries they choose."""

from __future__ import annotations

import torch
from layer.batch import Batch
from layer.compress import Compressor
from layer.dense import Fp8Rows, linear
from layer.parts import Site
from layer.pool import Pool, poisoned
from layer.weights import KEY, NOTHING
from torch import Tensor

from autotune.kernels import compressor, gemm, indexer
from autotune.kernels._quant import decode_e8m0, decode_fp4
from autotune.kernels.indexer._index_cache import decode_keys, page_bytes


class Indexer:
    def __init__(self, site: Site, pool: Pool) -> None:
        self.plan, self.weights, self.scene, self.pool = site.plan, site.weights, site.scene, pool
        self.launch, self.record = site.launch, site.record
        self.compressor = Compressor(site, "index")
        self.topk = site.sizes.index_topk
        pages = pool.index_table.numel()
        self.cache = poisoned((pages, page_bytes(pool.page_size, site.plan.fp4_index)), torch.uint8)

    def step(self, h: Tensor, latent: Fp8Rows, table: Tensor, batch: Batch) -> Tensor:
        """Slots of the entries that each token attends to, int32 [tokens, topk]."""
        self._store(h, table, batch)
        q, q_scale, weights = self._queries(h, latent, table, batch)
        pool, requests = self.pool, batch.requests.long()
        seen = ((batch.positions + 1) // self.plan.ratio).int()
        logits = self.launch(
            indexer.paged_logits, q, q_scale, weights, self.cache, pool.index_table[requests], seen, pool.page_size
        )
        slots = self.launch(indexer.topk, logits, seen, pool.table[requests], self.topk, pool.page_size)
        most = max(self.scene.entries(self.plan.ratio))
        self.record("index.logits", logits[:, :most].clamp_min(NOTHING), batch.rows)
        self.record("index.chosen", self._chosen(slots, pool.table[requests], most), batch.rows)
        return slots

    def _store(self, h: Tensor, table: Tensor, batch: Batch) -> None:
        plan, pool = self.plan, self.pool
        x, closed = self.compressor.step(h, batch)
        slots = pool.index_slots(closed.requests, closed.windows, closed.live)
        self.launch(compressor.index_key_store,
            closed.pooled, self.weights["index.norm"], table, closed.firsts(plan.ratio), slots, self.cache,
            pool.page_size,
        )  # fmt: skip
        rows = torch.tensor(self.scene.entry_offsets(plan.ratio))[closed.requests.long()] + closed.windows
        rows, live = rows[closed.live], closed.live
        keys = decode_keys(self.cache, pool.page_size, plan.fp4_index, self.launch.fp8)
        self.record("index.x", x, batch.rows)
        self.record("index.pooled", closed.pooled[live], rows, "entries")
        self.record("index.key", keys[slots[live].long()], rows, "entries")

    def _queries(self, h: Tensor, latent: Fp8Rows, table: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor]:
        w, launch = self.weights, self.launch
        heads = linear(latent, w["index.wq_b"], launch).view(len(h), -1, KEY)
        raw = launch(gemm.bf16_linear, h, w["index.weights"])
        q, *scale, weights = launch(
            indexer.query_prep, heads, raw, table, batch.positions, self.plan.fp4_index, False, launch.fp8
        )
        self.record("index.q_heads", heads, batch.rows)
        self.record("index.raw_weights", raw, batch.rows)
        if scale:
            wide, plain = decode_fp4(q) * decode_e8m0(scale[0]), weights
        else:
            # The queries' scale is folded into the weights: a power of two, to be taken out again.
            folded = torch.exp2((weights / raw / (KEY * heads.shape[1]) ** -0.5).double().log2().round())
            wide, plain = q.double() * folded[..., None], weights / folded
        self.record("index.q", wide, batch.rows)
        self.record("index.weights", plain, batch.rows)
        return q, scale[0] if scale else None, weights

    def _chosen(self, slots: Tensor, tables: Tensor, width: int) -> Tensor:
        """1 for each entry of a token's request that is in its list, [tokens, width]."""
        entry = torch.arange(width)
        where = tables[:, entry // self.pool.page_size] * self.pool.page_size + entry % self.pool.page_size
        return (where[:, :, None] == slots[:, None, :]).any(2).float()
