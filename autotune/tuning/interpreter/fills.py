"""Values of lanes that a load masks off without naming `other`: on a GPU anything, here one of three fills.

NaN (all bits set in integers) shows in sums and products; `max`, `min` and other reductions pass over it, so a result
must also be the same with the largest and with the lowest finite value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import triton.language as tl

from autotune.tuning.interpreter.corrections import from_float32, is_narrow
from autotune.tuning.interpreter.shadow_memory import Memory

Fill = Literal["nan", "largest", "lowest"]
OTHERS: tuple[Fill, ...] = ("largest", "lowest")
"""Fills that must change nothing."""

_FAR = 3e38
"""Near the largest bf16; FP8 saturates."""


@dataclass(frozen=True)
class Lane:
    """The first lane that a load masked off: its program, and which element of which argument it would have read."""

    program: tuple[int, ...]
    argument: str
    offset: int


@dataclass
class Fills:
    """The fill of every load, and which loads had lanes to fill."""

    common: Fill = "nan"
    special: Mapping[str, Fill] = field(default_factory=dict)
    """By place, file:line, where it is another than the common one."""
    undefined: dict[str, Lane] = field(default_factory=dict)
    """The first undefined lane by place."""

    def at(self, place: str) -> Fill:
        return self.special.get(place, self.common)

    def note(self, place: str, memory: Memory, addresses: Any, mask: Any) -> None:  # noqa: ANN401
        """A load at `place` has masked-off lanes."""
        if place not in self.undefined:
            argument, offset = memory.named(int(addresses[~mask][0]))
            self.undefined[place] = Lane(memory.program, argument, offset)


def value_of(fill: Fill, kind: tl.dtype, bits: np.dtype[Any]) -> Any:  # noqa: ANN401
    """The fill of a load of `kind` as the interpreter holds it, in `bits`."""
    if fill == "nan":
        return np.frombuffer(bytes([0x80 if kind == tl.float8e4b8 else 0xFF]) * bits.itemsize, bits)[0]
    sign = 1 if fill == "largest" else -1
    if is_narrow(kind):
        return from_float32(np.array([sign * _FAR], np.float32), kind)[0]
    if bits.kind == "f":
        return sign * np.finfo(bits).max
    if bits.kind == "b":
        return fill == "largest"
    return np.iinfo(bits).max if fill == "largest" else np.iinfo(bits).min
