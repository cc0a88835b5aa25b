"""The measuring stage, seen from the session: each candidate once, whatever happens to the process that measures it."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from autotune.config import Config, Problem, describe
from autotune.errors import MachineError
from autotune.state import Cache
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.cost_model.model import predict
from autotune.tuning.counted_work import work_of
from autotune.tuning.jobs import measure_job
from autotune.tuning.measurement.bench import Bench, Measurement, Timing
from autotune.tuning.session.compiler import Candidate, Compiler, Subject
from autotune.tuning.session.crash_log import CrashLog
from autotune.tuning.session.executors import Pool
from autotune.tuning.workers.process import Lost

SAMPLES = 10
"""Samples of a candidate; finalists get more in their race."""

_DOUBTFUL = ("hang", "crash", "sticky", "error")
"""Failures that a GPU, a driver or a kernel that was killed may cause as well as the config."""


@dataclass
class Measurer:
    """Threads may measure together; one problem is always measured by the same lane."""

    subject: Subject
    bench: Bench
    lanes: Sequence[Pool]
    crash_log: CrashLog
    state: Path
    gpu_s: float = 0.0
    """In which GPUs checked and timed configs."""
    _lock: Lock = field(default_factory=Lock)
    _first: dict[tuple[Any, ...], Config] = field(default_factory=dict)
    _witness: dict[Problem, Config] = field(default_factory=dict)
    """A config that ran on this bench: where it no longer does, the machine is to blame."""

    def twin(self, candidate: Candidate, code: str) -> Config | None:
        """The config that was first seen to run the same machine code on the same grids for this problem."""
        if not self.bench.runs_code:
            return None
        first = self._first.setdefault((candidate.problem, code, candidate.grids), candidate.config)
        return None if first == candidate.config else first

    def slot(self, problem: Problem) -> int:
        """The lane that measures it, in every session with as many."""
        return int(hashlib.sha256(describe(problem).encode()).hexdigest(), 16) % len(self.lanes)

    def alone(self, problem: Problem, config: Config, samples: int = SAMPLES) -> dict[str, Any]:
        """Checked and timed once in the life of the state folder; a config that crashed before is not tried again."""
        parts = self.subject.key("measure", self.bench.name, describe(problem), str(config), str(samples))
        answer = Cache(self.state / "results").get(*parts)
        crash = self.subject.crashed(self.crash_log, problem, config)
        if answer is None and crash is not None:
            return {"failed": crash.stage, "kind": crash.kind, "reason": crash.reason}
        if answer is not None and "failed" in answer and crash is None:
            answer = None  # forgotten on purpose, or out of memory on another day
        if answer is None:
            answer = self._ask(problem, (config,), samples, record=parts)
        if "failed" in answer:
            if crash is None and answer["kind"] in _DOUBTFUL:
                self._doubt(problem, config, answer)
            named = (answer["failed"], answer["kind"], answer["reason"])
            self.crash_log.add(self.subject.crash(problem, config, *named))
            return {name: answer[name] for name in ("failed", "kind", "reason")}
        self._witness.setdefault(problem, config)
        times = Timing(tuple(answer["times"][0]))
        return {
            "us": round(times.us, 4),
            "samples": len(times.samples_us),
            "samples_us": list(times.samples_us),
            "spread": round(times.spread, 5),
            "error": answer["errors"][0],
            "clock_mhz": answer["clock_mhz"],
            "throttled": answer["throttled"],
        }

    def _doubt(self, problem: Problem, config: Config, answer: dict[str, Any]) -> None:
        """Raises MachineError where not `config` but the GPU or its driver has failed, before anything is kept of it.

        After a hang this is also the probe that the next config is not timed beside a kernel that still runs.
        """
        where = f"{self.subject.kernel.name} {describe(problem)} on bench {self.bench.name}"
        remedy = "see `autotune doctor`, then run the same command again"
        witness = self._witness.get(problem)
        if witness is not None:
            again = self._ask(problem, (witness,), 2, record=None)
            if "failed" in again:
                raise MachineError(
                    f"{where}: {config} failed ({answer['reason']}), and so does {witness} now, which ran before "
                    f"({again['reason']}); {remedy}"
                )
        elif answer["kind"] == "error" and config == self.subject.kernel.default(problem, self.subject.device):
            raise MachineError(f"{where}: the default config failed: {answer['reason']}; {remedy}")

    def together(self, problem: Problem, configs: Sequence[Config], passes: int) -> list[list[float]] | None:
        """Interleaved samples of configs that were measured alone before; None where a process gave no answer."""
        answer = self._ask(problem, tuple(configs), passes, record=None)
        return None if "failed" in answer else answer["times"]

    def medians(self, problem: Problem, configs: Sequence[Config], passes: int) -> dict[Config, float]:
        """Return the median time of each config that is right at `problem`; samples are interleaved."""
        good = [config for config in configs if "us" in self.alone(problem, config)]
        times = self.together(problem, good, passes) if good else []
        return {config: statistics.median(us) for config, us in zip(good, times or [], strict=bool(times))}

    def _ask(
        self, problem: Problem, configs: tuple[Config, ...], samples: int, record: tuple[str, ...] | None
    ) -> dict[str, Any]:
        jobs = tuple(self.subject.job(problem, config) for config in configs)
        slot = self.slot(problem)
        where = (self.state / "results", record) if record is not None else None
        asked = Measurement(self.bench, slot, jobs, samples, check=record is not None, record=where)
        try:
            answer: dict[str, Any] = self.lanes[slot].submit(measure_job, asked).result()
        except Lost as lost:
            return {"failed": "measure", "kind": lost.kind, "reason": str(lost)}
        with self._lock:
            self.gpu_s += answer.pop("gpu_s", 0.0)
        if record is not None and "failed" not in answer:
            Cache(self.state / "results").put(answer, *record)  # again, where the worker's disk is not ours
        return answer


@dataclass(frozen=True)
class Evaluator:
    subject: Subject
    compiler: Compiler
    measurer: Measurer | None
    """None: outcomes end at the model."""

    def __call__(self, problem: Problem, config: Config) -> dict[str, Any]:
        """A trial's whole outcome; waits for it."""
        candidate = self.compiler.candidate(problem, config)
        found = self.compiler.resources(candidate)
        known = self.known(candidate, found)
        if self.measurer is None or isinstance(found, str):
            return known
        twin = self.measurer.twin(candidate, found.code)
        return {**self.measurer.alone(problem, twin or config), **known}

    def known(self, candidate: Candidate, found: Resources | str) -> dict[str, Any]:
        """The part of an outcome that compiling tells: all of it where that failed, or where there is no bench."""
        if isinstance(found, str):
            return {"failed": "compile", "reason": found}
        problem, config, device = candidate.problem, candidate.config, self.subject.device
        prediction = predict(work_of(self.subject.kernel, problem, config, device), config, device, found)
        name = "modeled_us" if self.measurer else "us"
        model = {name: prediction.us, "range_us": prediction.range_us, "bound": prediction.bound}
        return {**model, "code": found.code, "spills": found.spills, "resources": found.as_json()}
