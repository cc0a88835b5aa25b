"""The search of a session: many trials under way at once, so that neither compilers nor GPUs wait for one another.

Trials are told in the order asked, whatever ends first, and how many are under way depends on no machine: equal results
give equal searches, though searches of a session learn from one another.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from autotune.config import Config, Problem
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.search.study import Search
from autotune.tuning.search.transfer import transfer_between
from autotune.tuning.session.compiler import Candidate
from autotune.tuning.session.evaluator import Evaluator, Measurer

_T = TypeVar("_T")

_TOGETHER = 5
"""Trials of a problem under way at once; more would be asked knowing less."""


@dataclass
class _Trial:
    line: _Line
    candidate: Candidate
    compiled: Future[Resources | str]
    known: dict[str, Any] | None = None
    """Result of compiling; None until this trial and all earlier ones of its problem are compiled."""
    measured: Future[dict[str, Any]] | None = None

    @property
    def ended(self) -> bool:
        return self.known is not None and (self.measured is None or self.measured.done())

    @property
    def outcome(self) -> dict[str, Any]:
        return {**(self.measured.result() if self.measured else {}), **(self.known or {})}

    def cancelled(self) -> bool:
        """Nothing of it had begun, and nothing of it will."""
        return self.compiled.cancel() or (self.measured is not None and self.measured.cancel())


@dataclass
class _Line:
    """One problem's search; `compiling` are its trials that are not known yet, in the order asked."""

    problem: Problem
    search: Search
    under_way: int = 0
    compiling: deque[_Trial] = field(default_factory=deque)
    measured: dict[Config, Future[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """Decisions of the session that its pipeline asks for, from one thread."""

    open: Callable[[Problem], Search]
    """Takes 0.1 to 2 s; trials of the problems before it run meanwhile."""
    left: Callable[[Search], int]
    """Trials that the budget allows beside those told."""
    out_of_time: Callable[[], bool]
    told: Callable[[Mapping[Problem, Search]], None]
    """After each trial."""


class Scheduler:
    """Opens a search a problem and runs them side by side: one use."""

    def __init__(self, evaluator: Evaluator, policy: Policy, compilers: int) -> None:
        self._evaluator, self._policy = evaluator, policy
        lanes = len(evaluator.measurer.lanes) if evaluator.measurer else 0
        self._compilers = ThreadPoolExecutor(compilers, thread_name_prefix="compile")
        self._lanes = [ThreadPoolExecutor(1, thread_name_prefix="measure") for _ in range(lanes)]
        self._lines: list[_Line] = []
        self._under_way: deque[_Trial] = deque()
        self._failed: dict[Config, set[str]] = defaultdict(set)
        """Binaries that did not compile or fit, by config: most do not depend on the number of tokens."""
        self._ready: SimpleQueue[_Line] = SimpleQueue()

    def run(self, problems: Iterable[Problem]) -> dict[Problem, Search]:
        """Until the budget ends. Trials that an error leaves under way are tried again by the next session."""
        with ExitStack() as stack:
            for threads in (self._compilers, *self._lanes):
                stack.callback(threads.shutdown, cancel_futures=True)
            for problem in problems:
                self._open(problem)
            transfer_between(self._searches())
            for line in self._lines:
                self._ask(line)
            self._tell()
            while self._under_way:
                self._begin(self._ready.get())
                self._tell()
        return self._searches()

    def _searches(self) -> dict[Problem, Search]:
        return {line.problem: line.search for line in self._lines}

    def _open(self, problem: Problem) -> None:
        line = _Line(problem, self._policy.open(problem))
        self._lines.append(line)
        for config, outcome in line.search.outcomes.items():
            if outcome.get("failed") == "compile":  # in an earlier session
                self._failed[config].add(self._evaluator.compiler.candidate(problem, config).binary)
        if not line.search.outcomes:
            self._ask(line)  # its first trials need to know no other search
        while not self._ready.empty():
            self._begin(self._ready.get())

    def _tell(self) -> None:
        """Tell the trials that have ended, in the order asked, and ask for more in their place."""
        if self._policy.out_of_time():
            self._drop()
        while self._under_way and self._under_way[0].ended:
            trial = self._under_way.popleft()
            trial.line.under_way -= 1
            if not self._is_known_failure(trial):
                trial.line.search.tell(trial.candidate.config, trial.outcome)
            self._policy.told(self._searches())
            if self._lanes:
                self._ask(trial.line)  # one more for each, so that a GPU never waits
            elif not self._under_way:
                # The model answers as soon as a config is compiled: each five know all fives before.
                for line in self._lines:
                    self._ask(line)

    def _is_known_failure(self, trial: _Trial) -> bool:
        """True, and the trial passed over, where another problem was told that its binary does not compile or fit."""
        config, binary = trial.candidate.config, trial.candidate.binary
        if trial.outcome.get("failed") != "compile":
            return False
        if binary in self._failed[config] and trial.line.search.pass_over(config):
            return True
        self._failed[config].add(binary)
        return False

    def _drop(self) -> None:
        """Whatever has not begun."""
        self._under_way = deque(trial for trial in self._under_way if not trial.cancelled())
        for line in self._lines:
            line.compiling = deque(trial for trial in line.compiling if not trial.compiled.cancelled())

    def _begin(self, line: _Line) -> None:
        """Measures what is compiled, in the order asked: of equal binaries always the same one is measured."""
        while line.compiling and line.compiling[0].compiled.done():
            trial = line.compiling.popleft()
            found = trial.compiled.result()
            trial.known = self._evaluator.known(trial.candidate, found)
            if self._evaluator.measurer is not None and not isinstance(found, str):
                self._measure(trial, found.code, self._evaluator.measurer)

    def _measure(self, trial: _Trial, code: str, measurer: Measurer) -> None:
        line = trial.line
        twin = measurer.twin(trial.candidate, code)
        if twin is not None:
            trial.known = {**(trial.known or {}), "same_as": str(twin)}
        config = twin or trial.candidate.config
        if config not in line.measured:
            lane = self._lanes[measurer.slot(line.problem)]
            line.measured[config] = self._watched(line, lane.submit(measurer.alone, line.problem, config))
        trial.measured = line.measured[config]

    def _ask(self, line: _Line) -> None:
        """Fills up what may be under way of one problem; each begins to compile while the next is chosen.

        What is known to have failed is what was told, so that it depends on no machine.
        """
        compiler = self._evaluator.compiler

        def fails(config: Config) -> bool:
            return config in self._failed and compiler.candidate(line.problem, config).binary in self._failed[config]

        for _ in range(min(_TOGETHER, self._policy.left(line.search)) - line.under_way):
            for config in line.search.ask(1, fails):
                candidate = compiler.candidate(line.problem, config)
                compiled = self._compilers.submit(compiler.resources, candidate)
                trial = _Trial(line, candidate, compiled)
                line.under_way += 1
                line.compiling.append(trial)
                self._under_way.append(trial)
                self._watched(line, compiled)

    def _watched(self, line: _Line, future: Future[_T]) -> Future[_T]:
        """`line` is ready when it ends."""
        future.add_done_callback(lambda _: self._ready.put(line))
        return future
