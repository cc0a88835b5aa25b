"""One layer's keys: rings of the last tokens, then pages of compressed entries, all in one pool of slots."""

from __future__ import annotations

import torch
from layer.scene import Scene
from layer.weights import HEAD, Plan
from torch import Tensor

from autotune.inputs import FP8
from autotune.kernels._kv_cache import AUX, decode_cache, page_bytes


def poisoned(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """NaN in every format: what is read before it was written shows."""
    bits = torch.full((*shape, dtype.itemsize), 0x80 if dtype == torch.float8_e4m3fnuz else 0xFF, dtype=torch.uint8)
    return bits.view(dtype)[..., 0]


class Pool:
    """`table` int32 [requests, pages] says where a request's entries lie, `index_table` the same without the rings."""

    def __init__(self, plan: Plan, window: int, scene: Scene, fp8: str) -> None:
        self.page_size, self.dtype = plan.page_size, fp8
        rings = -(-scene.requests * window // self.page_size)
        most = max(scene.entries(plan.ratio)) if plan.ratio else 0
        pages = -(-most // self.page_size) + 1
        mixed = torch.randperm(scene.requests * pages, generator=torch.Generator().manual_seed(pages))
        self.index_table = mixed.int().view(scene.requests, pages)
        self.table = self.index_table + rings
        self.pages = rings + scene.requests * pages
        slots = self.pages * self.page_size
        self.aux = None
        if plan.layout in AUX:
            dtype, width = AUX[plan.layout]
            self.aux = poisoned((slots, width), dtype)
        if plan.layout == "fp8_584":
            self.cache = poisoned((self.pages, page_bytes(self.page_size)), torch.uint8)
        else:
            elements = {"bf16": torch.bfloat16, "fp8": FP8[self.dtype], "fp8_pools": torch.uint8}
            self.cache = poisoned((slots, HEAD), elements[plan.layout])

    def slots(self, requests: Tensor, windows: Tensor, live: Tensor) -> Tensor:
        """Where entries go; -1 where not `live`."""
        return _slots(self.table, requests, windows, live, self.page_size)

    def index_slots(self, requests: Tensor, windows: Tensor, live: Tensor) -> Tensor:
        return _slots(self.index_table, requests, windows, live, self.page_size)

    def decoded(self) -> Tensor:
        """float64 [slots, 512]."""
        return decode_cache(self.cache, self.aux, self.page_size, self.dtype)


def _slots(table: Tensor, requests: Tensor, windows: Tensor, live: Tensor, page_size: int) -> Tensor:
    window = torch.where(live, windows, 0).long()
    page = table[torch.where(live, requests, 0).long(), window // page_size]
    return torch.where(live, page * page_size + window % page_size, -1).int()
