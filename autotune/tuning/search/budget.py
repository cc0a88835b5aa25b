"""When a search ends: trials, minutes, or when more of it promises too little."""

from __future__ import annotations

import time
from collections.abc import Callable
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

    def left(self, done: int, expected_gain: Callable[[], float]) -> int:
        """Trials still to be asked for a problem after `done`; `expected_gain` of one more is asked late and seldom."""
        if self.out_of_time():
            return 0
        if self.until_gain is not None and done >= _FEWEST and expected_gain() < self.until_gain:
            return 0
        return max(0, self.trials - done)
