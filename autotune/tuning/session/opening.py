"""The configs that a search may try on a problem, and their order: from the space, all of it, or a list."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune.config import Config, Problem
from autotune.tuning import space
from autotune.tuning.cost_model.prior import predicted_times
from autotune.tuning.search.stopping import Budget
from autotune.tuning.search.study import Search
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.progress import Summary
from autotune.tuning.session.stopwatch import Stopwatch
from autotune.tuning.space import Space


@dataclass(frozen=True)
class Opener:
    subject: Subject
    space: Space
    believed: Path
    """The prior."""
    stopwatch: Stopwatch
    budget: Budget
    exhaustive: bool = False
    """Every feasible config is tried, those that the model prefers first."""
    listed: tuple[Config, ...] | None = None
    """Only these, the default and the incumbent are tried."""

    @property
    def mode(self) -> str:
        return "search" if not self.tries_all else "exhaustive" if self.listed is None else "listed"

    @property
    def tries_all(self) -> bool:
        """True if the number of configs, not the budget's trials, ends the search."""
        return self.exhaustive or self.listed is not None

    @property
    def digest(self) -> str:
        """Keeps studies of different lists apart: what is listed is all that may win there. Empty without a list."""
        if self.listed is None:
            return ""
        return hashlib.sha256("\n".join(map(str, self.listed)).encode()).hexdigest()[:8]

    def fill(
        self, search: Search, problem: Problem, incumbent: Config | None, allowed: Callable[[Config], bool]
    ) -> None:
        """Tells `search` what it may try; `allowed` narrows the space further."""
        kernel, device = self.subject.kernel, self.subject.device
        with self.stopwatch.stage("reject"):
            feasible = [c for c in space.feasible(self.space, kernel, problem, device) if allowed(c)]
        # An imported winner may lie outside our space: its nearest neighbour inside is tried for it.
        first = [kernel.default(problem, device), *([space.nearest(feasible, incumbent)] if incumbent else [])]
        if self.listed is not None:
            possible = set(feasible)
            search.try_all([config for config in dict.fromkeys([*first, *self.listed]) if config in possible])
            return
        with self.stopwatch.stage("predict"):
            views = predicted_times(kernel, problem, feasible, device, self.believed)
        if self.exhaustive:
            possible = set(feasible)
            search.try_all([*(c for c in first if c in possible), *_sorted_by(feasible, views[0])])
            return
        search.set_feasible(feasible, views)
        search.enqueue(first)

    def left(self, search: Search) -> int:
        """Trials still to be asked."""
        if self.tries_all:
            return 0 if self.budget.out_of_time() else sys.maxsize

        def chance(share: float) -> float:
            remaining = search.remaining_gain(share)
            return remaining.chance if remaining else 1.0

        return self.budget.left(len(search.outcomes), chance)

    def planned(self, search: Search) -> int:
        """Trials in all when the search ends, unless time is out before."""
        feasible = search.feasible_count or 0
        return feasible if self.tries_all else min(self.budget.trials, feasible)

    def introduce(self, summary: Summary, problem: Problem, feasible: int) -> None:
        """Counts what was looked at for one more problem."""
        refused = self._refused(problem)
        rejected = self.space.size - feasible if self.listed is None else refused.total()
        summary.problems += 1
        summary.feasible += feasible
        summary.considered += feasible + rejected
        summary.rejected += rejected
        summary.reasons += refused

    def _refused(self, problem: Problem) -> Counter[tuple[str, str]]:
        """Listed configs that the kernel's rules refuse on this problem: how often each (`reject`, words)."""
        kernel, device = self.subject.kernel, self.subject.device
        words = (kernel.reject(problem, config, device) for config in self.listed or ())
        return Counter(("reject", refusal) for refusal in words if refusal)


def _sorted_by(configs: Sequence[Config], us: Sequence[float]) -> list[Config]:
    return [configs[at] for at in sorted(range(len(configs)), key=us.__getitem__)]
