"""The interface of samplers over a known set of configs: Optuna's, and the history of a study as positions."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autotune.config import Scalar
from autotune.tuning.search.acquisition import RemainingGain
from autotune.tuning.search.scalarization import scalarized

INTERRUPTED = "interrupted"
"""Attribute of a trial that ended with its session: nothing is known of its config, which is no failure."""
_CHOSEN = "feasible:config"
_FAILED = (TrialState.FAIL, TrialState.PRUNED)

Sources = Sequence[Sequence[tuple[Mapping[str, Scalar], float]]]
"""Configs and their times (inf: failed) on other problems or devices, one list per source."""


class FeasibleSetSampler(BaseSampler):
    """Suggests only members of `configs`, none twice until all are used up, then the best again.

    Subclasses choose by `next_position`. Resumes from whatever trials the study holds.
    """

    def __init__(
        self, configs: Sequence[Mapping[str, Scalar]], *, seed: int = 0, priors: Sequence[Sequence[float]] = ()
    ) -> None:
        """`priors` are positive predicted times of all configs, one list per source; a sampler may ignore them.

        Raises ValueError for no configs, for configs of unlike parameters, and for priors that do not fit them.
        """
        if not configs:
            raise ValueError("configs must hold at least one config")
        self._names = sorted(configs[0])
        if any(sorted(config) != self._names for config in configs):
            raise ValueError(f"every config must have the parameters {', '.join(self._names)}")
        if any(len(prior) != len(configs) or not all(time > 0 for time in prior) for prior in priors):
            raise ValueError(f"a prior is one positive predicted time for each of the {len(configs)} configs")
        self.configs = [dict(config) for config in configs]
        self._position = {self._key(config): index for index, config in enumerate(self.configs)}

    @abstractmethod
    def next_position(self, observed: Mapping[int, float], pending: Sequence[int]) -> int | None:
        """Return the position of the config to try next, None when all were tried.

        `observed` maps positions to costs (inf: failed), to be minimized, in the order told; `pending` are running.
        """

    def transfer(self, sources: Sequence[Mapping[int, float]]) -> None:
        """Use costs at these positions on other problems or devices; a sampler that cannot ignores them."""

    def remaining(self, observed: Mapping[int, float], share: float) -> RemainingGain | None:
        """Return what more trials can gain, or None for a sampler that cannot tell."""
        return None

    def transfer_from(self, sources: Sources) -> None:
        """Use observations of other problems or devices; replaces earlier ones. Configs outside of the set are
        left out."""
        same_names = [
            [(config, time) for config, time in source if sorted(config) == self._names] for source in sources
        ]
        found = [{self._position.get(self._key(config)): time for config, time in source} for source in same_names]
        self.transfer([{at: time for at, time in source.items() if at is not None} for source in found])

    def remaining_gain(self, study: Study, share: float) -> RemainingGain | None:
        """Return the expected gain of one more trial and the chance of one above `share`, None if unknown.

        Raises ValueError for a study of several objectives, which have no single best.
        """
        if len(study.directions) > 1:
            raise ValueError("the remaining gain is defined for one objective, and this study has several")
        return self.remaining(self._history(study, None)[0], share)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}  # any distribution that holds the value will do: an objective may list values in another order

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if "fixed_params" in trial.system_attrs:
            return {}  # enqueued by hand
        observed, pending = self._history(study, trial)
        index = self.next_position(observed, pending)
        if index is None:
            index = min(observed, key=observed.__getitem__, default=0)
        study._storage.set_trial_system_attr(trial._trial_id, _CHOSEN, index)
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - Optuna's own signature
        if param_name not in self._names or _CHOSEN not in trial.system_attrs:
            raise ValueError(f"no config chosen holds a parameter {param_name!r}; they hold {', '.join(self._names)}")
        value = self.configs[trial.system_attrs[_CHOSEN]][param_name]
        if not param_distribution._contains(param_distribution.to_internal_repr(value)):
            raise ValueError(f"{param_name}={value!r} of a config lies outside of {param_distribution}")
        return value

    def _history(self, study: Study, trial: FrozenTrial | None) -> tuple[dict[int, float], list[int]]:
        """Return costs by position in the order told, and the positions that are running."""
        told: dict[int, list[float] | None] = {}  # None: failed
        running: list[int] = []
        for past in study.get_trials(deepcopy=False):
            index = self._index(past)
            if index is None or INTERRUPTED in past.user_attrs or (trial is not None and past.number == trial.number):
                continue
            if past.state == TrialState.COMPLETE:
                told[index] = past.values
            elif past.state in _FAILED:
                told.setdefault(index, None)
            else:
                running.append(index)
        costs = [
            _costs({i: values[at] if values else None for i, values in told.items()}, way == StudyDirection.MAXIMIZE)
            for at, way in enumerate(study.directions)
        ]
        pending = [index for index in dict.fromkeys(running) if index not in told]
        return costs[0] if len(costs) == 1 else scalarized(costs, len(told) + len(pending)), pending

    def _index(self, trial: FrozenTrial) -> int | None:
        if trial.params.keys() >= set(self._names):
            return self._position.get(self._key(trial.params))
        chosen: int | None = trial.system_attrs.get(_CHOSEN)
        return chosen if trial.state == TrialState.RUNNING else None

    def _key(self, params: Mapping[str, Scalar]) -> tuple[Scalar, ...]:
        return tuple(params[name] for name in self._names)


def _costs(values: dict[int, float | None], maximize: bool) -> dict[int, float]:
    """Return costs to be minimized: times as they are, rates as reciprocals (0: failed), other values negated."""
    any_negative = min((value for value in values.values() if value is not None), default=0) < 0

    def cost(value: float | None) -> float:
        if value is None:
            return math.inf
        if not maximize:
            return value
        return -value if any_negative else 1 / value if value else math.inf

    return {index: cost(value) for index, value in values.items()}
