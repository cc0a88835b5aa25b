"""Attention of a layer, assembled from kernels: projections, caches, key lists, output."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from layer.batch import Batch
from layer.compress import Compressor
from layer.dense import Fp8Rows, linear
from layer.index import Indexer
from layer.parts import Site
from layer.pool import Pool
from layer.weights import HEAD
from torch import Tensor

from autotune.kernels import attention, compressor, gemm, metadata, norm, quant, rope
from autotune.kernels._rope import rope_table

Put = Callable[[str, Tensor], None]
LONG, SHORT = (160000.0, (16, 65536, 32, 1)), (10000.0, None)


class Attention:
    def __init__(self, site: Site) -> None:
        self.plan, self.sizes, self.weights, self.scene = site.plan, site.sizes, site.weights, site.scene
        self.launch, self.record = site.launch, site.record
        room = max(site.scene.lengths)
        self.table = rope_table(room, *(LONG if site.plan.ratio else SHORT))
        # Attention to all keys has a ring that never comes round.
        self.ring = room if site.plan.full else site.sizes.window
        self.pool = Pool(site.plan, self.ring, site.scene, site.launch.fp8)
        self.compressor = Compressor(site, "compress") if site.plan.ratio else None
        self.indexer = Indexer(site, self.pool) if site.plan.ratio == 4 else None

    def step(self, x: Tensor, batch: Batch) -> Tensor:
        w, launch, heads = self.weights, self.launch, self.sizes.heads
        put = partial(self.record, rows=batch.rows)
        h, hidden = self._normed(x, put)
        qkv = linear(hidden, w["wqkv_a"], launch)
        *latent, kv = launch(norm.qkv_rms_norm, qkv, w["q_norm"], w["kv_norm"], 0, True, launch.fp8)
        latent = Fp8Rows(*latent)
        q = linear(latent, w["wq_b"], launch).view(-1, heads, HEAD)
        put("attn.qkv", qkv), put("attn.latent", latent.wide), put("attn.kv", kv), put("attn.q_heads", q)
        entries = self._compressed(h, latent, batch)
        attend = self._full if self.plan.full else self._decode if batch.decode else self._prefill
        o = attend(q, kv, batch, entries, put)
        put("attn.o", o)
        return self._projected(o, batch, put)

    def _normed(self, x: Tensor, put: Put) -> tuple[Tensor, Fp8Rows]:
        w, launch = self.weights["attn_norm"], self.launch
        if self.plan.fused and not self.plan.ratio:
            h, hidden = x, Fp8Rows(*launch(norm.rms_norm_quant, x, w, None, True, False, launch.fp8))
        else:
            h = launch(norm.rms_norm, x, w)
            hidden = Fp8Rows(*launch(quant.fp8_group_quant, h, 128, True, launch.fp8))
            put("attn.h", h)
        put("attn.h_fp8", hidden.wide)
        return h, hidden

    def _compressed(self, h: Tensor, latent: Fp8Rows, batch: Batch) -> Tensor | None:
        """Stores the entries that the step closes, and lists the slots of those that each token sees."""
        plan, pool, launch = self.plan, self.pool, self.launch
        if self.compressor is None:
            return None
        x, closed = self.compressor.step(h, batch)
        self.record("compress.x", x, batch.rows)
        slots = pool.slots(closed.requests, closed.windows, closed.live)
        launch(compressor.norm_rope_store,
            closed.pooled, self.weights["compress.norm"], self.table, closed.firsts(plan.ratio), slots,
            pool.cache, pool.aux, pool.page_size,
        )  # fmt: skip
        rows = torch.tensor(self.scene.entry_offsets(plan.ratio))[closed.requests.long()] + closed.windows
        rows, live = rows[closed.live], closed.live
        self.record("compress.pooled", closed.pooled[live], rows, "entries")
        self.record("compress.entry", pool.decoded()[slots[live].long()], rows, "entries")
        if self.indexer is not None:
            return self.indexer.step(h, latent, self.table, batch)
        return launch(metadata.compressed_indices,
            batch.positions, batch.requests, pool.table, plan.ratio, pool.page_size,
            max(self.scene.entries(plan.ratio)) + 1,
        )  # fmt: skip

    def _stored(self, q: Tensor, kv: Tensor, batch: Batch, keep: Tensor) -> Tensor:
        """Queries made ready, keys of the rows `keep` put in the ring."""
        pool, positions = self.pool, batch.positions[keep]
        slots = batch.requests[keep] * self.ring + positions % self.ring
        q, *_ = self.launch(
            rope.qk_prep, q[keep], kv[keep], self.table, positions, slots, pool.cache, pool.aux, pool.page_size
        )
        self.record("attn.key", pool.decoded()[slots.long()], batch.rows[keep])
        return q

    def _decode(self, q: Tensor, kv: Tensor, batch: Batch, entries: Tensor | None, put: Put) -> Tensor:
        pool, launch = self.pool, self.launch
        q = self._stored(q, kv, batch, torch.arange(len(q)))
        put("attn.q", q)
        window = launch(metadata.window_indices, batch.positions, batch.requests, self.ring)
        extra = (None, None, None) if entries is None else (pool.cache, pool.aux, entries)
        return launch(
            attention.sparse_decode,
            q,
            pool.cache,
            pool.aux,
            window,
            *extra,
            self.weights["sink"],
            pool.page_size,
            pool.page_size,
        )

    def _prefill(self, q: Tensor, kv: Tensor, batch: Batch, entries: Tensor | None, put: Put) -> Tensor:
        pool, launch = self.pool, self.launch
        chunk = torch.empty((len(q), HEAD), dtype=torch.bfloat16)
        every = torch.arange(len(q), dtype=torch.int32)
        ready, chunk = launch(rope.qk_prep, q, kv, self.table, batch.positions, every, chunk)
        put("attn.q", ready), put("attn.chunk_key", chunk)
        near, far = launch(metadata.chunk_indices, batch.positions, batch.requests, batch.begins, self.ring)
        if entries is not None:
            far = torch.cat((far, entries), 1)
        o = launch(
            attention.sparse_prefill,
            ready,
            chunk,
            near,
            pool.cache,
            pool.aux,
            far,
            self.weights["sink"],
            pool.page_size,
        )
        # Only now: the ring still held what the chunk's first tokens see of the chunk before.
        self._stored(q, kv, batch, batch.tails(self.ring))
        return o

    def _full(self, q: Tensor, kv: Tensor, batch: Batch, entries: Tensor | None, put: Put) -> Tensor:
        q = self._stored(q, kv, batch, torch.arange(len(q)))
        put("attn.q", q)
        found = []
        for request, end, at, n in zip(
            batch.request_ids, batch.starts + batch.lengths, batch.offsets, batch.lengths, strict=True
        ):
            keys = self.pool.cache[request * self.ring : request * self.ring + end]
            found.append(self.launch(attention.dense_mqa, q[at : at + n], keys, self.weights["sink"]))
        return torch.cat(found)

    def _projected(self, o: Tensor, batch: Batch, put: Put) -> Tensor:
        w, s, launch = self.weights, self.sizes, self.launch
        grouped = (len(o), s.o_groups, s.heads * HEAD // s.o_groups)
        if self.plan.fp8_output:
            q, scale = launch(rope.inverse_rope, o, self.table, batch.positions, True, True, launch.fp8)
            turned = Fp8Rows(q, scale)
            put("attn.turned", turned.wide)
            y = launch(gemm.fp8_grouped,
                q.view(grouped), scale.view(*grouped[:2], -1), w["wo_a"].q, w["wo_a"].scale
            )  # fmt: skip
        else:
            turned = launch(rope.inverse_rope, o, self.table, batch.positions)
            put("attn.turned", turned)
            y = launch(gemm.bf16_grouped, turned.view(grouped), w["wo_a"])
        low = Fp8Rows(*launch(quant.fp8_group_quant, y.flatten(1), 128, True, launch.fp8))
        out = linear(low, w["wo_b"], launch)
        put("attn.low", y), put("attn.low_fp8", low.wide), put("attn.out", out)
        return out
