"""One problem's search as an Optuna study in a journal file: default, then opinions, then the surrogate."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from autotune.config import Config
from autotune.tuning.search.acquisition import Outlook
from autotune.tuning.search.sampler import FeasibleSampler
from autotune.tuning.space import Lists

optuna.logging.set_verbosity(optuna.logging.WARNING)

Outcomes = Mapping[Config, dict[str, Any]]
"""How each config that was tried ended: with `us`, or with `failed` and a reason."""

_NEWS = 1.25
"""Growth of what is known elsewhere at which it is asked for its opinion again."""


class Search:
    """Ask and tell over a feasible set, resumed from whatever the storage holds under `name`."""

    def __init__(self, storage: BaseStorage, name: str, lists: Lists, seed: int) -> None:
        self._lists = lists
        self._feasible: frozenset[Config] = frozenset()
        self._seed = seed
        self._study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)
        self._distributions: dict[str, BaseDistribution] = {
            param: CategoricalDistribution(values) for param, values in lists.items()
        }
        self.outcomes: dict[Config, dict[str, Any]] = {}
        interrupted: list[Config] = []
        for trial in self._study.get_trials(deepcopy=False):
            config = Config(trial.params) if trial.params.keys() == lists.keys() else None
            if trial.state == TrialState.COMPLETE and "outcome" in trial.user_attrs and config is not None:
                self.outcomes[config] = json.loads(trial.user_attrs["outcome"])
            elif trial.state == TrialState.RUNNING:
                self._study.tell(trial.number, state=TrialState.FAIL)
                if config is not None:
                    interrupted.append(config)
        self._queue = interrupted
        self._asked: dict[Config, Trial] = {}
        self._elsewhere: tuple[Outcomes, ...] = ()
        self._heeded = 0

    @property
    def feasible_count(self) -> int | None:
        """As `allow` was last told, perhaps by an earlier session: enumerating a space takes 0.1 s a problem."""
        count: int | None = self._study.user_attrs.get("feasible")
        return count

    def allow(self, feasible: Sequence[Config], opinions: Sequence[Sequence[float]] = ()) -> None:
        """The configs that may be tried, none before this is called; and for each source that has an opinion of them
        (a model, a neighbour's measurements) their predicted times: the first trials follow them, the surrogate learns
        how far to trust each, from the first one's ratios on."""
        self._feasible = frozenset(feasible)
        if feasible:
            self._study.sampler = FeasibleSampler(feasible, seed=self._seed, opinions=opinions)
        if self.feasible_count != len(self._feasible):
            self._study.set_user_attr("feasible", len(self._feasible))

    def outlook(self, share: float) -> Outlook | None:
        """What more trials promise: the chance that one beats the best by `share`. None before the first success."""
        sampler = self._study.sampler
        succeeded = any("us" in outcome for outcome in self.outcomes.values())
        if not isinstance(sampler, FeasibleSampler) or not succeeded or len(self.outcomes) >= len(self._feasible):
            return None
        return sampler.outlook(self._study, share)

    def enqueue(self, configs: Sequence[Config]) -> None:
        """To be tried in this order before the sampler is asked."""
        self._queue += [config for config in configs if config not in self._queue]

    def learn_from(self, *elsewhere: Outcomes) -> None:
        """Trials of other problems, or of this one on another device, as they are now and as they grow: each is an
        opinion here, once a source holds enough of them. The surrogate learns what each is worth."""
        self._elsewhere += elsewhere

    def ask(self, count: int) -> list[Config]:
        """Up to `count` configs never tried before; fewer when the feasible set runs out."""
        self._heed()
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
        self._study.tell(trial, outcome.get("us", math.inf))
        self.outcomes[config] = outcome

    def _heed(self) -> None:
        known = sum(map(len, self._elsewhere))
        sampler = self._study.sampler
        if known > _NEWS * self._heeded and isinstance(sampler, FeasibleSampler):
            sampler.learn([_times(outcomes) for outcomes in self._elsewhere])
            self._heeded = known

    def _next(self) -> Config | None:
        while self._queue:
            config = self._queue.pop(0)
            if config in self._feasible and not self._known(config):
                self._study.enqueue_trial(dict(config))
                self._asked[config] = self._study.ask(self._distributions)
                return config
        if len(self.outcomes) + len(self._asked) >= len(self._feasible):
            return None
        trial = self._study.ask(self._distributions)
        config = Config(trial.params)
        self._asked[config] = trial
        return config

    def _known(self, config: Config) -> bool:
        return config in self.outcomes or config in self._asked


def _times(outcomes: Outcomes) -> list[tuple[Config, float]]:
    return [(config, outcome.get("us", math.inf)) for config, outcome in outcomes.items()]
