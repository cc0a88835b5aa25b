"""Transfer between problems of one kernel that are searched side by side, such as m=64 and m=128."""

from __future__ import annotations

import math
from collections.abc import Mapping

from autotune.config import Problem, Scalar, values
from autotune.tuning.search.study import Search

_SOURCES = 2
_OTHER_VALUE_DISTANCE = 8.0
"""Distance between two formats or flags, in doublings of a size."""


def transfer_between(searches: Mapping[Problem, Search]) -> None:
    """Let each search use the observations of the two problems nearest to its own, as they grow."""
    for problem, search in searches.items():
        others = sorted((other for other in searches if other != problem), key=lambda other: distance(problem, other))
        search.transfer(*(searches[other].outcomes for other in others[:_SOURCES]))


def distance(first: Problem, second: Problem) -> float:
    """Return the doublings between the sizes of two problems of one kernel, summed over its fields."""
    return sum(map(_field_distance, values(first), values(second)))


def _field_distance(first: Scalar, second: Scalar) -> float:
    if first == second:
        return 0.0
    if isinstance(first, str | bool) or isinstance(second, str | bool):
        return _OTHER_VALUE_DISTANCE
    return abs(math.log2((1 + first) / (1 + second)))
