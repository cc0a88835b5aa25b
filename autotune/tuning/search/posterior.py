"""The posterior of a search over all configs, given its observations so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autotune.tuning.arrays import Floats
from autotune.tuning.search.encoding import Points
from autotune.tuning.search.gaussian_process import GaussianProcess, Indices

_SLOW_HALF_SLOPE = 0.3
"""Slope of the target above the median: how slow a slow config is matters little, and outliers distort the fit."""
_MEASUREMENT_NOISE = 0.01
"""Residuals of a model below this deviation in log time are noise of the measurement, not its error."""
_SAMPLE_WIDENING = 1.5
"""Factor on the deviations of joint samples; point-estimated hyper-parameters make a Gaussian process overconfident.
Without it the stop rule was wrong in 12 of 104 searches, with it in 5 of 95 (docs/experiments.md)."""
_REFIT_GROWTH = 0.08
_LEAST_CHANCE = 0.02


@dataclass(frozen=True)
class Targets:
    """Observed log times in standard deviations, split into a model's prediction and what it leaves to learn."""

    predicted: Floats
    """At all points; zeros without a model."""
    residuals: Floats
    """One per observation, in their order."""
    best: float
    """Least sum of prediction and residual among the observations that succeeded."""
    scale: float
    """One standard deviation, in log time."""


class Posterior:
    """A Gaussian process kept up to date with a search; a cache, since all follows from the observations' order."""

    def __init__(self, points: Points, priors: Sequence[Floats]) -> None:
        self._count = len(points.values)
        self._process = GaussianProcess(points, np.stack(priors, 1) if priors else None)
        self._fitted: list[int] = []
        self._refit_at = 0

    def predict(self, times: Mapping[int, float], pending: list[int], targets: Targets) -> tuple[Floats, Floats]:
        """Return mean and standard deviation at all points; pending points count as observed at their mean."""
        observed = list(times)
        kept = len(self._fitted)
        if observed[:kept] != self._fitted or len(observed) >= self._refit_at:
            self._process.fit(observed, targets.residuals)
            self._refit_at = len(observed) + max(3, int(_REFIT_GROWTH * len(observed)))
        else:
            self._process.keep(kept)
            for index in observed[kept:]:
                self._process.observe(index)
        self._fitted = observed
        mean, deviation = self._process.posterior(targets.residuals)
        for index in pending:
            self._process.observe(index)
        if pending:
            deviation = self._process.posterior(np.r_[targets.residuals, mean[pending]])[1]
        return mean + targets.predicted, deviation

    def log_feasibility(self, times: Floats, pending: list[int]) -> Floats:
        """Return the log probability of success at all points after `predict`; 0 where nothing failed nearby."""
        failed = np.r_[np.where(np.isfinite(times), 0.0, 1.0), np.zeros(len(pending))]
        if not failed.any():
            return np.zeros(self._count)
        log_chance: Floats = np.log(np.clip(1 - self._process.mean(failed), _LEAST_CHANCE, 1))
        return log_chance

    def samples(self, targets: Targets, at: Indices, count: int) -> Floats:
        """Draw `count` joint samples at the points `at` after `predict`, widened: [count, len(at)]."""
        drawn = self._process.samples(targets.residuals, at, count, np.random.default_rng(0))
        mean = self._process.mean(targets.residuals)[at]
        return mean + _SAMPLE_WIDENING * (drawn - mean) + targets.predicted[at]


def standardized(times: Mapping[int, float], predicted: Floats) -> Targets:
    """Return the targets of observed times (inf: failed), given a model's log times at all points (zeros: no model).

    Failures count as the slowest success. Without a model, the slower half is compressed.
    """
    at, values = list(times), np.array(list(times.values()))
    succeeded = np.isfinite(values)
    positive = values.min() > 0
    model = predicted if positive else np.zeros(len(predicted))
    logs = (np.log(np.where(succeeded, values, 1.0)) if positive else np.where(succeeded, values, 0.0)) - model[at]
    if not model.any():
        median = np.median(logs[succeeded])
        logs = np.where(logs > median, median + _SLOW_HALF_SLOPE * (logs - median), logs)
    logs = np.where(succeeded, logs, logs[succeeded].max())
    scale = max(float(logs.std()), _MEASUREMENT_NOISE if model.any() else 1e-9)
    residuals = (logs - logs.mean()) / scale
    return Targets(model / scale, residuals, float((residuals + model[at] / scale)[succeeded].min()), scale)
