"""Scalarization of several objectives, with other weights at every trial, so that trials cover the Pareto front.

ParEGO's augmented Chebyshev norm (Knowles 2006, doi:10.1109/TEVC.2005.851274), which unlike a weighted sum also reaches
non-convex parts of the front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autotune.tuning.arrays import Floats

_SUM_WEIGHT = 0.05
"""Weight of the sum beside the worst objective, as published; it separates configs that tie in the worst."""


def scalarized(costs: Sequence[Mapping[int, float]], seed: int) -> dict[int, float]:
    """Return one positive cost per config, to be minimized, from its cost in each objective; inf where any is inf.

    Objectives that are positive throughout enter by their logarithm; each is scaled to [0, 1] over the successes.
    `seed` draws the weights.
    """
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(costs)))
    table = np.array([list(objective.values()) for objective in costs], float)
    good = np.isfinite(table).all(0)
    total = np.full(table.shape[1], math.inf)
    if good.any():
        scaled = np.stack([weight * _unit(row[good]) for weight, row in zip(weights, table, strict=True)])
        total[good] = np.exp(scaled.max(0) + _SUM_WEIGHT * scaled.sum(0))
    return dict(zip(costs[0], total.tolist(), strict=True))


def _unit(values: Floats) -> Floats:
    values = np.log(values) if values.min() > 0 else values
    low, high = values.min(), values.max()
    scaled: Floats = (values - low) / (high - low) if high > low else np.zeros(len(values))
    return scaled
