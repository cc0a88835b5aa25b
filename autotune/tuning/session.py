"""A tuning session: problems in, table out. Without a GPU it ends at the model, and its rows say so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage

from autotune import table
from autotune.config import Config, Problem, describe, key
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.table import Row, Table
from autotune.tuning import search, space
from autotune.tuning.cache import Cache
from autotune.tuning.launch import launches
from autotune.tuning.predict import predict
from autotune.tuning.resources import Resources
from autotune.tuning.search import Search
from autotune.tuning.tasks import compile_job, validate_job
from autotune.tuning.toolchain import toolchain
from autotune.tuning.worker import Job, Limits, Workers

_TIE = 0.02
"""Modelled gains under 2 % are no gains: the incumbent stays."""


@dataclass(frozen=True)
class Plan:
    """How much to try and where things lie."""

    tables: Path
    state: Path
    trials: int = 12
    seed: int = 0
    limits: Limits = field(default_factory=Limits)


@dataclass
class Summary:
    """Counts of one session; `speedup` is modelled default / best, geometric mean over calls of a step."""

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
    speedup: float = 1.0
    tier: str = "modeled"


Progress = Callable[[str, int, int], None]
"""(stage, done, of)"""


class Session:
    """One kernel on one device."""

    def __init__(self, kernel: Kernel[Any], device: Device, plan: Plan, progress: Progress) -> None:
        self._kernel, self._device, self._plan, self._progress = kernel, device, plan, progress
        self._toolchain = toolchain(device.arch)
        self._source = kernel.source_hash()
        self._cache = Cache(plan.state / "results")
        self._space = space.load(kernel, device)
        self._codes: dict[str, Resources | str] = {}
        path = table.path_of(plan.tables, device.arch, device.name, kernel.name)
        self.summary = Summary(kernel.name, device.name, path)

    def run(self, problems: Mapping[Problem, int]) -> Summary:
        """Tunes `problems` (with launches a step as weights) and merges the rows into the table."""
        old = self._load_table()
        storage = search.open_storage(self._plan.state / "journal" / self._device.name / f"{self._kernel.name}.log")
        with Workers(self._plan.limits, self._plan.state) as workers:
            searches = {problem: self._open(storage, problem, old) for problem in problems}
            self._search(searches, workers)
        rows = self._promote(searches, problems, old)
        table.save(self._merged(old, rows), self.summary.table)
        return self.summary

    def _load_table(self) -> Table:
        if self.summary.table.exists():
            return table.load(self.summary.table)
        return Table(self._kernel.name, self._device.arch, self._device.name, self._source, ())

    def _merged(self, old: Table, rows: list[Row]) -> Table:
        # Rows of another source were proved for another kernel: they do not outlive it.
        kept = old if old.source == self._source else Table(old.kernel, old.arch, old.device, self._source, ())
        return kept.merged(rows)

    def _open(self, storage: BaseStorage, problem: Problem, old: Table) -> Search:
        kernel, device = self._kernel, self._device
        name = f"{describe(problem)} source={self._source} {self._toolchain} seed={self._plan.seed}"
        opened = Search(storage, name, self._space.lists, self._plan.seed)
        if opened.feasible_count is None or len(opened.outcomes) < self._plan.trials:
            feasible = space.feasible(self._space, kernel, problem, device)
            opened.allow(feasible)
            first = [kernel.default(problem, device), *(r.config for r in old.rows if r.problem == key(problem))]
            by_model = sorted(feasible, key=lambda c: predict(kernel.work(problem, c, device), c, device).us)
            opened.enqueue([*first, *by_model[: self._plan.trials // 2 - 1]])
        self.summary.problems += 1
        self.summary.considered += self._space.size
        self.summary.rejected += self._space.size - (opened.feasible_count or 0)
        return opened

    def _search(self, searches: Mapping[Problem, Search], workers: Workers) -> None:
        total = self._plan.trials * len(searches)
        while True:
            asked = [
                (problem, config)
                for problem, one in searches.items()
                for config in one.ask(min(5, self._plan.trials - len(one.outcomes)))
            ]
            if not asked:
                break
            signatures = {pair: self._signature(*pair) for pair in asked}
            self._compile({signatures[pair]: pair for pair in asked}, workers)
            for problem, config in asked:
                searches[problem].tell(config, self._outcome(problem, config, signatures[problem, config]))
                self._progress("search", sum(len(one.outcomes) for one in searches.values()), total)
        self._count(searches)

    def _signature(self, problem: Problem, config: Config) -> str:
        """Equal for calls that Triton compiles to the same binaries."""
        seen = launches(self._kernel, problem, config, self._device)
        return " ".join(launch.signature for launch in seen) + f" {config}"

    def _compile(self, wanted: Mapping[str, tuple[Problem, Config]], workers: Workers) -> None:
        jobs: dict[Job, str] = {}
        for signature, (problem, config) in wanted.items():
            if signature in self._codes:
                continue
            cached = self._cache.get(*self._compile_key(signature))
            if cached is not None:
                self._codes[signature] = _resources(cached)
                self.summary.from_cache += 1
            else:
                jobs[Job(self._kernel.name, key(problem), config, self._device.name)] = signature
        for done, (job, result) in enumerate(workers.run(compile_job, jobs), 1):
            if isinstance(result, str):
                self._codes[jobs[job]] = result  # killed or died: this machine's fault, perhaps; not cached
            else:
                self._cache.put(result, *self._compile_key(jobs[job]))
                self._codes[jobs[job]] = _resources(result)
            self.summary.compiled += 1
            self._progress("compile", done, len(jobs))

    def _compile_key(self, signature: str) -> tuple[str, ...]:
        return ("compile", self._kernel.name, self._source, self._toolchain, self._device.name, signature)

    def _outcome(self, problem: Problem, config: Config, signature: str) -> dict[str, Any]:
        found = self._codes[signature]
        if isinstance(found, str):
            return {"failed": "compile", "reason": found}
        prediction = predict(self._kernel.work(problem, config, self._device), config, self._device, found)
        return {"us": prediction.us, "bound": prediction.bound, "code": found.code, "spills": found.spills}

    def _count(self, searches: Mapping[Problem, Search]) -> None:
        outcomes = [outcome for one in searches.values() for outcome in one.outcomes.values()]
        self.summary.trials = len(outcomes)
        self.summary.distinct_codes = len({outcome["code"] for outcome in outcomes if "code" in outcome})
        for outcome in outcomes:
            if "failed" in outcome:
                self.summary.failed[outcome["failed"]] = self.summary.failed.get(outcome["failed"], 0) + 1

    def _promote(self, searches: Mapping[Problem, Search], weights: Mapping[Problem, int], old: Table) -> list[Row]:
        incumbents = {row.problem: row.config for row in old.rows}
        ranked = {p: self._ranked(p, one, incumbents.get(key(p))) for p, one in searches.items()}
        proofs: dict[Config, dict[str, Any]] = {}
        rows: list[Row] = []
        gains: list[tuple[float, int]] = []
        with Workers(self._plan.limits, self._plan.state, interpret=True) as workers:
            while pending := {p: configs for p, configs in ranked.items() if configs}:
                self._prove({configs[0] for configs in pending.values()} - proofs.keys(), proofs, workers)
                for problem, configs in pending.items():
                    config = configs.pop(0)
                    if "failed" in proofs[config]:
                        continue  # the next best is proved in the next round
                    configs.clear()
                    rows.append(self._row(problem, config, searches[problem], proofs[config]))
                    gains.append((rows[-1].evidence["modeled_speedup_over_default"], weights[problem]))
        self.summary.validated = sum("failed" not in proof for proof in proofs.values())
        wrong = sum("failed" in proof for proof in proofs.values())
        if wrong:
            self.summary.failed["validate"] = wrong
        if gains:
            logs = sum(weight * math.log(gain) for gain, weight in gains)
            self.summary.speedup = math.exp(logs / sum(weight for _, weight in gains))
        return rows

    def _ranked(self, problem: Problem, one: Search, incumbent: Config | None) -> list[Config]:
        """Best first; the incumbent (else the default) goes before whatever does not beat it clearly."""
        good = {config: outcome["us"] for config, outcome in one.outcomes.items() if "us" in outcome}
        order = sorted(good, key=lambda config: (good[config], str(config)))
        default = self._kernel.default(problem, self._device)
        stays = incumbent if incumbent in good else default
        if stays in good and good[order[0]] > good[stays] * (1 - _TIE):
            order.remove(stays)
            order.insert(0, stays)
        return order

    def _prove(self, configs: set[Config], proofs: dict[Config, dict[str, Any]], workers: Workers) -> None:
        """Every config on every check problem that its rules allow; none allowed is no proof."""
        jobs: list[Job] = []
        unsettled: set[Config] = set()
        for config in sorted(configs, key=str):
            cached = self._cache.get(*self._proof_key(config))
            proofs[config] = cached or {"problems": [], "error": 0.0}
            if cached is None:
                allowed = [p for p in self._space.check if not self._kernel.reject(p, config, self._device)]
                if not allowed:
                    proofs[config]["failed"] = "no check problem of the search space allows this config"
                jobs += [Job(self._kernel.name, key(p), config, self._device.name) for p in allowed]
        for done, (job, result) in enumerate(workers.run(validate_job, jobs), 1):
            proof = proofs[job.config]
            if isinstance(result, str):
                proof["failed"] = result
                unsettled.add(job.config)  # killed or died: to be tried again next time
            elif "failed" in result:
                proof["failed"] = result["failed"]
            else:
                proof["problems"].append(",".join(f"{name}={value}" for name, value in job.problem))
                proof["error"] = max(proof["error"], result["error"])
            self._progress("validate", done, len(jobs))
        for config in configs - unsettled:
            proofs[config]["problems"].sort()
            self._cache.put(proofs[config], *self._proof_key(config))

    def _proof_key(self, config: Config) -> tuple[str, ...]:
        checks = ";".join(describe(problem) for problem in self._space.check)
        return ("validate", self._kernel.name, self._source, self._toolchain, self._device.name, checks, str(config))

    def _row(self, problem: Problem, config: Config, one: Search, proof: dict[str, Any]) -> Row:
        outcome = one.outcomes[config]
        default = one.outcomes.get(self._kernel.default(problem, self._device), {})
        us = float(outcome["us"])
        evidence = {
            "modeled_us_range": [round(us / 2, 2), round(us * 2, 2)],
            "modeled_speedup_over_default": round(default.get("us", us) / us, 3),
            "bound": outcome["bound"],
            "trials": len(one.outcomes),
            "proved_on": proof["problems"],
            "error_over_bound": round(proof["error"], 4),
        }
        return Row(key(problem), config, "modeled", evidence, self._toolchain, outcome["code"])


def _resources(result: dict[str, Any]) -> Resources | str:
    return result["failed"] if "failed" in result else Resources.from_json(result["resources"])
