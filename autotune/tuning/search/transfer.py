"""Problems of one kernel that are searched side by side teach each other: an M of 64 an M of 128."""

from __future__ import annotations

import math
from collections.abc import Mapping

from autotune.config import Problem, Scalar, values
from autotune.tuning.search.study import Search

_TEACHERS = 2
_OTHER_KIND = 8.0
"""How far apart two formats or flags are, in doublings of a size."""


def share(searches: Mapping[Problem, Search]) -> None:
    """Each search learns from those of the problems nearest to its own, as they go on."""
    for problem, search in searches.items():
        others = sorted((other for other in searches if other != problem), key=lambda other: distance(problem, other))
        search.learn_from(*(searches[other].outcomes for other in others[:_TEACHERS]))


def distance(one: Problem, other: Problem) -> float:
    """Doublings between the sizes of two problems of one kernel, summed over its fields."""
    return sum(map(_apart, values(one), values(other)))


def _apart(one: Scalar, other: Scalar) -> float:
    if one == other:
        return 0.0
    if isinstance(one, str | bool) or isinstance(other, str | bool):
        return _OTHER_KIND
    return abs(math.log2((1 + one) / (1 + other)))
