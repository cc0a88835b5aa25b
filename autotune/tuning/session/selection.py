"""Who wins a problem: by a race on the bench, or by the model where there is none. Ties keep the incumbent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from autotune.config import Config, Problem, Scalar, describe
from autotune.errors import MachineError
from autotune.tuning.measurement.race import RaceResult, race
from autotune.tuning.search.study import Outcomes
from autotune.tuning.session.evaluator import Measurer
from autotune.tuning.session.portfolio import portfolio

TIE = 0.02
"""Modeled gains under 2 % are no gains: the incumbent stays."""
_FINALISTS = 3
"""Raced beside the incumbent and the default."""


@dataclass(frozen=True)
class Searched:
    """One problem after its search: what its trials gave, and what it is measured against."""

    problem: Problem
    outcomes: Outcomes = field(hash=False)
    default: Config
    incumbent: Config | None
    weight: int
    others: Outcomes = field(default_factory=dict, hash=False)
    """Trials that cannot win; used only for the default config's time."""
    shared: int = 0
    """Outcomes that came with other problems' trials."""

    @property
    def default_us(self) -> float | None:
        us: float | None = {**self.others, **self.outcomes}.get(self.default, {}).get("us")
        return us

    @property
    def trials(self) -> int:
        return len(self.outcomes) - self.shared

    @property
    def good(self) -> list[Config]:
        """Best first."""
        times = {config: found["us"] for config, found in self.outcomes.items() if "us" in found}
        return sorted(times, key=lambda config: (times[config], str(config)))

    @property
    def stays(self) -> Config | None:
        """Config that a winner has to beat: the incumbent, else the default if it works."""
        good = self.good
        return next((config for config in (self.incumbent, self.default) if config in good), None)


@dataclass(frozen=True)
class Won:
    """`verdict` where it was raced on a bench."""

    config: Config
    verdict: RaceResult | None = None
    entries: tuple[Config, ...] = ()


def by_model(search: Searched, without: Set[Config]) -> Won | None:
    """Best by the model; the incumbent (else the default) goes before whatever does not beat it clearly."""
    order = [config for config in search.good if config not in without]
    stays = search.stays
    if stays in order and search.outcomes[order[0]]["us"] > search.outcomes[stays]["us"] * (1 - TIE):
        return Won(stays)
    return Won(order[0]) if order else None


@dataclass
class ByPortfolio:
    """Choice by the model among few configs, each problem within `share` of its best."""

    share: float
    searched: Sequence[Searched]

    def __call__(self, wrong: Mapping[Problem, Set[Config]]) -> dict[Problem, Won]:
        """Choose for all problems at once, without the configs that were wrong on each."""
        times = {
            search.problem: {
                config: search.outcomes[config]["us"] for config in search.good if config not in wrong[search.problem]
            }
            for search in self.searched
        }
        preferred = {search.stays for search in self.searched if search.stays is not None}
        return {problem: Won(config) for problem, config in portfolio(times, self.share, preferred).items()}


@dataclass
class ByRace:
    measurer: Measurer

    def __call__(self, search: Searched, without: Set[Config]) -> Won | None:
        """Races the best of the search with the incumbent and the default on the bench."""
        usable = [c for c in search.good if c not in without and "same_as" not in search.outcomes[c]]
        first = [config for config in (search.stays, search.default) if config is not None and config in search.good]
        entries = list(dict.fromkeys([*(c for c in first if c not in without), *usable[:_FINALISTS]]))
        while entries:
            verdict = self._race(search.problem, entries)
            if verdict is not None:
                return Won(entries[verdict.winner], verdict, tuple(entries))
            # Something fell over that had passed alone: whatever does so again is out, else the race is called off.
            alive = [c for c in entries if self.measurer.together(search.problem, [c], 2) is not None]
            if not alive and len(entries) > 1:
                raise MachineError(
                    f"{describe(search.problem)}: {len(entries)} configs ran alone and none does now; see `autotune "
                    "doctor`, then run the same command again"
                )
            entries = alive if len(alive) < len(entries) else entries[:1]
        return None

    def _race(self, problem: Problem, entries: Sequence[Config]) -> RaceResult | None:
        def ask(live: Sequence[int], passes: int) -> list[list[float]]:
            times = self.measurer.together(problem, [entries[i] for i in live], passes)
            if times is None:
                raise _FellOver
            return times

        try:
            return race(ask, len(entries))
        except _FellOver:
            return None


class _FellOver(Exception):
    pass


_MOST = 3


def finalists(search: Searched, winner: Config) -> list[dict[str, Scalar]]:
    """The next best configs, best first, each of other machine code than those before it and the winner."""
    best = {search.outcomes[winner]["code"]: winner} if winner in search.outcomes else {}
    for config in search.good:
        best.setdefault(search.outcomes[config]["code"], config)
    return [dict(config) for config in best.values() if config != winner][:_MOST]
