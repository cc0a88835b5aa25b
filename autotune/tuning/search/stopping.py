"""When a search ends: after a number of trials, after minutes, or when little gain remains."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_FEWEST_TRIALS = 16
"""Trials before the remaining gain is judged: the first ones are the default and the best by the priors."""
_LEAST_CHANCE = 0.01
"""Stop when the probability of a better config falls below this: 90 of 95 searches of measured spaces that it ended had
nothing left that was faster by 1 % (docs/experiments.md)."""


@dataclass(frozen=True)
class Budget:
    """`trials` per problem, `minutes` of the whole session's search, and `until_gain`, the fraction of time saved that
    is still worth searching for."""

    trials: int = 12
    minutes: float | None = None
    until_gain: float | None = None
    started: float = field(default_factory=time.monotonic, compare=False)

    def out_of_time(self) -> bool:
        return self.minutes is not None and time.monotonic() - self.started >= 60 * self.minutes

    def left(self, done: int, chance: Callable[[float], float]) -> int:
        """Return the trials still to run for a problem after `done` of them.

        `chance` gives the probability that an untried config is faster by more than a fraction; it is costly, so it is
        called only where it can decide.
        """
        if self.out_of_time():
            return 0
        if self.until_gain is not None and done >= _FEWEST_TRIALS and chance(self.until_gain) < _LEAST_CHANCE:
            return 0
        return max(0, self.trials - done)
