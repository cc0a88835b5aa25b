"""What a study's observations say of every config: a surrogate that is kept up with them, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.tuning.arrays import Floats
from autotune.tuning.search.encoding import Points
from autotune.tuning.search.gaussian_process import Indices, Surrogate

_TAIL = 0.3
"""Slope of the target above the median: how slow a slow config is matters little, and outliers bend the surrogate."""
_RESOLVED = 0.01
"""Deviation in log time below which what a model left is noise of the measurement, not its error."""
_WIDER = 1.5
"""Of sampled deviations, since hyper-parameters taken as fitted leave a surrogate too sure of itself: of 104 searches
that a promise ended without it, 12 had missed something; with it of 95, 5 (`benchmarks/search/stop_rule.py`)."""
_REFIT = 0.08
_LEAST_CHANCE = 0.02


@dataclass(frozen=True)
class Targets:
    """Observed log times in standard deviations: what a model foretold, and what it left for the surrogate to learn."""

    expected: Floats
    """At all points; zeros where nobody foretold times."""
    left: Floats
    """Of the observations, in their order."""
    best: float
    """The least of both together."""
    scale: float
    """One standard deviation, in log time."""


class Belief:
    """A cache: everything follows from the observations, in their order."""

    def __init__(self, points: Points, views: Sequence[Floats]) -> None:
        self._count = len(points.values)
        self._surrogate = Surrogate(points, np.stack(views, 1) if views else None)
        self._seen: list[int] = []
        self._refit_at = 0

    def posterior(self, values: Mapping[int, float], waiting: list[int], targets: Targets) -> tuple[Floats, Floats]:
        """Mean and deviation everywhere; those `waiting` are taken to turn out as expected."""
        order = list(values)
        known = len(self._seen)
        if order[:known] != self._seen or len(order) >= self._refit_at:
            self._surrogate.fit(order, targets.left)
            self._refit_at = len(order) + max(3, int(_REFIT * len(order)))
        else:
            self._surrogate.keep(known)
            for index in order[known:]:
                self._surrogate.observe(index)
        self._seen = order
        mean, deviation = self._surrogate.posterior(targets.left)
        for index in waiting:
            self._surrogate.observe(index)
        if waiting:
            deviation = self._surrogate.posterior(np.r_[targets.left, mean[waiting]])[1]
        return mean + targets.expected, deviation

    def log_feasible(self, times: Floats, waiting: list[int]) -> Floats:
        """Log chance of success, by the surrogate as `posterior` left it: 1 where nothing failed nearby."""
        failed = np.r_[np.where(np.isfinite(times), 0.0, 1.0), np.zeros(len(waiting))]
        if not failed.any():
            return np.zeros(self._count)
        chance: Floats = np.log(np.clip(1 - self._surrogate.mean(failed), _LEAST_CHANCE, 1))
        return chance

    def draws(self, targets: Targets, at: Indices, count: int) -> Floats:
        """`count` joint samples at the points `at`, as `posterior` left the surrogate, but wider."""
        drawn = self._surrogate.draws(targets.left, at, count, np.random.default_rng(0))
        mean = self._surrogate.mean(targets.left)[at]
        return mean + _WIDER * (drawn - mean) + targets.expected[at]


def standardised(values: Mapping[int, float], foretold: Floats) -> Targets:
    """What is left of the observed log times by a model's, `foretold` at all points; failures as bad as the worst.

    A model explains why slow configs are slow. Where none spoke (all zeros), the slow half is compressed.
    """
    at, times = list(values), np.array(list(values.values()))
    good = np.isfinite(times)
    positive = times.min() > 0
    expected = foretold if positive else np.zeros(len(foretold))
    logs = (np.log(np.where(good, times, 1.0)) if positive else np.where(good, times, 0.0)) - expected[at]
    if not expected.any():
        middle = np.median(logs[good])
        logs = np.where(logs > middle, middle + _TAIL * (logs - middle), logs)
    logs = np.where(good, logs, logs[good].max())
    scale = max(float(logs.std()), _RESOLVED if expected.any() else 1e-9)
    left = (logs - logs.mean()) / scale
    return Targets(expected / scale, left, float((left + expected[at] / scale)[good].min()), scale)
