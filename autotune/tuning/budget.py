"""When a search ends: trials, minutes, or when more of it promises too little."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_FEWEST = 16
"""Trials before a promise is judged: the first ones are the default and the model's favourites."""


@dataclass(frozen=True)
class Budget:
    """`trials` a problem; `minutes` of the whole session's search; `until_gain` as a fraction."""

    trials: int = 12
    minutes: float | None = None
    until_gain: float | None = None
    started: float = field(default_factory=time.monotonic, compare=False)

    def out_of_time(self) -> bool:
        return self.minutes is not None and time.monotonic() - self.started >= 60 * self.minutes

    def left(self, times_us: Sequence[float | None]) -> int:
        """Trials still to be asked for a problem whose trials, in order, took `times_us` (None: failed)."""
        if self.out_of_time():
            return 0
        if self.until_gain is not None and expected_gain(times_us) < self.until_gain:
            return 0
        return max(0, self.trials - len(times_us))


def expected_gain(times_us: Sequence[float | None]) -> float:
    """What as many trials again may gain: as much as the last half of them did, as a fraction of the best time.

    Bests of a search fall roughly evenly in the logarithm of its length, so a doubling gains what the last one did.
    """
    if len(times_us) < _FEWEST:
        return math.inf
    half = [us for us in times_us[: len(times_us) // 2] if us is not None]
    whole = [us for us in times_us if us is not None]
    return 1 - min(whole) / min(half) if half else math.inf
