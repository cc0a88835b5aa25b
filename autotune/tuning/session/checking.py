"""Configs held against the float64 reference on a bench, with nothing timed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from autotune.errors import MachineError
from autotune.tuning.jobs import check_job
from autotune.tuning.measurement.bench import Bench, Check
from autotune.tuning.session.executors import lane
from autotune.tuning.workers.process import Lost
from autotune.tuning.workers.worker import Job, Limits


def check(bench: Bench, jobs: Sequence[Job], state: Path) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Each job with what `check_job` says of it, in the order given; jobs of one problem are checked on one GPU.

    A process that hung or died fails its job with that kind, and the next job gets a new process.
    """
    problems = list(dict.fromkeys((job.kernel, job.problem) for job in jobs))
    slots = {problem: number % bench.slots for number, problem in enumerate(problems)}
    with ExitStack() as stack:
        lanes = [stack.enter_context(lane(Limits(), state)) for _ in range(bench.slots)]
        asked = [Check(bench, slots[job.kernel, job.problem], job) for job in jobs]
        answers = [lanes[check.slot].submit(check_job, check) for check in asked]
        for job, answer in zip(jobs, answers, strict=True):
            try:
                yield job, answer.result()
            except Lost as lost:
                yield job, {"failed": "measure", "kind": lost.kind, "reason": str(lost)}
            except MachineError as error:  # nothing is kept of it, and the other problems may be ready
                yield job, {"failed": "measure", "kind": "error", "reason": str(error)}
