"""One problem's search as an Optuna study in a journal file: default first, then the model's order, then TPE."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from autotune.config import Config
from autotune.tuning.space import Lists

optuna.logging.set_verbosity(optuna.logging.WARNING)

PENALTY_US = 1e7
"""Told for a config that failed: Optuna's samplers ignore failed trials, a finite penalty teaches them."""
_TRIES = 8
"""Suggestions outside the feasible set, or seen before, that one slot may cost."""


def open_storage(path: Path) -> BaseStorage:
    """The journal at `path`; every finished trial is in it before the next one starts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))


class Search:
    """Ask and tell over a feasible set, resumed from whatever the storage holds under `name`."""

    def __init__(self, storage: BaseStorage, name: str, lists: Lists, seed: int) -> None:
        self._lists = lists
        self._feasible: frozenset[Config] = frozenset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=1, constant_liar=True)
        self._study = optuna.create_study(storage=storage, study_name=name, sampler=sampler, load_if_exists=True)
        self._distributions = {param: _distribution(values) for param, values in lists.items()}
        self.outcomes: dict[Config, dict[str, Any]] = {}
        interrupted: list[Config] = []
        for trial in self._study.get_trials(deepcopy=False):
            config = self._config(trial.params) if trial.params.keys() == lists.keys() else None
            if trial.state == TrialState.COMPLETE and "outcome" in trial.user_attrs and config is not None:
                self.outcomes[config] = json.loads(trial.user_attrs["outcome"])
            elif trial.state == TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
                if config is not None:
                    interrupted.append(config)
        self._queue = interrupted
        self._asked: dict[Config, Trial] = {}

    @property
    def feasible_count(self) -> int | None:
        """As `allow` was last told, perhaps by an earlier session: enumerating a space takes 0.1 s a problem."""
        count: int | None = self._study.user_attrs.get("feasible")
        return count

    def allow(self, feasible: Sequence[Config]) -> None:
        """The configs that may be tried; none before this is called."""
        self._feasible = frozenset(feasible)
        if self.feasible_count != len(self._feasible):
            self._study.set_user_attr("feasible", len(self._feasible))

    def enqueue(self, configs: Sequence[Config]) -> None:
        """To be tried in this order before the sampler is asked."""
        self._queue += [config for config in configs if config not in self._queue]

    def ask(self, count: int) -> list[Config]:
        """Up to `count` configs never tried before; fewer when the feasible set runs out."""
        found: list[Config] = []
        while len(found) < count:
            config = self._next()
            if config is None:
                break
            found.append(config)
        return found

    def tell(self, config: Config, outcome: dict[str, Any]) -> None:
        """`outcome` has `us`, or `failed` with stage and reason. On disk when this returns."""
        trial = self._asked.pop(config)
        trial.set_user_attr("outcome", json.dumps(outcome))
        self._study.tell(trial, outcome.get("us", PENALTY_US))
        self.outcomes[config] = outcome

    def _next(self) -> Config | None:
        while self._queue:
            config = self._queue.pop(0)
            if config in self._feasible and not self._known(config):
                self._study.enqueue_trial(self._params(config))
                self._asked[config] = self._study.ask(self._distributions)
                return config
        if len(self.outcomes) + len(self._asked) >= len(self._feasible):
            return None
        for _ in range(_TRIES):
            trial = self._study.ask(self._distributions)
            config = self._config(trial.params)
            if config in self._feasible and not self._known(config):
                self._asked[config] = trial
                return config
            # Not counted as a trial of a config: it teaches the sampler where not to look.
            self._study.tell(trial, self.outcomes.get(config, {}).get("us", PENALTY_US))
        return None

    def _known(self, config: Config) -> bool:
        return config in self.outcomes or config in self._asked

    def _config(self, params: dict[str, Any]) -> Config:
        # Integers are searched by position, so that 16, 32, 64 are neighbours.
        return Config({name: self._lists[name][index] for name, index in params.items()})

    def _params(self, config: Config) -> dict[str, int]:
        return {name: values.index(config[name]) for name, values in self._lists.items()}


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    if isinstance(values[0], bool | str):
        return CategoricalDistribution(range(len(values)))
    return IntDistribution(0, len(values) - 1)
