"""A tuning session: problems in, table out. Without a bench it ends at the model, and its rows say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage

from autotune import row_check, table
from autotune.config import Config, Key, Problem, describe, key
from autotune.device import Device
from autotune.errors import MachineError
from autotune.kernel import Kernel
from autotune.state import Cache
from autotune.table import Row, Table
from autotune.tuning import space
from autotune.tuning.cost_model import prior
from autotune.tuning.cost_model.prior import has_prior
from autotune.tuning.search import storage
from autotune.tuning.search.sampler import SAMPLERS
from autotune.tuning.search.study import Outcomes, Search
from autotune.tuning.search.trials import Study, journal_path, lock_path, prefix
from autotune.tuning.session.batch_invariant import OneOrder, price
from autotune.tuning.session.compiler import Compiler, Subject
from autotune.tuning.session.crash_log import CrashLog
from autotune.tuning.session.evaluator import Evaluator, Measurer
from autotune.tuning.session.history import measured_by_siblings
from autotune.tuning.session.opening import Opener
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.progress import Progress, Status, Summary, searching
from autotune.tuning.session.promotion import Promotion, check_distinct, served
from autotune.tuning.session.prover import Prover
from autotune.tuning.session.scheduler import Policy, Scheduler
from autotune.tuning.session.search_terms import SearchTerms, changes, terms
from autotune.tuning.session.selection import Searched
from autotune.tuning.session.shared_configs import shared_outcomes
from autotune.tuning.session.stopwatch import Stopwatch
from autotune.tuning.session.tables import TableFile, check_writable
from autotune.tuning.validation.reduction_order import Order, describe_order
from autotune.tuning.workers.worker import Workers


@dataclass(frozen=True)
class _Past:
    """The beginnings of a session: where its trials are kept, the table's sound rows, and trials on other devices."""

    trials: BaseStorage
    rows: Sequence[Row]
    siblings: Mapping[Problem, list[Outcomes]]

    @cached_property
    def incumbents(self) -> dict[Key, Config]:
        return {row.problem: row.config for row in self.rows}


