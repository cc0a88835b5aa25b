"""Who does a session's work: compile workers on CPUs and one measuring lane a GPU, here or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from autotune.tuning.jobs import prepare_job
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.workers.worker import Limits, Workers


class Pool(Protocol):
    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future[Any]:  # noqa: ANN401
        """Return a future of the task's result; it raises Lost if the process gives no answer."""


@dataclass(frozen=True)
class Executors:
    compilers: Pool
    lanes: Sequence[Pool]
    """One process a GPU; a problem is always measured on the same one."""


Start = Callable[[Limits, Path, Bench | None], AbstractContextManager[Executors]]


def lane(limits: Limits, state: Path) -> Workers:
    """The process that one GPU is measured from."""
    own = replace(limits, timeout_s=limits.measure_timeout_s, memory_gb=limits.measure_memory_gb, processes=1)
    return Workers(own, state, prepare=prepare_job)


def beside(lanes: int, limits: Limits) -> Limits:
    """Limits of compile workers: one core per lane stays free, since a launch that waits for a core looks slow."""
    cores = len(os.sched_getaffinity(0))
    return replace(limits, processes=max(1, min(limits.processes, cores - lanes)))


@contextmanager
def local(limits: Limits, state: Path, bench: Bench | None) -> Iterator[Executors]:
    """Processes of this machine."""
    slots = bench.slots if bench else 0
    with ExitStack() as stack:
        own = beside(slots, limits) if bench and bench.runs_code else limits
        compilers = stack.enter_context(Workers(own, state))
        yield Executors(compilers, [stack.enter_context(lane(limits, state)) for _ in range(slots)])
