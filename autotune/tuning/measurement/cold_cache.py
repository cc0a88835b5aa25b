"""Samples with cold caches: input copies in rotation, and enough launches to outweigh their start."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_GRAPH_US = 400.0
"""Least time of one graph: its launch costs 5 to 15 us."""
_MOST_LAUNCHES = 1000
"""In one graph: 20 to 50 ms to capture, and enough copies of 0.5 MB to fill 512 MB."""


def copies_for(bytes_each: int, overfull: int, room: int) -> int:
    """Copies of the inputs that together are `overfull` bytes, as far as half of `room` bytes allows."""
    wanted = math.ceil(overfull / max(1, bytes_each)) + 1
    return max(1, min(wanted, int(room / 2 / max(1, bytes_each)), _MOST_LAUNCHES))


def overfull_bytes(last_level_bytes: int) -> int:
    """Bytes that leave nothing else in a last-level cache of so many: twice as many."""
    return 2 * last_level_bytes


def launches_for(one_us: float, copies: int) -> int:
    """Launches in one graph: whole rounds over the copies, and long enough that launching it is under 5 %."""
    rounds = math.ceil(_GRAPH_US / max(one_us, 1.0) / copies)
    return copies * max(1, min(rounds, _MOST_LAUNCHES // copies))


def copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """With equal strides and alignment, as Triton specialises on both; what shares memory still does."""
    storages: dict[int, torch.UntypedStorage] = {}

    def copy(value: Any) -> Any:  # noqa: ANN401
        if not isinstance(value, Tensor):
            return value
        storage = value.untyped_storage()
        if storage.data_ptr() not in storages:
            storages[storage.data_ptr()] = storage.clone()  # type: ignore[no-untyped-call]
        empty = torch.empty(0, dtype=value.dtype, device=value.device)
        return empty.set_(storages[storage.data_ptr()], value.storage_offset(), value.size(), value.stride())

    return tuple(copy(value) for value in inputs)


def bytes_of(inputs: tuple[Any, ...]) -> int:
    return sum(value.nbytes for value in inputs if isinstance(value, Tensor))
