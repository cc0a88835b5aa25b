"""Configs compiled for one problem, modeled on the session's other problems that the same binary serves.

Most binaries do not depend on the number of rows, so the best configs of each problem can be candidates of all others
at no compile: the model answers at once. A bench has to run each config on each problem and takes no part in this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from autotune.config import Config, Problem
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.search.study import Outcomes
from autotune.tuning.session.evaluator import Evaluator

BEST = 4
"""Configs of each problem that are tried on the others."""


def shared_outcomes(
    searched: Mapping[Problem, Outcomes], allowed: Callable[[Problem, Config], bool], evaluator: Evaluator
) -> dict[Problem, dict[Config, dict[str, Any]]]:
    """Return for each problem the outcomes of other problems' best configs that it did not try itself.

    They follow from `searched` alone, never from what other sessions compiled, so that equal searches give equal rows.
    """
    compiler = evaluator.compiler
    binaries = {
        compiler.candidate(problem, config).binary: Resources.from_json(outcome["resources"])
        for problem, outcomes in searched.items()
        for config, outcome in outcomes.items()
        if "resources" in outcome
    }
    best = dict.fromkeys(config for outcomes in searched.values() for config in _fastest(outcomes))

    def outcomes_of(problem: Problem, configs: Iterable[Config]) -> dict[Config, dict[str, Any]]:
        candidates = (compiler.candidate(problem, config) for config in configs)
        return {
            candidate.config: evaluator.known(candidate, binaries[candidate.binary])
            for candidate in candidates
            if candidate.binary in binaries
        }

    return {
        problem: outcomes_of(problem, (c for c in best if c not in outcomes and allowed(problem, c)))
        for problem, outcomes in searched.items()
    }


def _fastest(outcomes: Outcomes) -> list[Config]:
    times = {config: outcome["us"] for config, outcome in outcomes.items() if "us" in outcome}
    return sorted(times, key=lambda config: (times[config], str(config)))[:BEST]
