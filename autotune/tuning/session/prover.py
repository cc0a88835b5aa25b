"""The proof stage: every config of a row on every problem it must get right, in the corrected interpreter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autotune.config import Config, Problem, describe, key
from autotune.state import Cache
from autotune.tuning.jobs import RowsJob, rows_job, validate_job
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.stopwatch import Stopwatch
from autotune.tuning.validation.coverage import like, problems_to_prove, served_sizes
from autotune.tuning.workers.process import Lost
from autotune.tuning.workers.worker import Job, Workers

_NO_PROBLEM = "no check problem of the search space allows this config, nor does a small size of the row's"

Serves = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Claim:
    """The claim that `config` is right for `problem` and for its neighbours along `serves`."""

    problem: Problem
    config: Config
    serves: Serves = ()

    @property
    def intervals(self) -> Mapping[str, tuple[int, int]]:
        return {name: (low, high) for name, low, high in self.serves}


@dataclass(frozen=True)
class Proof:
    """`failed` says where and how; else `problems` were all computed within `error` of their bounds."""

    problems: tuple[str, ...] = ()
    error: float = 0.0
    failed: str | None = None


@dataclass
class Prover:
    subject: Subject
    cache: Cache
    checks: tuple[Problem, ...]
    workers: Workers
    progress: Callable[[int, int], None]
    stopwatch: Stopwatch
    _results: dict[Job, dict[str, Any] | str] = field(default_factory=dict)
    _unproved: set[Config] = field(default_factory=set)
    """Configs that no problem of a size for the interpreter allows."""

    def prove(self, claims: Iterable[Claim]) -> dict[Claim, Proof]:
        """Equal (problem, config) pairs are computed once, over all sessions with this identity and toolchain."""
        wanted = {claim: (self._problems(claim), self._sizes(claim)) for claim in claims}
        self._unproved |= {claim.config for claim, (some, _) in wanted.items() if not some}
        jobs = {self.subject.job(p, claim.config): p for claim, (some, _) in wanted.items() for p in some}
        sized = {self._addresses(p, claim.config): p for claim, (_, sizes) in wanted.items() for p in sizes}
        with self.stopwatch.stage("validate"):
            self._compute({**jobs, **sized})
        return {claim: self._proof(claim.config, *problems) for claim, problems in wanted.items()}

    def rows(self, problem: Problem, configs: tuple[Config, ...]) -> list[dict[str, Any]]:
        """Compare rows of the first of `configs` with each, by `rows_job`, on the check problems most like `problem`.

        A process that gave no answer proved nothing: `no rows`, to be tried again next time.
        """
        kernel, device = self.subject.kernel, self.subject.device
        bases = tuple(map(key, dict.fromkeys([*like(problem, self.checks), *self.checks])))
        jobs = [RowsJob(kernel.name, bases, (configs[0], config), device.name) for config in configs]
        known = {job: answer for job in jobs if (answer := self.cache.get(*self._rows_key(job))) is not None}
        asked = {job: self.workers.submit(rows_job, job) for job in jobs if job not in known}
        with self.stopwatch.stage("validate"):
            for job, future in asked.items():
                try:
                    known[job] = dict(future.result())
                    self.cache.put(known[job], *self._rows_key(job))
                except Lost as lost:
                    known[job] = {"no rows": str(lost)}
        return [known[job] for job in jobs]

    def _rows_key(self, job: RowsJob) -> tuple[str, ...]:
        return self.subject.key("rows", self.subject.identity.proof, repr(job.problems), *map(str, job.configs))

    def counts(self) -> tuple[int, int]:
        """Configs proved right everywhere they were asked, and configs that were wrong or fell over somewhere."""
        wrong = {job.config for job, result in self._results.items() if isinstance(result, str) or "failed" in result}
        wrong |= self._unproved
        return len({job.config for job in self._results} - wrong), len(wrong)

    def reasons(self) -> Counter[tuple[str, str]]:
        """How often each (`validate`, words) was the end of a proof."""
        failed = ((r if isinstance(r, str) else r.get("failed")) for r in self._results.values())
        counts = Counter(("validate", words) for words in failed if words)
        return counts + Counter({("validate", _NO_PROBLEM): len(self._unproved)})

    def _problems(self, claim: Claim) -> tuple[Problem, ...]:
        row = (claim.problem, claim.config)
        return problems_to_prove(self.subject.kernel, row, self.subject.device, self.checks, claim.intervals)

    def _sizes(self, claim: Claim) -> tuple[Problem, ...]:
        """Sizes at which addresses are checked: the interval's own, where `_problems` has small ones in their place."""
        row = (claim.problem, claim.config)
        return served_sizes(self.subject.kernel, row, self.subject.device, claim.intervals)

    def _addresses(self, problem: Problem, config: Config) -> Job:
        return replace(self.subject.job(problem, config), addresses=True)

    def _compute(self, jobs: dict[Job, Problem]) -> None:
        missing: dict[Job, tuple[str, ...]] = {}
        for job, problem in jobs.items():
            if job not in self._results:
                key_of_proof = self._key(job, problem)
                cached = self.cache.get(*key_of_proof)
                if cached is None:
                    missing[job] = key_of_proof
                else:
                    self._results[job] = cached
        for done, (job, result) in enumerate(self.workers.run(validate_job, missing), 1):
            self._results[job] = result
            if not isinstance(result, str):  # killed or died: to be tried again next time
                self.cache.put(result, *missing[job])
            self.progress(done, len(missing))

    def _proof(self, config: Config, problems: tuple[Problem, ...], sizes: tuple[Problem, ...]) -> Proof:
        if not problems:
            return Proof(failed=_NO_PROBLEM)
        results = [(problem, self._results[self.subject.job(problem, config)]) for problem in problems]
        sized = [(problem, self._results[self._addresses(problem, config)]) for problem in sizes]
        for _, result in results + sized:
            if isinstance(result, str):
                return Proof(failed=result)
            if "failed" in result:
                return Proof(failed=result["failed"])
        errors = [float(result["error"]) for _, result in results if not isinstance(result, str)]
        return Proof(tuple(sorted(describe(problem) for problem in problems)), max(errors))

    def _key(self, job: Job, problem: Problem) -> tuple[str, ...]:
        stage = "addresses" if job.addresses else "validate"
        return self.subject.proof_key(stage, problem, job.config)
