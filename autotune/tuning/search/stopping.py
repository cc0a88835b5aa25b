"""When a search ends: trials, minutes, or when more of it promises too little."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_FEWEST = 16
"""Trials before a promise is judged: the first ones are the default and the model's favourites."""
_CHANCE = 0.01
"""At which a promise is too little. Of 104 searches of measured spaces that it ended, asked for 1 %, 102 had nothing
left that was faster by more; they took 186 trials in the mean where nothing was foretold, 31 after a model of the
device. Had one trial's expected gain to be under 1 %, 76 had, after 32 and 16 (`benchmarks/search/stop_rule.py`)."""


@dataclass(frozen=True)
class Budget:
    """`trials` a problem; `minutes` of the whole session's search; `until_gain`, a fraction: until nothing untried is
    likely to be faster by more."""

    trials: int = 12
    minutes: float | None = None
    until_gain: float | None = None
    started: float = field(default_factory=time.monotonic, compare=False)

    def out_of_time(self) -> bool:
        return self.minutes is not None and time.monotonic() - self.started >= 60 * self.minutes

    def left(self, done: int, chance: Callable[[float], float]) -> int:
        """Trials still to be asked for a problem after `done`; `chance` that an untried config is faster by more than a
        fraction is asked late and seldom."""
        if self.out_of_time():
            return 0
        if self.until_gain is not None and done >= _FEWEST and chance(self.until_gain) < _CHANCE:
            return 0
        return max(0, self.trials - done)
