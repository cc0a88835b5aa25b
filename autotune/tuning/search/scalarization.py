"""Several objectives as one cost, another mixture at every trial, so that the trials find the whole Pareto front.

ParEGO's augmented Chebyshev norm (Knowles 2006, doi:10.1109/TEVC.2005.851274): unlike a weighted sum it reaches the
front also where that is not convex.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autotune.tuning.arrays import Floats

_TOGETHER = 0.05
"""Weight of the sum beside the worst objective, as published: it tells configs apart that are equal in the worst."""


def mixed(costs: Sequence[Mapping[int, float]], seed: int) -> dict[int, float]:
    """One positive cost a config, to be minimised, from those of each objective; inf where any of them is.

    Objectives that are positive throughout count by their logarithm; each is brought to [0, 1] over what succeeded.
    `seed` draws the weights.
    """
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(costs)))
    table = np.array([list(of_one.values()) for of_one in costs], float)
    good = np.isfinite(table).all(0)
    total = np.full(table.shape[1], math.inf)
    if good.any():
        scaled = np.stack([weight * _unit(row[good]) for weight, row in zip(weights, table, strict=True)])
        total[good] = np.exp(scaled.max(0) + _TOGETHER * scaled.sum(0))
    return dict(zip(costs[0], total.tolist(), strict=True))


def _unit(values: Floats) -> Floats:
    values = np.log(values) if values.min() > 0 else values
    low, high = values.min(), values.max()
    scaled: Floats = (values - low) / (high - low) if high > low else np.zeros(len(values))
    return scaled
