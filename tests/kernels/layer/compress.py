"""A compressor over a layer's tokens: projection, state, pooling; for keys = values, and for the indexer's keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from layer.batch import Batch
from layer.parts import Site
from layer.pool import poisoned
from torch import Tensor

from autotune.kernels import compressor, gemm, metadata
from autotune.kernels.compressor._windows import state_rows_of


@dataclass(frozen=True)
class Closed:
    """Windows that a step closed, one a row: pooled fp32, and whose they are. Rows that are not `live` are padding."""

    pooled: Tensor
    requests: Tensor
    windows: Tensor
    live: Tensor

    def firsts(self, ratio: int) -> Tensor:
        """Position of each window's first token."""
        return (torch.where(self.live, self.windows, 0) * ratio).int()


class Compressor:
    def __init__(self, site: Site, name: str) -> None:
        self.ratio, self.launch = site.plan.ratio, site.launch
        self.w, self.ape = site.weights[f"{name}.w"], site.weights[f"{name}.ape"]
        shape = (site.scene.requests, state_rows_of(self.ratio), self.ape.shape[1])
        self.kv, self.score = poisoned(shape, torch.float32), poisoned(shape, torch.float32)
        if self.ratio == 4:  # before the first token there is a closed window of nothing
            self.kv[:, : self.ratio], self.score[:, : self.ratio] = 0.0, float("-inf")

    def step(self, h: Tensor, batch: Batch) -> tuple[Tensor, Closed]:
        """(keys | scores of the tokens, the windows that they close)."""
        x = self.launch(gemm.bf16_linear, h, self.w)
        return x, self._decode(x, batch) if batch.decode else self._prefill(x, batch)

    def _decode(self, x: Tensor, batch: Batch) -> Closed:
        pooled, _, _ = self.launch(
            compressor.decode_pool, x, self.ape, batch.positions, batch.requests, self.kv, self.score
        )
        live = (batch.positions + 1) % self.ratio == 0
        return Closed(pooled, batch.requests, batch.positions // self.ratio, live)

    def _prefill(self, x: Tensor, batch: Batch) -> Closed:
        room = len(x) // self.ratio + len(batch.request_ids)
        plan = self.launch(metadata.compress_plan, batch.starts, batch.lengths, self.ratio, room)
        states = (self.kv, self.score)
        pooled = self.launch(compressor.prefill_pool,
            x, self.ape, plan, batch.starts, *states, batch.request_ids
        )  # fmt: skip
        self.launch(
            compressor.state_write, x, self.ape, batch.starts, batch.lengths, batch.offsets, batch.request_ids, *states
        )
        live = plan[:, 0] >= 0
        return Closed(pooled, batch.request_ids[torch.where(live, plan[:, 0], 0).long()], plan[:, 1], live)
