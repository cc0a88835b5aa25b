"""One problem's search as an Optuna study that is kept in a journal file or a database."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from autotune.config import Config
from autotune.tuning.search.acquisition import RemainingGain
from autotune.tuning.search.feasible_set import INTERRUPTED, FeasibleSetSampler
from autotune.tuning.search.sampler import FeasibleSampler, RandomSampler
from autotune.tuning.search.storage import study_called
from autotune.tuning.space import Lists

Outcomes = Mapping[Config, dict[str, Any]]
"""Result of each config that was tried: it has `us`, or `failed` with a reason."""

_TRANSFER_GROWTH = 1.25
"""Growth of the transferred observations at which they are read again."""


class Search:
    """Ask and tell over a feasible set, resumed from whatever the storage holds under `name`."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        lists: Lists,
        seed: int,
        sampler: type[FeasibleSetSampler] = FeasibleSampler,
    ) -> None:
        self._make_sampler = sampler
        self._feasible: frozenset[Config] = frozenset()
        self._seed = seed
        self._study = _study(storage, name)
        self._distributions: dict[str, BaseDistribution] = {
            param: CategoricalDistribution(values) for param, values in lists.items()
        }
        self.outcomes: dict[Config, dict[str, Any]] = {}
        self._passed_over: set[Config] = set()
        """Configs that the sampler chose and that were known to fail: no trials."""
        self._enqueued: set[Config] = set()
        interrupted: list[Config] = []
        for trial in self._study.get_trials(deepcopy=False):
            config = Config(trial.params) if trial.params.keys() == lists.keys() else None
            if trial.state == TrialState.COMPLETE and "outcome" in trial.user_attrs and config is not None:
                self.outcomes[config] = json.loads(trial.user_attrs["outcome"])
            elif trial.state == TrialState.RUNNING:
                Trial(self._study, trial._trial_id).set_user_attr(INTERRUPTED, True)
                self._study.tell(trial.number, state=TrialState.FAIL)
                if config is not None:
                    interrupted.append(config)
            elif trial.state == TrialState.FAIL and INTERRUPTED not in trial.user_attrs and config is not None:
                self._passed_over.add(config)
        self._queue = interrupted
        self._asked: dict[Config, Trial] = {}
        self._sources: tuple[Outcomes, ...] = ()
        self._transferred = 0

    @property
    def feasible_count(self) -> int | None:
        """Size of the set that `set_feasible` was last given, perhaps by an earlier session."""
        count: int | None = self._study.user_attrs.get("feasible")
        return count

    def set_feasible(self, feasible: Sequence[Config], priors: Sequence[Sequence[float]] = ()) -> None:
        """Set the feasible configs (initially none) and their predicted times, one list per source of priors."""
        self._feasible = frozenset(feasible)
        if feasible:
            self._study.sampler = self._make_sampler(feasible, seed=self._seed, priors=priors)
        if self.feasible_count != len(self._feasible):
            self._study.set_user_attr("feasible", len(self._feasible))

    def try_all(self, configs: Sequence[Config]) -> None:
        """Set the feasible configs, all of which are tried in this order: no surrogate is fitted."""
        self._make_sampler = RandomSampler
        self.set_feasible(configs)
        self.enqueue(configs)

    def remaining_gain(self, share: float) -> RemainingGain | None:
        """Return what more trials can gain, with the chance of a gain above the fraction `share`.

        None before the first success, when all configs were tried, and for samplers that cannot tell.
        """
        sampler = self._study.sampler
        succeeded = any("us" in outcome for outcome in self.outcomes.values())
        left = len(self._feasible) - len(self.outcomes) - len(self._passed_over)
        if not isinstance(sampler, FeasibleSetSampler) or not succeeded or left <= 0:
            return None
        return sampler.remaining_gain(self._study, share)

    def enqueue(self, configs: Sequence[Config]) -> None:
        """Queue configs to be tried in this order before the sampler is asked."""
        self._queue = list(dict.fromkeys([*self._queue, *configs]))

    def transfer(self, *sources: Outcomes) -> None:
        """Use trials of other problems, or of this one on other devices, as priors.

        Sources are live: each is read again as it grows, and counts from its 6th success.
        """
        self._sources += sources

    def ask(self, count: int, fails: Callable[[Config], bool] = lambda config: False) -> list[Config]:
        """Return up to `count` configs never tried before; fewer when the feasible set runs out.

        A config of which `fails` knows that it will fail is passed over, unless it was enqueued: it counts as a failure
        for the sampler, and is no trial.
        """
        self._read_sources()
        configs: list[Config] = []
        while len(configs) < count:
            config = self._next(fails)
            if config is None:
                break
            configs.append(config)
        return configs

    def tell(self, config: Config, outcome: dict[str, Any]) -> None:
        """Record an outcome with `us`, or with `failed` (the stage) and a reason. It is on disk when this returns."""
        trial = self._asked.pop(config)
        trial.set_user_attr("outcome", json.dumps(outcome))
        self._study.tell(trial, outcome.get("us", math.inf))
        self.outcomes[config] = outcome

    def pass_over(self, config: Config) -> bool:
        """Let a config that was asked fail and be no trial; False, and nothing done, for one that was enqueued."""
        if config in self._enqueued:
            return False
        self._study.tell(self._asked.pop(config), state=TrialState.FAIL)
        self._passed_over.add(config)
        return True

    def _read_sources(self) -> None:
        size = sum(map(len, self._sources))
        sampler = self._study.sampler
        if size > _TRANSFER_GROWTH * self._transferred and isinstance(sampler, FeasibleSetSampler):
            sampler.transfer_from([_times(outcomes) for outcomes in self._sources])
            self._transferred = size

    def _next(self, fails: Callable[[Config], bool]) -> Config | None:
        while self._queue:
            config = self._queue.pop(0)
            if config in self._feasible and not self._is_tried(config):
                self._study.enqueue_trial(dict(config))
                self._asked[config] = self._study.ask(self._distributions)
                self._enqueued.add(config)
                return config
        while len(self.outcomes) + len(self._asked) + len(self._passed_over) < len(self._feasible):
            trial = self._study.ask(self._distributions)
            config = Config(trial.params)
            self._asked[config] = trial
            if not fails(config):
                return config
            self.pass_over(config)
        return None

    def _is_tried(self, config: Config) -> bool:
        return config in self.outcomes or config in self._asked


def _study(storage: BaseStorage, name: str) -> optuna.Study:
    """The study called `name`, new or resumed; Optuna logs a line for each, which a session of many has no use for."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
    try:
        return study_called(name, storage)
    finally:
        optuna.logging.set_verbosity(verbosity)


def _times(outcomes: Outcomes) -> list[tuple[Config, float]]:
    return [(config, outcome.get("us", math.inf)) for config, outcome in outcomes.items()]
