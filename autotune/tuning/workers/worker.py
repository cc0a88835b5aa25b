"""Worker processes with a wall timeout and a memory limit. Imports no Triton."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from autotune.config import Config, Key
from autotune.errors import MachineError
from autotune.toolchain import compiler_environment
from autotune.tuning.workers.process import Isolated, Lost, Start


@dataclass(frozen=True)
class Job:
    """One config on one problem for one device, in terms that a fresh process can rebuild."""

    kernel: str
    problem: Key
    config: Config
    device: str
    library: bool = False
    """The call of the kernel's library in place of the kernel; `config` is empty then."""
    addresses: bool = False
    """The address arithmetic alone, at a size that may be too large for the interpreter."""


@dataclass(frozen=True)
class Limits:
    processes: int = len(os.sched_getaffinity(0))
    """Cores that this process may use: fewer than the machine has in a container or a batch job."""
    timeout_s: float = 120.0
    """Healthy compiles take 0.2 to 2 s; FP8 emulation has been seen to take 237 s."""
    measure_timeout_s: float = 60.0
    """Healthy measurements take under 5 s; a hang is known only by waiting."""
    prepare_timeout_s: float = 600.0
    """For the start of CUDA, the drawing of inputs, and references that loop over hundreds of rows in Python."""
    memory_gb: float = 6.0
    measure_memory_gb: float = 32.0
    """The runtimes of CUDA and ROCm map memory that they never touch; what they only reserve does not count."""


class Workers:
    """A pool that survives what its tasks do; processes start with the first tasks.

    `prepare` is called with each task's argument before it, with a limit of its own, and is to do what no config can be
    blamed for.
    """

    def __init__(
        self,
        limits: Limits,
        state: Path,
        *,
        interpret: bool = False,
        prepare: Callable[[Any], None] | None = None,
    ) -> None:
        self._limits, self._prepare = limits, prepare
        start = Start(_environment(state, interpret), limits.memory_gb, forked=not interpret)
        self._processes = [Isolated(start) for _ in range(limits.processes)]
        self._idle: SimpleQueue[Isolated] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(limits.processes, thread_name_prefix="workers")

    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future[Any]:  # noqa: ANN401
        """Return a future of the task's result; it raises Lost if the process gives no answer."""
        return self._threads.submit(self._call, task, argument)

    def run(
        self, task: Callable[[Job], dict[str, Any]], jobs: Iterable[Job]
    ) -> Iterator[tuple[Job, dict[str, Any] | str]]:
        """Results as they come: the task's, or why its process gave none."""
        waiting = {self.submit(task, job): job for job in jobs}
        for future in as_completed(waiting):
            try:
                yield waiting[future], future.result()
            except Lost as lost:
                yield waiting[future], str(lost)

    def _call(self, task: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        process = self._idle.get()
        try:
            if self._prepare is not None:
                self._prepared(process, self._prepare, argument)
            return process.call(task, argument, self._limits.timeout_s)
        finally:
            self._idle.put(process)

    def _prepared(self, process: Isolated, prepare: Callable[[Any], None], argument: Any) -> None:  # noqa: ANN401
        try:
            process.call(prepare, argument, self._limits.prepare_timeout_s)
        except Lost as lost:
            if lost.kind == "memory":
                raise  # the problem is too large for this machine, whatever its config
            raise MachineError(
                f"inputs and reference of {argument} were not ready: {lost}; see `autotune doctor`, then run the same "
                "command again"
            ) from lost

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.kill()  # a thread that waits for an answer sees the end of the line
        self._threads.shutdown()
        for process in self._processes:
            process.close()


def _environment(state: Path, interpret: bool) -> dict[str, str]:
    """Return the environment of worker processes: this one's, with every variable that affects results set."""
    names = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return names | {
        "OMP_NUM_THREADS": "1",
        "TRITON_CACHE_DIR": str(state / "triton"),
        **compiler_environment(),
        **({"TRITON_INTERPRET": "1"} if interpret else {}),
    }
