"""Distances between results, and how far the roundings of an implementation's dtypes let it be from the exact model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from layer.taps import Exact, Rounded, Trace
from torch import Tensor

RUNS = 8


def relative(one: Tensor, other: Tensor) -> float:
    """Frobenius norm of the difference over that of `other`."""
    return ((one - other).norm() / other.norm()).item()


def furthest(forward: Callable[[Exact], Tensor], trace: Trace) -> float:
    """Largest relative distance from the exact result of `forward` that its dtypes explain.

    RUNS models with random roundings are right, and independent of each other; six of their standard deviations beyond
    their mean, ours is not one of them. (Monte Carlo arithmetic: Parker 1997.)
    """
    truth = forward(Exact(trace))
    distances = torch.tensor([relative(forward(Rounded(trace, seed)), truth) for seed in range(RUNS)])
    return (distances.mean() + 6 * distances.std()).item()
