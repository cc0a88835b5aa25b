"""How well the cost model's times agree with measured ones: rank correlation, regret, factor and spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from autotune.tuning.arrays import Floats

FIRST = (1, 4, 8)
"""How many of the model's first configs are tried where its regret is told."""
_FEWEST = 8
"""Configs of a problem below which their order says nothing of the model."""
_WITHIN = 0.8
"""Share of the times that lie within the spread."""


@dataclass(frozen=True)
class Timed:
    """Configs of one problem, each with its modeled and its measured microseconds, and the term that bounds it."""

    modeled_us: Floats
    us: Floats
    bounds: tuple[str, ...]


@dataclass(frozen=True)
class Ratio:
    """Measured over modeled time: the median, and the factor around it within which 80 % of the times lie."""

    times: int
    factor: float
    spread: float


@dataclass(frozen=True)
class Agreement:
    """The model against the times of some problems."""

    problems: int
    ratio: Ratio
    ranked: int
    """Problems with configs enough, whose means `rank` and `regret` are; 0: both are None."""
    rank: float | None
    """Spearman's correlation of modeled and measured times: 1 where the model orders configs as they are."""
    regret: tuple[float, ...] | None
    """For each of FIRST: the best measured among so many of the model's first over the best of all, less 1."""
    by_bound: tuple[tuple[str, Ratio], ...]
    """By the term that bounds a config as modeled, most frequent first."""


def agreement(problems: Sequence[Timed]) -> Agreement:
    """Judge the model by at least one problem, each with at least one time."""
    modeled_us = np.concatenate([problem.modeled_us for problem in problems])
    us = np.concatenate([problem.us for problem in problems])
    bounds = np.array([bound for problem in problems for bound in problem.bounds])
    names, counts = np.unique(bounds, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    ranked = [problem for problem in problems if len(problem.us) >= _FEWEST]
    return Agreement(
        problems=len(problems),
        ratio=_ratio(modeled_us, us),
        ranked=len(ranked),
        rank=float(np.mean([_rank(problem) for problem in ranked])) if ranked else None,
        regret=tuple(float(np.mean([_regret(problem, k) for problem in ranked])) for k in FIRST) if ranked else None,
        by_bound=tuple((str(names[i]), _ratio(modeled_us[bounds == names[i]], us[bounds == names[i]])) for i in order),
    )


def _ratio(modeled_us: Floats, us: Floats) -> Ratio:
    logs = np.log(us / modeled_us)
    middle = float(np.median(logs))
    return Ratio(len(us), float(np.exp(middle)), float(np.exp(np.quantile(np.abs(logs - middle), _WITHIN))))


def _rank(problem: Timed) -> float:
    """0 where the model, or the device, tells no config from another."""
    if np.ptp(problem.modeled_us) == 0 or np.ptp(problem.us) == 0:
        return 0.0
    return float(spearmanr(problem.modeled_us, problem.us).statistic)


def _regret(problem: Timed, first: int) -> float:
    order = np.argsort(problem.modeled_us, kind="stable")[:first]
    return float(problem.us[order].min() / problem.us.min() - 1)
