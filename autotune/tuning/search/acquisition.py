"""The acquisition of the surrogate sampler: priors first, then expected improvement under a Gaussian process.

The best configs of tuning spaces are rare (1 to 10 of 4,000 within 5 % of the optimum), so every untried config is
scored, none is tried twice, and nothing outside the set is ever suggested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from threadpoolctl import ThreadpoolController

from autotune.config import Scalar
from autotune.tuning.arrays import Floats
from autotune.tuning.search.encoding import Points, encode, octaves_from_usual
from autotune.tuning.search.gaussian_process import GaussianProcess
from autotune.tuning.search.posterior import Posterior, standardized

_MEDOID_POOL = 800
_REFINED_AFTER = 100
"""Trials after which any gain counts."""
_UNUSUAL_PENALTY = 3.0
"""Log expected improvement that each value outside of a coarse sublist costs at first, and none from the hundredth
trial on. The replay spaces reach .896 of the optimum after 25 trials with it, .870 without."""
_TRANSFER_TRIALS = 16
"""Number of initial trials ranked by transferred observations; afterwards only this problem's own data are used. Used
throughout, they cost 4 % of the best time after 100 trials of three convolutions (docs/experiments.md)."""
_LEAST_SUCCESSES = 6
"""Minimum successes in a source before it is used; low, so that concurrent searches help each other early. Without a
model they reach 1.066 of the optimum after ten trials each, and 1.110 with 24 (docs/experiments.md)."""


@dataclass(frozen=True)
class _Start:
    by_prior: int
    """First trials that follow the priors, where there are any."""
    least_gain: float
    """Gain in log time that counts as an improvement at first."""


_COLD = _Start(by_prior=4, least_gain=0.04)
_WARM = _Start(by_prior=2, least_gain=0.01)
"""With a model, the search begins near the best; the values of a cold start would cost .3 % after five trials
(docs/experiments.md)."""

_LIBRARIES = ThreadpoolController()
_Method = TypeVar("_Method", bound=Callable[..., Any])


def _on_one_thread(method: _Method) -> _Method:
    """Limit BLAS to one thread: its matrices are small, and on busy cores threads wait for each other, which made a
    suggestion take 204 ms instead of 20."""
    limited: _Method = _LIBRARIES.wrap(limits=1, user_api="blas")(method)
    return limited


@dataclass(frozen=True)
class RemainingGain:
    """Gain that remains according to the posterior."""

    expected: float
    """Expected fraction of the best time that one more trial saves."""
    share: float
    chance: float
    """Probability that some untried config is faster than the best by more than the fraction `share`."""


class Acquisition:
    """Chooses among a set of configs. Stateless but for caches: all follows from `seed` and the observations in order.

    Positions are those of the constructor's `configs`.
    """

    def __init__(
        self, configs: Sequence[Mapping[str, Scalar]], seed: int, priors: Sequence[Sequence[float]] = ()
    ) -> None:
        """`priors` are predicted times of all configs, one list per source, in any unit. Ratios of the first hold until
        trials contradict them; the weights of the others are learned, from zero."""
        self._rng = np.random.default_rng(seed)
        # Files list configs in grid order, which correlates with time: ties must not resolve by it.
        self._order = self._rng.permutation(len(configs))
        self._place = np.argsort(self._order)
        self._points = encode([configs[i] for i in self._order])
        logs = [np.log(prior)[self._order] for prior in priors]
        self._priors = [_standardized(log) for log in logs]
        self._predicted: Floats = logs[0] - logs[0].mean() if logs else np.zeros(len(configs))
        self._start = _WARM if priors else _COLD
        self._transferred: list[Floats] = []
        octaves = np.zeros(len(configs)) if priors else octaves_from_usual(configs)[self._order]
        # A prior that only the process uses: following it in one, two or four first trials gained nothing.
        self._thread_prior = [_standardized(octaves)] if np.ptp(octaves) > 0 else []
        self._usual = np.flatnonzero(octaves == octaves.min())
        self._build()

    @_on_one_thread
    def transfer(self, sources: Sequence[Mapping[int, float]]) -> None:
        """Use observations of other problems or devices, one mapping of position to time per source (inf: failed).

        A Gaussian process fitted to each source becomes a prior. Replaces sources given earlier.
        """
        enough = [source for source in sources if sum(map(math.isfinite, source.values())) >= _LEAST_SUCCESSES]
        if not enough and not self._transferred:
            return
        self._transferred = [
            self._source_mean({int(self._place[i]): time for i, time in source.items()}) for source in enough
        ]
        self._build()

    def _build(self) -> None:
        self._ranked_by = [*self._priors, *self._transferred]
        self._own = Posterior(self._points, [*self._priors, *self._thread_prior])
        self._with_transfer = (
            Posterior(self._points, [*self._ranked_by, *self._thread_prior]) if self._transferred else self._own
        )

    def _source_mean(self, observed: dict[int, float]) -> Floats:
        process = GaussianProcess(self._points)
        residuals = standardized(observed, np.zeros(len(self._order))).residuals
        process.fit(list(observed), residuals)
        return _standardized(process.mean(residuals))

    @_on_one_thread
    def suggest(self, observed: Mapping[int, float], pending: Collection[int] = ()) -> int | None:
        """Return the position of the config to try next, or None when all were tried.

        `observed` maps positions to times (inf: failed); `pending` positions are being tried.
        """
        times = {int(self._place[i]): time for i, time in observed.items()}
        waiting = [int(self._place[i]) for i in pending]
        untried = np.ones(len(self._order), bool)
        untried[[*times, *waiting]] = False
        if not untried.any():
            return None
        return int(self._order[self._choose(times, waiting, untried)])

    @_on_one_thread
    def remaining_gain(self, observed: Mapping[int, float], share: float) -> RemainingGain:
        """Return what more trials can gain; needs at least one success and one untried config."""
        times = {int(self._place[i]): time for i, time in observed.items()}
        targets = standardized(times, self._predicted)
        posterior = self._posterior_after(len(times))
        mean, deviation = posterior.predict(times, [], targets)
        untried = np.ones(len(self._order), bool)
        untried[list(times)] = False
        score = np.where(untried, log_expected_improvement(mean, deviation, targets.best), -np.inf)
        top = np.argsort(-score)[: min(200, int(untried.sum()))]
        samples = posterior.samples(targets, top, 256)
        needed = targets.best + np.log1p(-share) / targets.scale
        chance = float((samples.min(1) < needed).mean())
        return RemainingGain(float(-np.expm1(-np.exp(score[top[0]]) * targets.scale)), share, chance)

    def _posterior_after(self, trials: int) -> Posterior:
        return self._with_transfer if trials < _TRANSFER_TRIALS else self._own

    def _choose(self, times: dict[int, float], waiting: list[int], untried: Floats) -> int:
        trials = len(times) + len(waiting)
        if self._ranked_by and (trials < self._start.by_prior or not times):
            return self._best_by_priors(untried, [*times, *waiting])
        if not trials:
            return self._center
        values = np.array(list(times.values()))
        if not np.isfinite(values).any():
            return int(np.random.default_rng(trials).choice(np.flatnonzero(untried)))
        targets = standardized(times, self._predicted)
        posterior = self._posterior_after(trials)
        mean, deviation = posterior.predict(times, waiting, targets)
        early = max(0.0, 1 - trials / _REFINED_AFTER)
        least_gain = self._start.least_gain * early if values.min() > 0 else 0.0
        score = log_expected_improvement(mean, deviation, targets.best - least_gain / targets.scale)
        score += posterior.log_feasibility(values, waiting) - _UNUSUAL_PENALTY * early * self._points.unusual
        return int(np.argmax(np.where(untried, score, -np.inf)))

    @cached_property
    def _center(self) -> int:
        """First config of a search without priors."""
        return _medoid(self._points, self._usual, self._rng)

    def _best_by_priors(self, untried: Floats, tried: list[int]) -> int:
        """Return the best config by mean rank among those that differ from each tried one in two groups or more."""
        rank = np.mean([_ranks(prior) for prior in self._ranked_by], 0)
        values = self._points.values
        near = np.zeros(len(values), bool)
        for index in tried:
            near |= (np.abs(values - values[index]).sum(1)) < 1.0
        far = untried & ~near
        return int(np.argmin(np.where(far if far.any() else untried, rank, np.inf)))


def log_expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Return log E[max(best - Y, 0)] for normal Y, stable far in the tail (Ament et al. 2023, arXiv 2310.20708)."""
    u = (best - mean) / deviation
    near = u > -5
    log_density = -0.5 * u * u - 0.5 * np.log(2 * np.pi)
    body = np.exp(np.where(near, log_density, 0)) + u * ndtr(u)
    tail = log_density - 2 * np.log(np.maximum(-u, 1.0))
    score: Floats = np.log(deviation) + np.where(near, np.log(np.maximum(body, 1e-300)), tail)
    return score


def _medoid(points: Points, among: NDArray[np.intp], rng: np.random.Generator) -> int:
    """Return the config nearest to all others in a random pool of those `among` with the fewest unusual values."""
    unusual = points.unusual[among]
    plainest = among[unusual == unusual.min()]
    pool = rng.choice(plainest, min(_MEDOID_POOL, len(plainest)), replace=False)
    values = points.values[pool]
    squares = (values * values).sum(1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * values @ values.T, 0))
    return int(pool[distance.sum(0).argmin()])


def _ranks(values: Floats) -> Floats:
    """Rank from 1, ties by their mean rank; `scipy.stats.rankdata` does it too, but takes a second to import."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (counts.cumsum() - (counts - 1) / 2)[place]
    return ranks


def _standardized(values: Floats) -> Floats:
    result: Floats = ((values - values.mean()) / (values.std() + 1e-9)).astype(np.float32)
    return result
