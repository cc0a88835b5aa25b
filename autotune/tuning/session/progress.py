"""Where a session stands while it runs, and what it counted in the end."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from autotune.config import Config, Key
from autotune.table import Row
from autotune.tuning.search.study import Outcomes
from autotune.tuning.session.baseline import LibraryComparison


@dataclass
class Summary:
    """Counts of one session; `speedup` is default / best, geometric mean over calls of a step, as `tier` says."""

    kernel: str
    device: str
    table: Path
    problems: int = 0
    considered: int = 0
    rejected: int = 0
    feasible: int = 0
    trials: int = 0
    compiled: int = 0
    from_cache: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each (stage or kind, words) was the end of a config."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by stage of this session; what earlier ones spent on trials that it resumed is not in it."""
    compile_cpu_s: float = 0.0
    """CPU seconds of all compile workers and their assemblers."""
    gpu_s: float = 0.0
    """In which a GPU checked and timed configs, summed over GPUs."""
    up_to_date: int = 0
    """Problems that were not searched: their rows are the result of the same search."""
    changed: Counter[str] = field(default_factory=Counter)
    """By term, problems that were searched since their rows were found under others."""
    codes: set[str] = field(default_factory=set)
    """Hashes of the machine code that was tried."""
    validated: int = 0
    rows: int = 0
    configs: int = 0
    """Distinct configs of the rows."""
    over_best: float | None = None
    """Time of a portfolio's rows over the best times, geometric mean over the rows."""
    speedup: float = 1.0
    tier: str = "modeled"
    compared: list[LibraryComparison] = field(default_factory=list)
    """Default, tuned, library and roofline time of each measured row."""
    mode: str = "search"
    """`exhaustive`: all feasible configs were to be tried; `listed`: those of a file, the default and the incumbent."""
    price: float | None = None
    """Speed of a deterministic session relative to the free choice, as `speedup`."""

    def count_trials(self, searched: Sequence[Outcomes]) -> None:
        """Add the trials of some searches."""
        outcomes = [outcome for search in searched for outcome in search.values()]
        self.trials += len(outcomes)
        self.codes |= {outcome["code"] for outcome in outcomes if "code" in outcome}
        self.reasons += reasons(searched)
        self.failed = dict(Counter(self.failed) + Counter(failures(searched)))

    def count_rows(self, rows: Sequence[Row], weights: Mapping[Key, int]) -> None:
        """Describe the session's rows; `weights` are launches a step by problem."""
        gains = ("modeled_speedup_over_default", "speedup_over_default")
        self.rows, self.configs = len(rows), len({row.config for row in rows})
        self.compared = [library for row in rows if (library := LibraryComparison.of(row)) is not None]
        over_best = [(row.evidence["over_best"], 1) for row in rows if "over_best" in row.evidence]
        self.over_best = geometric_mean(over_best) if over_best else None
        self.speedup = geometric_mean(
            (row.evidence[gain], weights[row.problem]) for row in rows for gain in gains if gain in row.evidence
        )


@dataclass(frozen=True)
class Reason:
    """Failures whose words differ in nothing but numbers; `words` are those of the most frequent."""

    kind: str
    words: str
    count: int


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
    """Return the weighted geometric mean of (value, weight) pairs; 1 for none."""
    logs = [(weight * math.log(value), weight) for value, weight in weighted]
    return math.exp(sum(log for log, _ in logs) / sum(weight for _, weight in logs)) if logs else 1.0


def searching(searches: Iterable[tuple[Config, Outcomes]], of: int) -> Status:
    """Summarize searches, each with its default config, that will try `of` configs in all."""
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


def reasons(searches: Iterable[Outcomes]) -> Counter[tuple[str, str]]:
    """How often each (stage or kind, words) was the end of a trial."""
    failed = (outcome for outcomes in searches for outcome in outcomes.values() if "failed" in outcome)
    return Counter((outcome.get("kind") or outcome["failed"], outcome.get("reason", "")) for outcome in failed)


def grouped(found: Counter[tuple[str, str]]) -> list[Reason]:
    """Most frequent first; registers, sizes and line numbers do not keep like reasons apart."""
    groups: dict[tuple[str, str], Reason] = {}
    for (kind, words), count in found.most_common():
        alike = kind, re.sub(r"\d+", "0", words)
        first = groups.get(alike, Reason(kind, words, 0))
        groups[alike] = replace(first, count=first.count + count)
    return sorted(groups.values(), key=lambda reason: -reason.count)
