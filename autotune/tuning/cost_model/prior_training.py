"""Further training of the packaged prior on measurements of this machine.

Boosting continues after the packaged trees, so that a few measured problems correct them without replacing them, and
no public data are needed. If the packaged trees are too confident to be corrected by few samples, all their outputs
are first scaled by one factor; the ranking is unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune import packages
from autotune.errors import UsageError
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model import prior

LOSERS = 24
"""Slow configs per fast one, as in the training of the packaged prior."""
_TREES = 80
_MAX_CONFIDENCE = 4.0
"""Largest log odds of the packaged trees after scaling. A boosting step against odds p is up to 0.1 / p long: 5.5 at
this limit, 10,000 at log odds of -11.5."""
_NODE = tuple[int, float, int, int, float]


@dataclass(frozen=True)
class MeasuredProblem:
    """One measured problem: its space as `prior.features`, and positions of configs in it."""

    rows: Floats
    won: tuple[int, ...]
    """The fastest config, and those that noise cannot tell from it."""
    lost: tuple[int, ...]
    """Clearly slower configs; where they are few, untried ones count as slow too."""
    unclear: tuple[int, ...] = ()


def trained(problems: Sequence[MeasuredProblem], seed: int = 0) -> tuple[float, list[list[_NODE]]]:
    """Return the factor on the packaged trees, and the trees to add. Deterministic.

    Raises UsageError without scikit-learn.
    """
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise UsageError(f"learning needs scikit-learn: {packages.remedy('learn')}") from error
    rng = np.random.default_rng(seed)
    drawn = [_sample(problem, rng) for problem in problems]
    rows = np.concatenate([rows for rows, _ in drawn])
    scale = min(1.0, _MAX_CONFIDENCE / float(np.abs(prior.load(prior.PATH).score(rows)).max()))
    model = GradientBoostingClassifier(
        init=_Packaged(scale),
        n_estimators=_TREES,
        max_depth=4,
        learning_rate=0.1,
        min_samples_leaf=2,
        random_state=seed,
    )
    model.fit(rows, np.concatenate([labels for _, labels in drawn]))
    return scale, [_nodes(estimator.tree_, model.learning_rate) for estimator in model.estimators_[:, 0]]


def written(problems: Mapping[str, Sequence[MeasuredProblem]]) -> str:
    """Return the text of the learned prior: the packaged one with trees added. `problems` by `KERNEL DEVICE`."""
    data = json.loads(prior.PATH.read_text())
    data["trained_on"]["own"] = {name: len(some) for name, some in sorted(problems.items())}
    scale, trees = trained([problem for _, some in sorted(problems.items()) for problem in some])
    rescaled = [[[*node[:4], round(scale * node[4], 5)] for node in tree] for tree in data["trees"]]
    data["trees"] = [*rescaled, *trees]
    return json.dumps(data, separators=(",", ":")) + "\n"


def _sample(problem: MeasuredProblem, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    most = LOSERS * len(problem.won)
    lost = rng.permutation(np.array(problem.lost, int))[:most]
    untried = np.setdiff1d(np.arange(len(problem.rows)), [*problem.won, *problem.lost, *problem.unclear])
    more = rng.choice(untried, min(most - len(lost), len(untried)), replace=False)
    rows = problem.rows[np.concatenate([problem.won, lost, more]).astype(int)]
    return rows, np.arange(len(rows)) < len(problem.won)


class _Packaged:
    """The packaged prior, scaled, as scikit-learn's initial estimator for boosting."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def fit(self, rows: Floats, labels: Floats, sample_weight: Floats | None = None) -> _Packaged:
        self.classes_ = np.array([False, True])
        return self

    def predict_proba(self, rows: Floats) -> Floats:
        won = 1 / (1 + np.exp(-self.scale * prior.load(prior.PATH).score(rows)))
        return np.stack([1 - won, won], 1)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"scale": self.scale}


def _nodes(tree: Any, rate: float) -> list[_NODE]:  # noqa: ANN401 - scikit-learn's
    leaf: NDArray[np.bool_] = tree.children_left < 0
    return [
        (0, 0.0, at, at, round(rate * float(tree.value[at, 0, 0]), 5))
        if leaf[at]
        else (
            int(tree.feature[at]),
            float(f"{tree.threshold[at]:.7g}"),
            int(tree.children_left[at]),
            int(tree.children_right[at]),
            0.0,
        )
        for at in range(tree.node_count)
    ]
