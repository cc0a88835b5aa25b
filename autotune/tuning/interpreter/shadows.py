"""Shadows of tensors: for each unit of bytes, whether it was written, by which program and lane, and who read it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor


@dataclass
class Shadow:
    """State of a storage, an entry a `unit` of bytes: the smallest that any access had so far."""

    owner: Tensor
    """Kept, so that no later tensor gets its addresses."""
    unit: int
    written: Any = None
    """bool; None where every byte has been there from the start."""
    version: int = 0
    writer: Any = None
    """Number of the program that stored there in this launch, from 1; None before the first store."""
    lane: Any = None
    """Period between barriers and lane of the last store in this launch, as `_stamps` has them; 0: no single lane."""
    period: Any = None
    """Number of barriers before the last store in this launch."""
    reads: list[Read] = field(default_factory=list)

    @property
    def units(self) -> int:
        return -(-self.owner.untyped_storage().nbytes() // self.unit)

    def at(self, offsets: Any, size: int) -> Any:  # noqa: ANN401
        """Entries of accesses of `size` bytes at byte offsets; `size // unit` of them for each access."""
        if size < self.unit:
            self._refine(size)
        return _spread(offsets // self.unit, size // self.unit)

    def _refine(self, unit: int) -> None:
        factor = self.unit // unit
        kept = (x if x is None else np.repeat(x, factor) for x in (self.written, self.writer, self.lane, self.period))
        self.written, self.writer, self.lane, self.period = kept
        self.reads = [read.refined(factor) for read in self.reads]
        self.unit = unit


@dataclass(frozen=True)
class Read:
    """Memory read by one load; `at` are entries of the shadow."""

    number: int
    program: tuple[int, ...]
    place: str
    argument: Argument
    at: Any
    known: Any = None
    """Programs whose stores at `at` the reader knew of, 0 for none, as `Announcements.known` has them."""

    def refined(self, factor: int) -> Read:
        """The same read, of entries that are `factor` times smaller."""
        known = None if self.known is None else np.repeat(self.known, factor)
        return replace(self, at=_spread(self.at * factor, factor), known=known)


@dataclass(frozen=True)
class Argument:
    """A tensor as one launch sees it: `base` is where its pointers start, `real` where its memory is."""

    name: str
    base: int
    real: int
    nbytes: int
    itemsize: int
    start: int
    """Bytes from the start of the storage."""
    shadow: Shadow


def _spread(first: Any, count: int) -> Any:  # noqa: ANN401
    return first if count == 1 else (first[:, None] + np.arange(count)).ravel()
