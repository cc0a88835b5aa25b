"""Trains the shipped prior on shipped winners and writes `autotune/tuning/cost_model/prior.json`.

pip install scikit-learn
python -m tools.train_prior --data FOLDER [--out prior.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autotune import device as devices
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model import prior
from tools import shipped_winners_data as winners
from tools.data import required

NEGATIVES = 24
FITS = 3
"""Fits whose mean is the prior, each with losers of its own: in cross-validation by shape, mean log2 rank of the
winner 1.87 -> 1.82."""
_LOWERS = ("behind", "place")
"""Features in which scores may only fall, so that no config gains by being modeled slower: with them, and with features
drawn anew for every split, 1.91 -> 1.87."""


def rows_of(winner: winners.Winner) -> Floats:
    """Features of the whole space of a winner's problem, in the space's order."""
    calls, predictions = winner.predicted()
    return prior.features(calls, devices.named(winner.device), predictions)


def train(
    chosen: Sequence[winners.Winner], rows: dict[Any, Floats], names: Sequence[str], seed: int = 0
) -> prior.Prior:
    """Gradient-boosted trees telling winners from random losers of their own spaces, by the features `names`: as the
    artefact is made, where `seed` is 0."""
    return prior.from_trees(_trees(chosen, rows, names, seed), {})


def _trees(
    chosen: Sequence[winners.Winner], rows: dict[Any, Floats], names: Sequence[str], seed: int
) -> list[list[list[float]]]:
    fits = range(FITS * seed, FITS * (seed + 1))
    return [tree for fit in fits for tree in _fit(chosen, rows, names, fit)]


def _fit(
    chosen: Sequence[winners.Winner], rows: dict[Any, Floats], names: Sequence[str], seed: int
) -> list[list[list[float]]]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rng = np.random.default_rng(seed)
    columns = [prior.FEATURES.index(name) for name in names]
    samples, labels = [], []
    for winner in chosen:
        space = rows[winner.searched][:, columns]
        won = winner.space.index(winner.config)
        lost = rng.choice(np.delete(np.arange(len(space)), won), min(NEGATIVES, len(space) - 1), replace=False)
        samples += [space[won : won + 1], space[lost]]
        labels += [np.ones(1), np.zeros(len(lost))]
    model = HistGradientBoostingClassifier(
        max_iter=200,
        max_leaf_nodes=31,
        max_features=0.4,
        monotonic_cst=[-1 if name in _LOWERS else 0 for name in names],
        learning_rate=0.08,
        l2_regularization=1.0,
        min_samples_leaf=20,
        early_stopping=False,
        random_state=seed,
    )
    model.fit(np.concatenate(samples), np.concatenate(labels))
    return [_nodes(predictors[0].nodes, columns) for predictors in model._predictors]


def _nodes(nodes: Any, columns: Sequence[int]) -> list[list[float]]:  # noqa: ANN401 - a structured array
    return [
        [0, 0.0, i, i, round(float(n["value"]) / FITS, 5)]
        if n["is_leaf"]
        else [columns[n["feature_idx"]], float(f"{n['num_threshold']:.7g}"), int(n["left"]), int(n["right"]), 0.0]
        for i, n in enumerate(nodes)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=prior.PATH)
    arguments = parser.parse_args()
    path = required(arguments.data, "vllm_sglang_best.csv.xz")
    chosen, left_out = winners.load(arguments.data)
    rows = {winner.searched: rows_of(winner) for winner in chosen}
    trained_on = {
        "data": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "source": "best configs that vLLM and SGLang ship (Apache-2.0), block-scaled FP8 GEMM and fused MoE",
        "winners": dict(
            sorted(Counter(f"{winner.family} {winner.dtype} {winner.device}" for winner in chosen).items())
        ),
        "left_out": left_out,
    }
    trees = _trees(chosen, rows, prior.FEATURES, 0)
    data = {"version": prior.VERSION, "features": prior.FEATURES, "trained_on": trained_on, "trees": trees}
    arguments.out.write_text(json.dumps(data, separators=(",", ":")) + "\n")
    print(f"{arguments.out}: {len(chosen)} winners, {len(trees)} trees, {arguments.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
