"""Where a session stands while it runs, and what it counted in the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autotune.config import Config
from autotune.tuning.search.study import Outcomes
from autotune.tuning.session.baseline import Comparison


@dataclass
class Summary:
    """Counts of one session; `speedup` is default / best, geometric mean over calls of a step, as `tier` says."""

    kernel: str
    device: str
    table: Path
    problems: int = 0
    considered: int = 0
    rejected: int = 0
    trials: int = 0
    compiled: int = 0
    from_cache: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    distinct_codes: int = 0
    validated: int = 0
    rows: int = 0
    speedup: float = 1.0
    tier: str = "modeled"
    compared: list[Comparison] = field(default_factory=list)
    """Of the rows whose times were measured: default, tuned, library, roofline."""
    price: float | None = None
    """Of a deterministic session: time against the free choice, as `speedup`."""


@dataclass(frozen=True)
class Status:
    """Where a session stands; `speedup` is default / best so far, geometric mean over the problems that have both."""

    stage: str
    done: int
    of: int
    speedup: float = 1.0
    failed: Mapping[str, int] = field(default_factory=dict)


Progress = Callable[[Status], None]


def geometric_mean(weighted: Iterable[tuple[float, float]]) -> float:
    """Of (value, weight) pairs; 1 where there are none."""
    logs = [(weight * math.log(value), weight) for value, weight in weighted]
    return math.exp(sum(log for log, _ in logs) / sum(weight for _, weight in logs)) if logs else 1.0


def searching(searches: Iterable[tuple[Config, Outcomes]], of: int) -> Status:
    """Of searches, each with its default config, that will try `of` configs in all."""
    found = list(searches)
    gains = []
    for default, outcomes in found:
        us = outcomes.get(default, {}).get("us")
        if us is not None:
            gains.append((us / min(outcome["us"] for outcome in outcomes.values() if "us" in outcome), 1))
    done = sum(len(outcomes) for _, outcomes in found)
    return Status("search", done, max(done, of), geometric_mean(gains), failures(outcomes for _, outcomes in found))


def failures(searches: Iterable[Outcomes]) -> dict[str, int]:
    """By stage, and by kind where a bench names one."""
    failed = (outcome for outcomes in searches for outcome in outcomes.values() if "failed" in outcome)
    return dict(Counter(outcome.get("kind") or outcome["failed"] for outcome in failed))
