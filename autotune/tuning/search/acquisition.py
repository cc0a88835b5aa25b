"""Which config to try next: opinions and a covering design first, then expected improvement under a surrogate.

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
from autotune.tuning.search.gaussian_process import Surrogate
from autotune.tuning.search.posterior import Belief, standardised

_POOL = 800
_POLISHED = 100
"""Trials from which on any gain counts."""
_RESERVE = 3.0
"""Log expected improvement that a value outside of a coarse list costs at first, none from the hundredth trial on. The
replay spaces stand at .896 of the optimum after 25 trials (.870 without) and at .993 after 100 (.979)."""
_LED = 16
"""Trials that lessons lead; then a surrogate decides that has seen those but heard no lesson. On three convolutions,
led by two other devices, the best of 100 stands at .959 of the optimum (.922 led on and on, .961 never led)."""
_TAUGHT = 6
"""Successes elsewhere before they are an opinion: a problem hears what those beside it have found while all of them
still begin; failures alone rank nothing. Nine token counts of a fused MoE, searched side by side without a model, stand
at 1.066 of the optimum after ten trials each (1.110 if 24 are needed, 1.065 if 4), with a model that is wrong of every
config at 1.061 (1.084, 1.057), with the H100's at 1.006 in all three cases (`benchmarks/search/transfer.py --repeats
30`, +-.008; the last of 10 repeats)."""


@dataclass(frozen=True)
class _Opening:
    favourites: int
    """First trials that follow opinions, where anybody has one."""
    worthwhile: float
    """The gain in log time that counts as one at first."""


_BLIND = _Opening(favourites=4, worthwhile=0.04)
_FORETOLD = _Opening(favourites=2, worthwhile=0.01)
"""Where a model foretold times, and the search begins near the best: nine token counts of a fused MoE stand at 1.014
of the optimum after five trials (`benchmarks/search/transfer.py`), and at 1.017 if it opens as if blind."""

_LIBRARIES = ThreadpoolController()
_Method = TypeVar("_Method", bound=Callable[..., Any])


def _on_one_thread(method: _Method) -> _Method:
    """The matrices are small, and where others keep all cores busy the threads of a BLAS wait for each other: on two
    busy cores a suggestion took 204 ms (65 of CPU time), and takes 20 (7)."""
    limited: _Method = _LIBRARIES.wrap(limits=1, user_api="blas")(method)
    return limited


@dataclass(frozen=True)
class Outlook:
    """What is left to gain, as the surrogate sees it: `gain` is the expected share of the best time saved by one more
    trial; `chance` is the probability that some untried config is faster than the best by more than `share`."""

    gain: float
    share: float
    chance: float


class Suggester:
    """Stateless but for caches: everything follows from `seed` and the observations, in their order."""

    def __init__(
        self, configs: Sequence[Mapping[str, Scalar]], seed: int, opinions: Sequence[Sequence[float]] = ()
    ) -> None:
        """`opinions` are predicted times of all configs, each from one source; their scale does not matter. The ratios
        that the first foretells hold until trials say otherwise; what the others are worth is learned from nothing.
        """
        self._rng = np.random.default_rng(seed)
        # Files list configs in grid order, which correlates with time: ties must not resolve by it.
        self._order = self._rng.permutation(len(configs))
        self._place = np.argsort(self._order)
        self._points = encode([configs[i] for i in self._order])
        logs = [np.log(opinion)[self._order] for opinion in opinions]
        self._opinions = [_standard(log) for log in logs]
        self._foretold: Floats = logs[0] - logs[0].mean() if logs else np.zeros(len(configs))
        self._opening = _FORETOLD if opinions else _BLIND
        self._lessons: list[Floats] = []
        unusual = np.zeros(len(configs)) if opinions else octaves_from_usual(configs)[self._order]
        # An opinion whose worth is learned and that no first trial follows: one, two or four that did gained nothing.
        self._hints = [_standard(unusual)] if np.ptp(unusual) > 0 else []
        self._usual = np.flatnonzero(unusual == unusual.min())
        self._begin()

    @_on_one_thread
    def learn(self, elsewhere: Sequence[Mapping[int, float]]) -> None:
        """`elsewhere`: for each other problem or device the times, inf for failures, that configs at these positions
        had there. What a surrogate of their own makes of them is one more opinion each, in place of earlier lessons."""
        heard = [one for one in elsewhere if sum(map(math.isfinite, one.values())) >= _TAUGHT]
        if not heard and not self._lessons:
            return
        self._lessons = [self._lesson({int(self._place[i]): value for i, value in one.items()}) for one in heard]
        self._begin()

    def _begin(self) -> None:
        self._views = [*self._opinions, *self._lessons]
        self._belief = Belief(self._points, [*self._views, *self._hints])
        self._sceptic = Belief(self._points, [*self._opinions, *self._hints]) if self._lessons else self._belief

    def _lesson(self, observed: dict[int, float]) -> Floats:
        surrogate = Surrogate(self._points)
        left = standardised(observed, np.zeros(len(self._order))).left
        surrogate.fit(list(observed), left)
        return _standard(surrogate.mean(left))

    @_on_one_thread
    def suggest(self, observed: Mapping[int, float], pending: Collection[int] = ()) -> int | None:
        """The position of the config to try next, or None when all were. `observed` values are times, inf a failure;
        `pending` configs are under way: they are taken to turn out as the surrogate expects."""
        values = {int(self._place[i]): value for i, value in observed.items()}
        waiting = [int(self._place[i]) for i in pending]
        free = np.ones(len(self._order), bool)
        free[[*values, *waiting]] = False
        if not free.any():
            return None
        return int(self._order[self._choose(values, waiting, free)])

    @_on_one_thread
    def outlook(self, observed: Mapping[int, float], share: float) -> Outlook:
        """What more trials promise; needs at least one success and one untried config."""
        values = {int(self._place[i]): value for i, value in observed.items()}
        targets = standardised(values, self._foretold)
        belief = self._belief if len(values) < _LED else self._sceptic
        mean, deviation = belief.posterior(values, [], targets)
        free = np.ones(len(self._order), bool)
        free[list(values)] = False
        score = np.where(free, log_improvement(mean, deviation, targets.best), -np.inf)
        top = np.argsort(-score)[: min(200, int(free.sum()))]
        draws = belief.draws(targets, top, 256)
        needed = targets.best + np.log1p(-share) / targets.scale
        chance = float((draws.min(1) < needed).mean())
        return Outlook(float(-np.expm1(-np.exp(score[top[0]]) * targets.scale)), share, chance)

    def _choose(self, values: dict[int, float], waiting: list[int], free: Floats) -> int:
        tried = len(values) + len(waiting)
        if self._views and (tried < self._opening.favourites or not values):
            return self._by_opinion(free, [*values, *waiting])
        if not tried:
            return self._middle
        times = np.array(list(values.values()))
        if not np.isfinite(times).any():
            return int(np.random.default_rng(tried).choice(np.flatnonzero(free)))
        targets = standardised(values, self._foretold)
        belief = self._belief if tried < _LED else self._sceptic
        mean, deviation = belief.posterior(values, waiting, targets)
        early = max(0.0, 1 - tried / _POLISHED)
        worthwhile = self._opening.worthwhile * early if times.min() > 0 else 0.0
        score = log_improvement(mean, deviation, targets.best - worthwhile / targets.scale)
        score += belief.log_feasible(times, waiting) - _RESERVE * early * self._points.rough
        return int(np.argmax(np.where(free, score, -np.inf)))

    @cached_property
    def _middle(self) -> int:
        """Where a search begins that nobody has an opinion of."""
        return _medoid(self._points, self._usual, self._rng)

    def _by_opinion(self, free: Floats, tried: list[int]) -> int:
        """The best opinion of what differs from every earlier trial in more than one group of columns."""
        rank = np.mean([_ranks(opinion) for opinion in self._views], 0)
        values = self._points.values
        near = np.zeros(len(values), bool)
        for index in tried:
            near |= (np.abs(values - values[index]).sum(1)) < 1.0
        far = free & ~near
        return int(np.argmin(np.where(far if far.any() else free, rank, np.inf)))


def log_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """log E[max(best - Y, 0)] for normal Y, stable far in the tail (Ament et al. 2023, arXiv 2310.20708)."""
    u = (best - mean) / deviation
    near = u > -5
    density = -0.5 * u * u - 0.5 * np.log(2 * np.pi)
    body = np.exp(np.where(near, density, 0)) + u * ndtr(u)
    tail = density - 2 * np.log(np.maximum(-u, 1.0))
    score: Floats = np.log(deviation) + np.where(near, np.log(np.maximum(body, 1e-300)), tail)
    return score


def _medoid(points: Points, among: NDArray[np.intp], rng: np.random.Generator) -> int:
    """Of a random pool of those `among` whose values are coarsest, the config that is nearest to all others."""
    rough = points.rough[among]
    coarse = among[rough == rough.min()]
    pool = rng.choice(coarse, min(_POOL, len(coarse)), replace=False)
    some = points.values[pool]
    squares = (some * some).sum(1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * some @ some.T, 0))
    return int(pool[distance.sum(0).argmin()])


def _ranks(values: Floats) -> Floats:
    """From 1; equals share the mean of theirs. As `scipy.stats.rankdata`, whose import takes a second."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (counts.cumsum() - (counts - 1) / 2)[place]
    return ranks


def _standard(values: Floats) -> Floats:
    standard: Floats = ((values - values.mean()) / (values.std() + 1e-9)).astype(np.float32)
    return standard
