"""From finished searches to rows: who wins each problem, is it proved, and what does it serve."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from autotune.config import Config, Key, Problem, describe, key, resized
from autotune.device import Device
from autotune.errors import UsageError
from autotune.table import Row
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.measurement.bench import Timing
from autotune.tuning.measurement.race import GainInterval, RaceResult
from autotune.tuning.session.baseline import against_library
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.evaluator import Evaluator, Measurer
from autotune.tuning.session.intervals import Span, Times, spans
from autotune.tuning.session.prover import Claim, Proof, Prover
from autotune.tuning.session.selection import ByPortfolio, ByRace, Searched, Won, by_model, finalists
from autotune.tuning.validation.coverage import codes, tails

_PASSES = 16
"""Interleaved samples of each config where intervals are compared."""


def served(problem: Problem, device: Device) -> Problem:
    """The problem as the runtime will ask for it: it cannot see how inputs are drawn."""
    fields = {field.name: field.default for field in dataclasses.fields(problem)}
    drawn = {name: fields[name] for name in getattr(problem, "DRAWN", ()) if name != "dtype"}
    return dataclasses.replace(problem, **drawn) if drawn else problem


def check_distinct(problems: Mapping[Problem, int], device: Device) -> None:
    """Raises UsageError for two problems that the runtime cannot tell apart."""
    for seen, count in Counter(served(problem, device) for problem in problems).items():
        if count > 1:
            raise UsageError(
                f"{count} problems differ from {describe(seen)} only in how inputs are drawn, which no lookup can see; "
                f"tune them in separate sessions with --tables of their own"
            )


@dataclass
class Promotion:
    """Rows of one kernel on one device."""

    subject: Subject
    prover: Prover
    evaluator: Evaluator
    """Evaluates configs on sizes whose own search never tried them; owns the measurer used for races."""
    searched: Sequence[Searched]
    portfolio: float | None = None
    """Rows of few configs, at most so much slower than the best, as a fraction; by the model only."""

    @property
    def measurer(self) -> Measurer | None:
        return self.evaluator.measurer

    def rows(self) -> list[Row]:
        won = self._winners()
        if self.measurer is None:
            return [
                self._row(search, won[search.problem][0], won[search.problem][1])
                for search in self.searched
                if search.problem in won
            ]
        found: list[Row] = []
        for name, group in groups([search for search in self.searched if search.problem in won]):
            found += (
                self._joint(name, group, won) if name else [self._row(search, *won[search.problem]) for search in group]
            )
        return found

    def _winners(self) -> dict[Problem, tuple[Won, Proof]]:
        """Proved right; where a winner is not, the next best is chosen and proved in the next round."""
        wrong: dict[Problem, set[Config]] = {search.problem: set() for search in self.searched}
        found: dict[Problem, tuple[Won, Proof]] = {}
        pending = list(self.searched)
        lanes = len(self.measurer.lanes) if self.measurer else 1
        with ThreadPoolExecutor(lanes) as threads:
            while pending:
                won = self._decided(pending, wrong, threads)
                claims = {search: Claim(search.problem, w.config) for search, w in won.items()}
                proofs = self.prover.prove(claims.values())
                pending = [search for search, claim in claims.items() if proofs[claim].failed]
                for search, claim in claims.items():
                    if proofs[claim].failed:
                        wrong[search.problem].add(claim.config)
                    else:
                        found[search.problem] = (won[search], proofs[claim])
        return found

    def _decided(
        self, pending: Sequence[Searched], wrong: Mapping[Problem, set[Config]], threads: ThreadPoolExecutor
    ) -> dict[Searched, Won]:
        """Return who wins each of `pending` among the configs that were not wrong there."""
        if self.portfolio is not None and self.measurer is None:
            chosen = ByPortfolio(self.portfolio, pending)(wrong)
            return {search: chosen[search.problem] for search in pending if search.problem in chosen}
        decide = by_model if self.measurer is None else ByRace(self.measurer)
        decided = threads.map(lambda search: decide(search, wrong[search.problem]), pending)
        return {search: won for search, won in zip(pending, decided, strict=True) if won is not None}

    def _joint(self, name: str, group: Sequence[Searched], won: Mapping[Problem, tuple[Won, Proof]]) -> list[Row]:
        """Rows that serve intervals along `name`; points keep rows of their own where an interval is not right."""
        by_size = {getattr(search.problem, name): search for search in group}
        sizes = sorted(by_size)
        portfolio = list(dict.fromkeys(won[by_size[size].problem][0].config for size in sizes))
        times = Times(lambda size, configs: self._medians(resized(group[0].problem, name, size), configs))

        def probes(config: Config, low: int, high: int) -> tuple[int, ...]:
            row = (group[0].problem, config)
            return (
                *tails(low, high, config),
                *codes(self.subject.kernel, row, name, (low, high), self.subject.device),
            )

        found = spans(sizes, portfolio, times, probes)
        claims = {}
        for span in found:
            home = self._home(span, by_size, won)
            claims[span] = Claim(by_size[home].problem, span.config, ((name, span.low, span.high),))
        proofs = self.prover.prove(claims.values())
        rows: list[Row] = []
        for span, claim in claims.items():
            inside = [by_size[size] for size in sizes if span.low <= size <= span.high]
            if proofs[claim].failed or math.isinf(span.regret):
                rows += [self._row(search, *won[search.problem]) for search in inside]
                continue
            search = next(search for search in inside if search.problem == claim.problem)
            rows.append(self._row(search, *self._entry(search, span.config, won, proofs[claim]), span=span, name=name))
        return rows

    def _home(self, span: Span, by_size: Mapping[int, Searched], won: Mapping[Problem, tuple[Won, Proof]]) -> int:
        """The size whose row this is: one that its config won if it can, the most launched of those."""
        inside = [size for size in by_size if span.low <= size <= span.high]
        return max(inside, key=lambda s: (won[by_size[s].problem][0].config == span.config, by_size[s].weight, -s))

    def _entry(
        self, search: Searched, config: Config, won: Mapping[Problem, tuple[Won, Proof]], proof: Proof
    ) -> tuple[Won, Proof]:
        here = won[search.problem][0]
        return (here if here.config == config else Won(config), proof)

    def _medians(self, problem: Problem | None, configs: Sequence[Config]) -> dict[Config, float]:
        if problem is None or self.measurer is None:
            return {}
        kernel, device = self.subject.kernel, self.subject.device
        allowed = [config for config in configs if kernel.reject(problem, config, device) is None]
        return self.measurer.medians(problem, allowed, _PASSES)

    def _row(self, search: Searched, won: Won, proof: Proof, span: Span | None = None, name: str = "") -> Row:
        outcome = search.outcomes.get(won.config) or self.evaluator(search.problem, won.config)
        evidence = modeled(search, outcome) if self.measurer is None else measured(search, won, outcome)
        if self.measurer is not None:
            default = search.default if search.default_us is not None else None
            evidence |= {"bench": self.measurer.bench.name, "date": datetime.now(UTC).date().isoformat()}
            evidence |= against_library(self.measurer, search.problem, won.config, default)
        evidence |= {"trials": search.trials, "proved_on": list(proof.problems)}
        evidence |= {"error_over_bound": round(proof.error, 4), **drawn(search.problem)}
        evidence |= {"proved_against": "itself"} if self.subject.kernel.proved_against_itself else {}
        evidence |= {"finalists": finalists(search, won.config)}
        if self.portfolio is not None and self.measurer is None:
            evidence |= {"over_best": round(float(outcome["us"]) / search.outcomes[search.good[0]]["us"], 4)}
        evidence |= Resources.from_json(outcome["resources"]).evidence
        serves: tuple[tuple[str, int, int], ...] = ()
        if span is not None:
            serves = ((name, span.low, span.high),)
            evidence |= {"regret": round(span.regret, 4), "measured_at": list(span.measured)}
        where: Key = key(served(search.problem, self.subject.device))
        tier = "modeled" if self.measurer is None else self.measurer.bench.tier
        return Row(where, won.config, tier, evidence, self.subject.toolchain, outcome["code"], serves)


def groups(searched: Iterable[Searched]) -> list[tuple[str, list[Searched]]]:
    """Problems that differ in their first varying field only, with its name; the others one by one, with none."""
    found: dict[tuple[str, Key], list[Searched]] = {}
    alone: list[tuple[str, list[Searched]]] = []
    for search in searched:
        if not search.problem.VARYING:
            alone.append(("", [search]))
            continue
        name = search.problem.VARYING[0]
        fixed = tuple(item for item in key(search.problem) if item[0] != name)
        found.setdefault((name, fixed), []).append(search)
    return [(name if len(some) > 1 else "", some) for (name, _), some in found.items()] + alone


def superseded(rows: Iterable[Row], new: Sequence[Row]) -> list[Row]:
    """Return the old rows whose problem a new row of the same or a better tier serves."""
    return [row for row in rows if any(_covers(newer, row) for newer in new)]


def _covers(new: Row, old: Row) -> bool:
    if not new.serves or new.rank > old.rank or new.problem == old.problem:
        return False
    ends, here, there = new.intervals, dict(new.problem), dict(old.problem)
    same = here.keys() == there.keys() and all(here[n] == there[n] for n in here if n not in ends)
    return same and all(low <= int(there[name]) <= high for name, (low, high) in ends.items())


def modeled(search: Searched, outcome: Mapping[str, Any]) -> dict[str, Any]:
    us = float(outcome["us"])
    default = search.default_us or us
    return {
        "modeled_us_range": [round(us, 2) for us in outcome["range_us"]],
        "modeled_speedup_over_default": round(default / us, 3),
        "bound": outcome["bound"],
    }


def measured(search: Searched, won: Won, outcome: Mapping[str, Any]) -> dict[str, Any]:
    evidence: dict[str, Any] = {"us": outcome["us"], "spread": outcome["spread"]}
    evidence |= {"samples": outcome["samples"], "modeled_us": round(outcome["modeled_us"], 2)}
    evidence |= {name: outcome[name] for name in ("clock_mhz", "throttled") if outcome[name]}
    evidence["device_error_over_bound"] = outcome["error"]
    default = search.default_us
    if default is not None:
        evidence |= {"default_us": default, "speedup_over_default": round(default / outcome["us"], 3)}
    if won.verdict is not None:
        evidence |= _raced(won, won.verdict, search.default)
    return evidence


def _raced(won: Won, verdict: RaceResult, default: Config) -> dict[str, Any]:
    """The race's own figures, of more samples than a trial's."""
    mine = won.entries.index(won.config)
    timing = Timing(verdict.samples_us[mine])
    evidence: dict[str, Any] = {"us": round(timing.us, 4), "spread": round(timing.spread, 5)}
    evidence |= {"samples": len(timing.samples_us), "verdict": verdict.reason, "noise_floor": round(verdict.floor, 4)}
    if mine:
        evidence["gain"] = _shown(verdict.gains[mine])
    if default in won.entries:
        theirs = verdict.samples_us[won.entries.index(default)]
        paired = Timing(timing.samples_us[: len(theirs)]).us
        evidence |= {"default_us": round(Timing(theirs).us, 4)}
        evidence |= {"speedup_over_default": round(Timing(theirs[: len(timing.samples_us)]).us / paired, 3)}
    return evidence


def _shown(gain: GainInterval) -> dict[str, float]:
    return {"over_incumbent": round(gain.gain, 4), "low": round(gain.low, 4), "high": round(gain.high, 4)}


def drawn(problem: Problem) -> dict[str, Any]:
    names = [name for name in getattr(problem, "DRAWN", ()) if name != "dtype"]
    return {"inputs": {name: getattr(problem, name) for name in names}} if names else {}
