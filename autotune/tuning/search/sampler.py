"""Samplers over a set of configs that is known in full, for a tuning session or anyone's Optuna study.

sampler = FeasibleSampler([{"BLOCK_M": 64, "num_warps": 4}, ...], seed=0)
study = optuna.create_study(sampler=sampler)
study.optimize(objective, n_trials=100)   # the objective suggests every parameter of the configs, by any method
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autotune.config import Scalar
from autotune.tuning.search.acquisition import Acquisition, RemainingGain
from autotune.tuning.search.feasible_set import FeasibleSetSampler


class FeasibleSampler(FeasibleSetSampler):
    """Expected improvement under a Gaussian process, over every config of the set.

    A trial that failed, was pruned or returned infinity teaches where configs fail; running ones count as if they had
    returned the posterior mean, so that many workers may ask at once. The objective is minimized or maximized as the
    study says, and must be positive where minimized (a time). With several objectives, such as time and registers, the
    Pareto front is searched. Ratios of the first prior hold until trials contradict them.
    """

    def __init__(
        self, configs: Sequence[Mapping[str, Scalar]], *, seed: int = 0, priors: Sequence[Sequence[float]] = ()
    ) -> None:
        super().__init__(configs, seed=seed, priors=priors)
        self._acquisition = Acquisition(self.configs, seed, priors)

    def next_position(self, observed: Mapping[int, float], pending: Sequence[int]) -> int | None:
        return self._acquisition.suggest(observed, pending)

    def transfer(self, sources: Sequence[Mapping[int, float]]) -> None:
        self._acquisition.transfer(sources)

    def remaining(self, observed: Mapping[int, float], share: float) -> RemainingGain | None:
        return self._acquisition.remaining_gain(observed, share)


class RandomSampler(FeasibleSetSampler):
    """Uniformly random configs without repetition: the baseline of every comparison."""

    def __init__(
        self, configs: Sequence[Mapping[str, Scalar]], *, seed: int = 0, priors: Sequence[Sequence[float]] = ()
    ) -> None:
        super().__init__(configs, seed=seed, priors=priors)
        self._order = np.random.default_rng(seed).permutation(len(configs)).tolist()

    def next_position(self, observed: Mapping[int, float], pending: Sequence[int]) -> int | None:
        return next((index for index in self._order if index not in observed and index not in pending), None)


SAMPLERS: Mapping[str, type[FeasibleSetSampler]] = {"surrogate": FeasibleSampler, "random": RandomSampler}
"""Every sampler that `autotune tune --sampler` accepts, by name."""
