"""The community's prior, taught further by what was measured here: a few trees more, behind those that it has.

Boosting goes on where the packaged trees end, so that a handful of one's own winners corrects them and does not
replace them, and no public data are needed again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.errors import UsageError
from autotune.tuning.prediction import prior
from autotune.tuning.search.encoding import Floats

LOSERS = 24
"""Beside each winner, as the packaged prior was trained."""
_TREES = 80
_NODE = tuple[int, float, int, int, float]


@dataclass(frozen=True)
class Lesson:
    """One measured problem: its space as `prior.features`, and the places of configs in it."""

    rows: Floats
    won: tuple[int, ...]
    """The fastest, and what noise cannot tell from it."""
    lost: tuple[int, ...]
    """Clearly slower; where they are few, configs that nobody tried are taken for losers too."""
    unclear: tuple[int, ...] = ()


def taught(lessons: Sequence[Lesson], seed: int = 0) -> list[list[_NODE]]:
    """Trees to be added to the packaged ones. The same lessons give the same trees. Raises UsageError without
    scikit-learn."""
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise UsageError("learning needs scikit-learn: pip install 'deepseek-autotune[learn]'") from error
    rng = np.random.default_rng(seed)
    drawn = [_sample(lesson, rng) for lesson in lessons]
    model = GradientBoostingClassifier(
        init=_Packaged(), n_estimators=_TREES, max_depth=4, learning_rate=0.1, min_samples_leaf=2, random_state=seed
    )
    rows = np.concatenate([rows for rows, _ in drawn])
    model.fit(rows, np.concatenate([labels for _, labels in drawn]))
    return [_nodes(one.tree_, model.learning_rate) for one in model.estimators_[:, 0]]


def written(lessons: Mapping[str, Sequence[Lesson]]) -> str:
    """The artefact: the packaged one with trees added. `lessons` by what they are of, such as `KERNEL DEVICE`."""
    data = json.loads(prior.PATH.read_text())
    data["trained_on"]["own"] = {name: len(some) for name, some in sorted(lessons.items())}
    data["trees"] += taught([lesson for _, some in sorted(lessons.items()) for lesson in some])
    return json.dumps(data, separators=(",", ":")) + "\n"


def _sample(lesson: Lesson, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    most = LOSERS * len(lesson.won)
    lost = rng.permutation(np.array(lesson.lost, int))[:most]
    untried = np.setdiff1d(np.arange(len(lesson.rows)), [*lesson.won, *lesson.lost, *lesson.unclear])
    more = rng.choice(untried, min(most - len(lost), len(untried)), replace=False)
    rows = lesson.rows[np.concatenate([lesson.won, lost, more]).astype(int)]
    return rows, np.arange(len(rows)) < len(lesson.won)


class _Packaged:
    """The packaged prior as what boosting begins with, in the form that scikit-learn asks for."""

    def fit(self, rows: Floats, labels: Floats, sample_weight: Floats | None = None) -> _Packaged:
        self.classes_ = np.array([False, True])
        return self

    def predict_proba(self, rows: Floats) -> Floats:
        won = 1 / (1 + np.exp(-prior.load(prior.PATH).score(rows)))
        return np.stack([1 - won, won], 1)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {}


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
