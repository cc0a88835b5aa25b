"""Presets of `autotune tune --effort`: how long a problem is searched."""

from __future__ import annotations

from typing import NamedTuple

from autotune.tuning.search.stopping import Budget


class Effort(NamedTuple):
    """`trials` a problem at most; the search ends earlier where a further gain above `until_gain` percent is
    unlikely."""

    trials: int
    until_gain: float | None


EFFORTS = {"quick": Effort(Budget.trials, None), "normal": Effort(50, 1.0), "thorough": Effort(200, 0.2)}
"""On recorded spaces the best of 50 trials reached .951 of the optimum from a random first config, the best of 200
.999 (docs/experiments.md)."""


def effort_help() -> str:
    """Describe the presets for `--help`."""
    told = [f"{name}: {trials} trials a problem{_end(gain)}" for name, (trials, gain) in EFFORTS.items()]
    return f"{'; '.join(told)} (default: quick); --trials and --until-gain go before it"


def _end(gain: float | None) -> str:
    return "" if gain is None else f" or --until-gain {gain:g}"
