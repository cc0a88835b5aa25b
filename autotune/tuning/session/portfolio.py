"""A portfolio: few configs that keep every problem of a session within a given share of its best.

Fewer configs are proved in less time, compiled in less time by whoever serves them, and make smaller bundles.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from autotune.config import Config, Problem

Times = Mapping[Problem, Mapping[Config, float]]
"""Microseconds of the configs that each problem can take."""


def portfolio(times: Times, share: float, preferred: Collection[Config] = ()) -> dict[Problem, Config]:
    """Return a config for each problem, at most `share` slower than its best, out of few configs.

    Problems without a config are left out. The fewest configs that do are a minimum set cover, which nobody finds
    fast; the greedy choice here (most problems first) needs at most ln(problems) + 1 times as many (Chvatal 1979).
    Ties go to `preferred` configs, then to the smaller total of times over best.
    """
    over_best = {problem: _over_best(configs) for problem, configs in times.items() if configs}
    chosen: list[Config] = []
    uncovered = dict.fromkeys(over_best)
    while uncovered:
        covers: dict[Config, list[float]] = {}
        for problem in uncovered:
            for config, over in over_best[problem].items():
                if over <= 1 + share:
                    covers.setdefault(config, []).append(over)
        config = min(covers, key=lambda c: (-len(covers[c]), c not in preferred, sum(covers[c]), str(c)))
        chosen.append(config)
        uncovered = dict.fromkeys(p for p in uncovered if over_best[p].get(config, float("inf")) > 1 + share)
    return {problem: _best(over, chosen) for problem, over in over_best.items()}


def _over_best(configs: Mapping[Config, float]) -> dict[Config, float]:
    best = min(configs.values())
    return {config: us / best for config, us in configs.items()}


def _best(over: Mapping[Config, float], chosen: Collection[Config]) -> Config:
    return min((config for config in chosen if config in over), key=lambda config: (over[config], str(config)))
