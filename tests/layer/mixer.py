"""Attention of a layer, assembled from kernels: projections, caches, key lists, and the output back to the hidden size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from autotune.device import Device
from autotune.kernels import attention, compressor, gemm, metadata, norm, quant, rope
from autotune.kernels._rope import rope_table
from layer.batch import Batch
from layer.compress import Compressor
from layer.dense import Fp8Rows, linear
from layer.index import Indexer
from layer.pool import Pool
from layer.scene import Scene
from layer.weights import HEAD, Plan, Sizes, Weights

if TYPE_CHECKING:
    from layer.ours import Recorder

Put = Callable[[str, Tensor], None]
LONG, SHORT = (160000.0, (16, 65536, 32, 1)), (10000.0, None)


class Attention:
    def __init__(self, plan: Plan, sizes: Sizes, weights: Weights, scene: Scene, gpu: Device, record: Recorder) -> None:
        self.plan, self.sizes, self.weights, self.gpu, self.record = plan, sizes, weights, gpu, record
        self.scene = scene
        self.room = max(scene.lengths)
        self.table = rope_table(self.room, *(LONG if plan.ratio else SHORT))
        # Attention to all keys has a ring that never comes round.
        self.ring = self.room if plan.full else sizes.window
        self.pool = Pool(plan, self.ring, scene, gpu)
        self.compressor = Compressor(plan.ratio, "compress", weights, scene, gpu) if plan.ratio else None
        self.indexer = Indexer(plan, weights, scene, self.pool, gpu, record) if plan.ratio == 4 else None

    def step(self, x: Tensor, batch: Batch) -> Tensor:
        w, gpu, heads = self.weights, self.gpu, self.sizes.heads
        put = partial(self.record, rows=batch.rows)
        h, hidden = self._normed(x, put)
        qkv = linear(hidden, w["wqkv_a"], gpu)
        *latent, kv = norm.qkv_rms_norm(qkv, w["q_norm"], w["kv_norm"], True, gpu.fp8, device=gpu)
        latent = Fp8Rows(*latent)
        q = linear(latent, w["wq_b"], gpu).view(-1, heads, HEAD)
        put("attn.qkv", qkv), put("attn.latent", latent.wide), put("attn.kv", kv), put("attn.q_heads", q)
        entries = self._compressed(h, latent, batch)
        attend = self._full if self.plan.full else self._decode if batch.decode else self._prefill
        o = attend(q, kv, batch, entries, put)
        put("attn.o", o)
        return self._projected(o, batch, put)

    def _normed(self, x: Tensor, put: Put) -> tuple[Tensor, Fp8Rows]:
        w, gpu = self.weights["attn_norm"], self.gpu
        if self.plan.fused and not self.plan.ratio:
            h, hidden = x, Fp8Rows(*norm.rms_norm_quant(x, w, None, True, gpu.fp8, device=gpu))
        else:
            h = norm.rms_norm(x, w, device=gpu)
            hidden = Fp8Rows(*quant.fp8_group_quant(h, 128, True, gpu.fp8, device=gpu))
            put("attn.h", h)
        put("attn.h_fp8", hidden.wide)
        return h, hidden

    def _compressed(self, h: Tensor, latent: Fp8Rows, batch: Batch) -> Tensor | None:
        """Stores the entries that the step closes, and lists the slots of those that each token sees."""
        plan, pool, gpu = self.plan, self.pool, self.gpu
        if self.compressor is None:
            return None
        x, closed = self.compressor.step(h, batch)
        self.record("compress.x", x, batch.rows)
        slots = pool.slots(closed.requests, closed.windows, closed.live)
        compressor.norm_rope_store(
            closed.pooled, self.weights["compress.norm"], self.table, closed.firsts(plan.ratio), slots,
            pool.cache, pool.scale, pool.page_size, device=gpu,
        )  # fmt: skip
        rows = torch.tensor(self.scene.entry_offsets(plan.ratio))[closed.requests.long()] + closed.windows
        rows, live = rows[closed.live], closed.live
        self.record("compress.pooled", closed.pooled[live], rows, "entries")
        self.record("compress.entry", pool.decoded()[slots[live].long()], rows, "entries")
        if self.indexer is not None:
            return self.indexer.step(h, latent, self.table, batch)
        return metadata.compressed_indices(
            batch.positions, batch.requests, pool.table, plan.ratio, pool.page_size,
            max(self.scene.entries(plan.ratio)) + 1, device=gpu,
        )  # fmt: skip

    def _stored(self, q: Tensor, kv: Tensor, batch: Batch, keep: Tensor) -> Tensor:
        """Queries made ready, keys of the rows `keep` put in the ring."""
        pool, positions = self.pool, batch.positions[keep]
        slots = batch.requests[keep] * self.ring + positions % self.ring
        q, *_ = rope.qk_prep(
            q[keep], kv[keep], self.table, positions, slots, pool.cache, pool.scale, pool.page_size, device=self.gpu
        )
        self.record("attn.key", pool.decoded()[slots.long()], batch.rows[keep])
        return q

    def _decode(self, q: Tensor, kv: Tensor, batch: Batch, entries: Tensor | None, put: Put) -> Tensor:
        pool, gpu = self.pool, self.gpu
        q = self._stored(q, kv, batch, torch.arange(len(q)))
        put("attn.q", q)
        window = metadata.window_indices(batch.positions, batch.requests, self.ring, device=gpu)
        extra = (None, None, None) if entries is None else (pool.cache, pool.scale, entries)
        return attention.sparse_decode(
            q, pool.cache, pool.scale, window, *extra, self.weights["sink"], pool.page_size, pool.page_size, device=gpu
        )

    def _prefill(self, q: Tensor, kv: Tensor, batch: Batch, entries: Tensor | None, put: Put) -> Tensor:
        pool, gpu = self.pool, self.gpu
        chunk = torch.empty((len(q), HEAD), dtype=torch.bfloat16)
        every = torch.arange(len(q), dtype=torch.int32)
        ready, chunk = rope.qk_prep(q, kv, self.table, batch.positions, every, chunk, device=gpu)
        put("attn.q", ready), put("attn.chunk_key", chunk)
        near, far = metadata.chunk_indices(batch.positions, batch.requests, batch.chunk_starts, self.ring, device=gpu)
        if entries is not None:
            far = torch.cat((far, entries), 1)
        o = attention.sparse_prefill(
            ready, chunk, near, pool.cache, pool.scale, far, self.weights["sink"], pool.page_size, device=gpu
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
            found.append(attention.dense_mqa(q[at : at + n], keys, self.weights["sink"], device=self.gpu))
        return torch.cat(found)

    def _projected(self, o: Tensor, batch: Batch, put: Put) -> Tensor:
        w, s, gpu = self.weights, self.sizes, self.gpu
        grouped = (len(o), s.o_groups, s.heads * HEAD // s.o_groups)
        if self.plan.fp8_output:
            q, scale = rope.inverse_rope(o, self.table, batch.positions, True, True, gpu.fp8, device=gpu)
            turned = Fp8Rows(q, scale)
            put("attn.turned", turned.wide)
            y = gemm.fp8_grouped(
                q.view(grouped), scale.view(*grouped[:2], -1), w["wo_a"].q, w["wo_a"].scale, device=gpu
            )  # fmt: skip
        else:
            turned = rope.inverse_rope(o, self.table, batch.positions, device=gpu)
            put("attn.turned", turned)
            y = gemm.bf16_grouped(turned.view(grouped), w["wo_a"], device=gpu)
        low = Fp8Rows(*quant.fp8_group_quant(y.flatten(1), 128, True, gpu.fp8, device=gpu))
        out = linear(low, w["wo_b"], gpu)
        put("attn.low", y), put("attn.low_fp8", low.wide), put("attn.out", out)
        return out
