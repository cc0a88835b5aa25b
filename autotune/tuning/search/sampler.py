"""An Optuna sampler over a set of configs that is known in full: alone in anyone's study, or in a tuning session.

sampler = FeasibleSampler([{"BLOCK_M": 64, "num_warps": 4}, ...], seed=0)
study = optuna.create_study(sampler=sampler)
study.optimize(objective, n_trials=100)   # the objective suggests every parameter of the configs, by any method
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autotune.config import Scalar
from autotune.tuning.search.acquisition import Outlook, Suggester
from autotune.tuning.search.scalarization import mixed

_CHOSEN = "feasible:config"
_FAILED = (TrialState.FAIL, TrialState.PRUNED)


class FeasibleSampler(BaseSampler):
    """Suggests only members of `configs`, none twice until all are used up, then the best again.

    A trial that failed, was pruned or told infinity teaches where configs fail; running ones are expected to turn out
    as the surrogate says, so that many workers may ask at once. The objective is minimised or maximised as the study
    says, and positive where minimised (a time); of several, such as time and registers, the Pareto front is searched.
    Resumes from whatever trials the study holds.
    """

    def __init__(
        self,
        configs: Sequence[Mapping[str, Scalar]],
        *,
        seed: int = 0,
        opinions: Sequence[Sequence[float]] = (),
    ) -> None:
        """`opinions`: for each source (a model, a neighbour's measurements) the predicted times of all configs. The
        ratios of the first source hold until trials say otherwise, so it should be the one that foretells times. Raises
        ValueError for no configs, for configs of unlike parameters, and for opinions that do not fit them."""
        if not configs:
            raise ValueError("configs must hold at least one config")
        self._names = sorted(configs[0])
        if any(sorted(config) != self._names for config in configs):
            raise ValueError(f"every config must have the parameters {', '.join(self._names)}")
        if any(len(opinion) != len(configs) or not all(value > 0 for value in opinion) for opinion in opinions):
            raise ValueError(f"an opinion is one positive predicted time for each of the {len(configs)} configs")
        self._configs = [dict(config) for config in configs]
        self._position = {self._key(config): index for index, config in enumerate(self._configs)}
        self._suggester = Suggester(self._configs, seed, opinions)

    def learn(self, elsewhere: Sequence[Sequence[tuple[Mapping[str, Scalar], float]]]) -> None:
        """What configs took on other problems or devices (inf where they failed), a list each, is one opinion more for
        each, and the surrogate learns its worth; replaces what an earlier call taught. Leaves out configs not ours."""
        known = [[(config, value) for config, value in one if sorted(config) == self._names] for one in elsewhere]
        found = [{self._position.get(self._key(config)): value for config, value in one} for one in known]
        self._suggester.learn([{at: value for at, value in one.items() if at is not None} for one in found])

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}  # any distribution that holds the value will do: an objective may list values in another order

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if "fixed_params" in trial.system_attrs:
            return {}  # enqueued by hand
        observed, pending = self._history(study, trial)
        index = self._suggester.suggest(observed, pending)
        if index is None:
            index = min(observed, key=observed.__getitem__, default=0)
        study._storage.set_trial_system_attr(trial._trial_id, _CHOSEN, index)
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - Optuna's own signature
        if param_name not in self._names or _CHOSEN not in trial.system_attrs:
            raise ValueError(f"no config chosen holds a parameter {param_name!r}; they hold {', '.join(self._names)}")
        value = self._configs[trial.system_attrs[_CHOSEN]][param_name]
        if not param_distribution._contains(param_distribution.to_internal_repr(value)):
            raise ValueError(f"{param_name}={value!r} of a config lies outside of {param_distribution}")
        return value

    def outlook(self, study: Study, share: float) -> Outlook:
        """What more trials of `study` promise: stop when `chance` of a gain above `share` is small. Raises ValueError
        for a study of several objectives, which have no one best to beat."""
        if len(study.directions) > 1:
            raise ValueError("an outlook is of one objective, and this study has several")
        return self._suggester.outlook(self._history(study, None)[0], share)

    def _history(self, study: Study, trial: FrozenTrial | None) -> tuple[dict[int, float], list[int]]:
        values: dict[int, list[float] | None] = {}  # in the order told, None for a failure
        pending: list[int] = []
        for past in study.get_trials(deepcopy=False):
            index = self._index(past)
            if index is None or (trial is not None and past.number == trial.number):
                continue
            if past.state == TrialState.COMPLETE:
                values[index] = past.values
            elif past.state in _FAILED:
                values.setdefault(index, None)
            else:
                pending.append(index)
        costs = [
            _costs({i: told[at] if told else None for i, told in values.items()}, way == StudyDirection.MAXIMIZE)
            for at, way in enumerate(study.directions)
        ]
        waiting = [index for index in dict.fromkeys(pending) if index not in values]
        return costs[0] if len(costs) == 1 else mixed(costs, len(values) + len(waiting)), waiting

    def _index(self, trial: FrozenTrial) -> int | None:
        if trial.params.keys() >= set(self._names):
            return self._position.get(self._key(trial.params))
        chosen: int | None = trial.system_attrs.get(_CHOSEN)
        return chosen if trial.state == TrialState.RUNNING else None

    def _key(self, params: Mapping[str, Scalar]) -> tuple[Scalar, ...]:
        return tuple(params[name] for name in self._names)


def _costs(values: dict[int, float | None], maximise: bool) -> dict[int, float]:
    """To be minimised: times as they are, rates as their reciprocals (a rate of 0 is a failure), else the negative."""
    negative = min((value for value in values.values() if value is not None), default=0) < 0

    def cost(value: float | None) -> float:
        if value is None:
            return math.inf
        if not maximise:
            return value
        return -value if negative else 1 / value if value else math.inf

    return {index: cost(value) for index, value in values.items()}
