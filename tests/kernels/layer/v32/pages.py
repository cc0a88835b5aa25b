"""Where the tokens of each request lie: pages of slots in an order of their own, which the keys of attention and those
of the indexer share."""

from __future__ import annotations

import torch
from layer.batch import Batch, int32
from layer.scene import Scene
from torch import Tensor


class Pages:
    """`table` int32 [requests, pages] of `size` slots."""

    def __init__(self, scene: Scene, size: int) -> None:
        self.size, self.longest = size, max(scene.lengths)
        most = -(-self.longest // size)
        mixed = torch.randperm(scene.requests * most, generator=torch.Generator().manual_seed(most))
        self.table = mixed.int().view(scene.requests, most)

    @property
    def count(self) -> int:
        return self.table.numel()

    @property
    def slots(self) -> int:
        return self.count * self.size

    def slots_of(self, batch: Batch) -> Tensor:
        """Slots of a step's tokens, int32 [tokens]."""
        position = batch.positions.long()
        page = self.table[batch.requests.long(), position // self.size]
        return int32(page * self.size + position % self.size)

    def chosen(self, listed: Tensor, batch: Batch) -> Tensor:
        """1 for each key of a token's request that is in its list, [tokens, longest]."""
        entry = torch.arange(self.longest)
        tables = self.table[batch.requests.long()]
        slots = tables[:, entry // self.size] * self.size + entry % self.size
        return (slots[:, :, None] == listed[:, None, :]).any(2).float()
