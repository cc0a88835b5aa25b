"""V3.2's lightning indexer, assembled from kernels: its keys in pages, its queries, their logits, and the choice."""

from __future__ import annotations

import torch
from layer.batch import Batch, int32
from layer.dense import Fp8Rows, linear
from layer.parts import Site
from layer.pool import poisoned
from layer.v32.pages import Pages
from layer.weights import KEY, NOTHING
from torch import Tensor
from torch.nn.functional import pad

from autotune.kernels import gemm, indexer
from autotune.kernels.indexer._index_cache import decode_keys, page_bytes


class Indexer:
    def __init__(self, site: Site, pages: Pages, table: Tensor) -> None:
        self.sizes, self.weights, self.launch, self.record = site.sizes, site.weights, site.launch, site.record
        self.pages, self.table = pages, table
        self.cache = poisoned((pages.count, page_bytes(pages.size, False)), torch.uint8)

    def store(self, hidden: Fp8Rows, batch: Batch) -> None:
        """Puts the keys of a step's tokens into their pages."""
        w, slots = self.weights, self.pages.slots_of(batch)
        k = linear(hidden, w["index.wk"], self.launch)
        self.launch(indexer.key_prep,
            k, w["index.norm"], w["index.bias"], self.table, batch.positions, slots, self.cache, self.pages.size
        )  # fmt: skip
        keys = decode_keys(self.cache, self.pages.size, False, self.launch.fp8)
        self.record("index.k", k, batch.rows)
        self.record("index.key", keys[slots.long()], batch.rows)

    def choose(self, h: Tensor, latent: Fp8Rows, batch: Batch) -> Tensor:
        """Slots of the keys that each token attends to, int32 [tokens, topk]."""
        q, weights = self._queries(h, latent, batch)
        seen = batch.positions + 1
        logits = self._decode(q, weights, seen, batch) if batch.decode else self._prefill(q, weights, seen, batch)
        tables = self.pages.table[batch.requests.long()]
        listed = self.launch(indexer.topk, logits, seen, tables, self.sizes.index_topk, self.pages.size)
        wide = pad(logits, (0, self.pages.longest), value=NOTHING)[:, : self.pages.longest]
        unseen = torch.arange(self.pages.longest) >= seen[:, None]
        self.record("index.logits", wide.masked_fill(unseen, NOTHING), batch.rows)
        return listed

    def _queries(self, h: Tensor, latent: Fp8Rows, batch: Batch) -> tuple[Tensor, Tensor]:
        w, launch = self.weights, self.launch
        heads = linear(latent, w["index.wq_b"], launch).view(len(h), -1, KEY)
        raw = launch(gemm.bf16_linear, h, w["index.weights"])
        q, weights = launch(indexer.query_prep, heads, raw, self.table, batch.positions, False, True, launch.fp8)
        # The queries' scale is folded into the weights: a power of two, to be taken out again.
        folded = torch.exp2((weights / raw / (KEY * heads.shape[1]) ** -0.5).double().log2().round())
        self.record("index.q_heads", heads, batch.rows)
        self.record("index.raw_weights", raw, batch.rows)
        self.record("index.q", q.double() * folded[..., None], batch.rows)
        self.record("index.weights", weights / folded, batch.rows)
        return q, weights

    def _decode(self, q: Tensor, weights: Tensor, seen: Tensor, batch: Batch) -> Tensor:
        tables = self.pages.table[batch.requests.long()]
        return self.launch(indexer.paged_logits, q, None, weights, self.cache, tables, seen, self.pages.size)

    def _prefill(self, q: Tensor, weights: Tensor, seen: Tensor, batch: Batch) -> Tensor:
        """Logits of all requests' keys in one tensor, each token's own moved to its row's start, where `topk` reads."""
        launch, lengths = self.launch, int32(batch.starts + batch.lengths)
        offsets = int32(lengths.cumsum(0) - lengths)
        tables, total = self.pages.table[batch.request_ids.long()], int(lengths.sum())
        keys = launch(indexer.key_gather, self.cache, tables, lengths, offsets, total, self.pages.size)
        first = offsets.repeat_interleave(batch.lengths)
        logits = launch(indexer.ragged_logits, q, None, weights, *keys, first, first + seen)
        own = first[:, None] + torch.arange(int(lengths.max()))
        return logits.gather(1, own.clamp_max(total - 1))
