"""The community's prior, taught further by what was measured here: a few trees more, behind those that it has.

Boosting goes on where the packaged trees end, so that a handful of one's own winners corrects them and does not
replace them, and no public data are needed again. Where those are surer of something than any handful could correct,
all of them are toned down first, in one proportion: their order stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.errors import UsageError
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model import prior

LOSERS = 24
"""Beside each winner, as the packaged prior was trained."""
_TREES = 80
_SUREST = 4.0
"""Log odds of the packaged trees: a boosting step against odds p is up to 0.1 / p long, 5.5 here, 10,000 at -11.5."""
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


def taught(lessons: Sequence[Lesson], seed: int = 0) -> tuple[float, list[list[_NODE]]]:
    """What the packaged trees are to be toned down by, and trees to be added to them. The same lessons give the same.
    Raises UsageError without scikit-learn."""
    try:
        from sklearn.ensemble import GradientBoostingClassifier
    except ImportError as error:
        raise UsageError("learning needs scikit-learn: pip install 'deepseek-autotune[learn]'") from error
    rng = np.random.default_rng(seed)
    drawn = [_sample(lesson, rng) for lesson in lessons]
    rows = np.concatenate([rows for rows, _ in drawn])
    tone = min(1.0, _SUREST / float(np.abs(prior.load(prior.PATH).score(rows)).max()))
    model = GradientBoostingClassifier(
        init=_Packaged(tone), n_estimators=_TREES, max_depth=4, learning_rate=0.1, min_samples_leaf=2, random_state=seed
    )
    model.fit(rows, np.concatenate([labels for _, labels in drawn]))
    return tone, [_nodes(one.tree_, model.learning_rate) for one in model.estimators_[:, 0]]


def written(lessons: Mapping[str, Sequence[Lesson]]) -> str:
    """The artefact: the packaged one with trees added. `lessons` by what they are of, such as `KERNEL DEVICE`."""
    data = json.loads(prior.PATH.read_text())
    data["trained_on"]["own"] = {name: len(some) for name, some in sorted(lessons.items())}
    tone, trees = taught([lesson for _, some in sorted(lessons.items()) for lesson in some])
    toned = [[[*node[:4], round(tone * node[4], 5)] for node in tree] for tree in data["trees"]]
    data["trees"] = [*toned, *trees]
    return json.dumps(data, separators=(",", ":")) + "\n"


def _sample(lesson: Lesson, rng: np.random.Generator) -> tuple[Floats, NDArray[np.bool_]]:
    most = LOSERS * len(lesson.won)
    lost = rng.permutation(np.array(lesson.lost, int))[:most]
    untried = np.setdiff1d(np.arange(len(lesson.rows)), [*lesson.won, *lesson.lost, *lesson.unclear])
    more = rng.choice(untried, min(most - len(lost), len(untried)), replace=False)
    rows = lesson.rows[np.concatenate([lesson.won, lost, more]).astype(int)]
    return rows, np.arange(len(rows)) < len(lesson.won)


class _Packaged:
    """The packaged prior, toned down, as what boosting begins with, in the form that scikit-learn asks for."""

    def __init__(self, tone: float) -> None:
        self.tone = tone

    def fit(self, rows: Floats, labels: Floats, sample_weight: Floats | None = None) -> _Packaged:
        self.classes_ = np.array([False, True])
        return self

    def predict_proba(self, rows: Floats) -> Floats:
        won = 1 / (1 + np.exp(-self.tone * prior.load(prior.PATH).score(rows)))
        return np.stack([1 - won, won], 1)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"tone": self.tone}


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