class Session:
    """One kernel on one device."""

    def __init__(self, kernel: Kernel[Any], device: Device, plan: Plan, progress: Progress) -> None:
        self._kernel, self._device, self._plan, self._progress = kernel, device, plan, progress
        self._subject = Subject.of(kernel, device)
        self._cache = Cache(plan.state / "results")
        self._space = space.load(kernel, device)
        self._one_order = OneOrder(self._subject, self._space)
        self._stopwatch = Stopwatch()
        self._filed = plan.filed_under(device)
        self._prior = prior.chosen(plan.state)
        self._crash_log = CrashLog(plan.state, self._filed)
        path = table.path_of(plan.tables, device.arch, self._filed, kernel.name)
        self._opener = Opener(
            self._subject, self._space, self._prior, self._stopwatch, plan.budget, plan.exhaustive, plan.configs
        )
        self._table = TableFile(path, self._subject, self._filed, plan.deterministic)
        self._terms: SearchTerms | None = None
        self._searched_whole = True
        tier = plan.bench.tier if plan.bench else "modeled"
        self.summary = Summary(kernel.name, device.name, path, tier=tier, mode=self._opener.mode)

    def run(self, problems: Mapping[Problem, int]) -> Summary:
        """Tunes `problems` (with launches a step as weights) and merges the rows into the table.

        Raises MachineError where a fault of this machine ends it; finished trials are on disk, nothing is blamed on a
        config, and the same command goes on after the repair.
        """
        check_distinct(problems, self._device)
        try:
            self._run(problems)
        except OSError as error:
            raise MachineError.of(error, f"a file under {self._plan.state}") from error
        except StorageInternalError as error:
            raise MachineError(f"--storage: {error}; start the server, then run the same command again") from error
        self.summary.seconds = self._stopwatch.seconds
        return self.summary

    def _run(self, problems: Mapping[Problem, int]) -> None:
        check_writable(self._table.path)
        here = journal_path(self._plan.state, self._filed, self._kernel.name)
        with storage.exclusive(lock_path(here)):
            if self._plan.retry_crashed:
                self._crash_log.forget()
            old = self._table.load()
            left = self._left(problems, old)
            if not left:
                return
            trials = storage.database(self._plan.storage) if self._plan.storage else storage.journal(here)
            with storage.alone(trials, f"{self._kernel.name} on {self._filed}"):
                made = self._tune(left, old, trials)
            self._table.save(old, made, self.summary.rows, self._plan.state)

    def _left(self, problems: Mapping[Problem, int], old: Table) -> Mapping[Problem, int]:
        """Return the problems whose rows in `old` are not the result of the search that is asked for."""
        plan = self._plan
        if plan.bench is not None:
            return problems
        self._terms = terms(self._subject, self._space, self._opener, plan, next(iter(problems)))
        if plan.again or plan.retry_crashed or not self._table.is_of_today(old):
            return problems
        sound, _ = row_check.whole(old.rows, self._kernel, self._device)
        found = changes(self._terms, sound, problems, self._device)
        self.summary.changed = Counter(name for names in found.values() for name in names)
        if plan.deterministic and any(found.values()):
            return problems  # one order of reduction is chosen for all of them
        left = {problem: weight for problem, weight in problems.items() if found[problem]}
        self.summary.up_to_date = len(problems) - len(left)
        return left

    def _tune(self, problems: Mapping[Problem, int], old: Table, trials: BaseStorage) -> Table:
        plan = self._plan
        database = trials if plan.storage else None
        siblings = measured_by_siblings(plan.state, self._kernel, self._device, plan.bench, database)
        sound, _ = row_check.whole(old.rows, self._kernel, self._device)
        past = _Past(trials, sound, siblings)
        with plan.start(plan.limits, plan.state, plan.bench) as started:
            compiler = Compiler(self._subject, self._cache, started.compilers, self._crash_log)
            measurer = (
                Measurer(self._subject, plan.bench, started.lanes, self._crash_log, plan.state) if plan.bench else None
            )
            evaluator = Evaluator(self._subject, compiler, measurer)
            made = self._search_and_promote(problems, old, past, evaluator)
        self.summary.compile_cpu_s = compiler.cpu_s
        self.summary.gpu_s = measurer.gpu_s if measurer else 0.0
        return made

    def _search_and_promote(
        self, problems: Mapping[Problem, int], old: Table, past: _Past, evaluator: Evaluator
    ) -> Table:
        searches = self._search(problems, lambda problem: self._open(past, problem), evaluator)
        shared = self._shared(searches, evaluator)
        searched = [
            Searched(
                problem,
                {**search.outcomes, **shared[problem]},
                self._kernel.default(problem, self._device),
                past.incumbents.get(key(served(problem, self._device))),
                problems[problem],
                shared=len(shared[problem]),
            )
            for problem, search in searches.items()
        ]
        if not self._plan.deterministic:
            return self._promote(searched, old, evaluator)
        staying = self._one_order.staying(past.rows, problems, table.TIERS.index(self.summary.tier))
        choices, searched = self._one_order.decide(
            searched, staying, lambda orders: self._within(orders, past, evaluator)
        )
        self.summary.price = price(choices, problems)

        def proved(rows: list[Row], prover: Prover) -> list[Row]:
            found = self._one_order.stamped(rows, choices, self._one_order.prove(rows, staying, prover))
            if len(found) < len(rows):
                self.summary.failed["batches not comparable"] = len(rows) - len(found)
            return found

        return self._promote(searched, old, evaluator, proved)

    def _shared(
        self, searches: Mapping[Problem, Search], evaluator: Evaluator
    ) -> Mapping[Problem, Mapping[Config, dict[str, Any]]]:
        """Return the outcomes of other problems' configs, where the model is the judge and the whole space is open."""
        outcomes = {problem: search.outcomes for problem, search in searches.items()}
        if evaluator.measurer is not None or self._plan.deterministic or self._opener.tries_all:
            return {problem: {} for problem in outcomes}

        def allowed(problem: Problem, config: Config) -> bool:
            return self._kernel.reject(problem, config, self._device) is None

        with self._stopwatch.stage("share"):
            return shared_outcomes(outcomes, allowed, evaluator)

    def _within(self, orders: Mapping[Problem, Order], past: _Past, evaluator: Evaluator) -> dict[Problem, Outcomes]:
        """Searches each problem among the configs of one order of reduction."""
        searches = self._search(orders, lambda problem: self._open(past, problem, orders[problem]), evaluator)
        return {problem: search.outcomes for problem, search in searches.items()}

    def _open(self, past: _Past, problem: Problem, only: Order | None = None) -> Search:
        opened = Search(
            past.trials, self._study(problem, only), self._space.lists, self._plan.seed, SAMPLERS[self._plan.sampler]
        )
        if opened.feasible_count is None or self._opener.left(opened):
            incumbent = past.incumbents.get(key(served(problem, self._device)))
            self._opener.fill(opened, problem, incumbent, lambda c: only is None or self._one_order.of(c) == only)
            opened.transfer(*past.siblings.get(problem, ()))
        if only is None:
            self._opener.introduce(self.summary, problem, opened.feasible_count or 0)
        return opened

    def _study(self, problem: Problem, only: Order | None) -> str:
        subject, plan = self._subject, self._plan
        judge = plan.judge(self._device, subject.identity)
        terms = (subject.identity.kernel, subject.toolchain, plan.seed, judge, self._crash_log.epoch)
        order = describe_order(only) if only is not None else ""
        name = Study(describe(problem), *terms, order, self._opener.digest).name
        return prefix(self._kernel.name, self._filed) + name if plan.storage else name

    def _search(
        self, problems: Collection[Problem], open_: Callable[[Problem], Search], evaluator: Evaluator
    ) -> dict[Problem, Search]:
        def told(searches: Mapping[Problem, Search]) -> None:
            found = [
                (self._kernel.default(problem, self._device), search.outcomes) for problem, search in searches.items()
            ]
            self._progress(searching(found, sum(map(self._opener.planned, searches.values()))))

        policy = Policy(open_, self._opener.left, self._plan.budget.out_of_time, told)
        with self._stopwatch.stage("search"):
            searches = Scheduler(evaluator, policy, self._plan.limits.processes).run(problems)
        self._searched_whole &= not self._plan.budget.out_of_time()
        self.summary.count_trials([search.outcomes for search in searches.values()])
        self.summary.compiled, self.summary.from_cache = evaluator.compiler.compiled, evaluator.compiler.from_cache
        return searches

    def _promote(
        self,
        searched: list[Searched],
        old: Table,
        evaluator: Evaluator,
        finish: Callable[[list[Row], Prover], list[Row]] | None = None,
    ) -> Table:
        proving = Workers(self._plan.limits, self._plan.state, interpret=True)
        with proving as workers, self._stopwatch.stage("promote"):

            def progress(done: int, of: int) -> None:
                self._progress(Status("validate", done, of, failed=self.summary.failed))

            prover = Prover(self._subject, self._cache, self._space.check, workers, progress, self._stopwatch)
            rows = Promotion(self._subject, prover, evaluator, searched, self._plan.portfolio).rows()
            if self._prior != prior.PATH and has_prior(self._kernel, searched[0].problem, self._device):
                helped = {"prior": prior.name(self._prior)}
                rows = [replace(row, evidence={**row.evidence, **helped}) for row in rows]
            if self._terms is not None and self._searched_whole:
                rows = [self._terms.stamped(row) for row in rows]
            if self._opener.tries_all:
                rows = [replace(row, evidence={**row.evidence, "search": self._opener.mode}) for row in rows]
            rows = finish(rows, prover) if finish else rows
            made, lost = self._table.merged(old, rows, prover)
            if lost:
                self.summary.failed["old rows, by today's kernel or reference"] = lost
        weights = {key(served(search.problem, self._device)): search.weight for search in searched}
        self.summary.count_rows(rows, weights)
        self.summary.validated, wrong = prover.counts()
        if wrong:
            self.summary.failed["validate"] = self.summary.failed.get("validate", 0) + wrong
            self.summary.reasons += prover.reasons()
        return made
