"""Who does a session's work: compile workers on CPUs and one measuring lane a GPU, here or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from autotune.tuning.measurement.bench import Bench
from autotune.tuning.workers.worker import Limits, Workers


class Pool(Protocol):
    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future[Any]:  # noqa: ANN401
        """What `task` will return; Lost where its process gives no answer."""


@dataclass(frozen=True)
class Crew:
    compilers: Pool
    lanes: Sequence[Pool]
    """One process a GPU; a problem is always measured on the same one."""


Hire = Callable[[Limits, Path, Bench | None], AbstractContextManager[Crew]]


def measuring(limits: Limits) -> Limits:
    """What holds for the processes of lanes."""
    return replace(limits, timeout_s=limits.measure_timeout_s, memory_gb=limits.measure_memory_gb)


@contextmanager
def local(limits: Limits, state: Path, bench: Bench | None) -> Iterator[Crew]:
    """Processes of this machine."""
    with ExitStack() as stack:
        compilers = stack.enter_context(Workers(limits, state))
        one = replace(measuring(limits), processes=1)
        lanes = [stack.enter_context(Workers(one, state)) for _ in range(bench.slots if bench else 0)]
        yield Crew(compilers, lanes)
