"""Worker processes with a wall timeout and a memory limit. Imports no Triton."""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

from pebble import ProcessExpired, ProcessPool

from autotune.config import Config, Key


@dataclass(frozen=True)
class Job:
    """One config on one problem for one device, in terms that a fresh process can rebuild."""

    kernel: str
    problem: Key
    config: Config
    device: str


@dataclass(frozen=True)
class Limits:
    processes: int = max(1, os.cpu_count() or 1)
    timeout_s: float = 120.0
    """Healthy compiles take 0.2 to 2 s; FP8 emulation has been seen to take 237 s."""
    memory_gb: float = 6.0


class Workers:
    """A pool that survives what its tasks do; processes start with the first task."""

    def __init__(self, limits: Limits, state: Path, *, interpret: bool = False) -> None:
        self._limits, self._state, self._interpret = limits, state, interpret
        self._pool: ProcessPool | None = None

    def run(
        self, task: Callable[[Job], dict[str, Any]], jobs: Iterable[Job]
    ) -> Iterator[tuple[Job, dict[str, Any] | str]]:
        """Results as they come: the task's, or why its process gave none."""
        waiting: dict[Future[dict[str, Any]], Job] = {}
        for job in jobs:
            waiting[self._started().schedule(task, args=(job,), timeout=self._limits.timeout_s)] = job
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield waiting.pop(future), self._outcome(future)

    def _outcome(self, future: Future[dict[str, Any]]) -> dict[str, Any] | str:
        try:
            return future.result()
        except FutureTimeout:
            return f"took longer than {self._limits.timeout_s:.0f} s and was killed"
        except ProcessExpired as death:
            return f"the worker process died (exit code {death.exitcode})"
        except MemoryError:
            return f"needed more than {self._limits.memory_gb:.0f} GB"

    def _started(self) -> ProcessPool:
        if self._pool is None:
            self._pool = ProcessPool(
                max_workers=self._limits.processes,
                context=multiprocessing.get_context("spawn"),
                initializer=_limit_memory,
                initargs=(self._limits.memory_gb,),
            )
        return self._pool

    def __enter__(self) -> Workers:
        # By inheritance, not by the initializer: a spawned process imports the parent's main module first, which may
        # import Triton, and Triton reads its mode then.
        names = {
            "OMP_NUM_THREADS": "1",
            "TRITON_CACHE_DIR": str(self._state / "triton"),
            # Today's default, said aloud: Triton 3.10 will change it, and tables are tied to one choice.
            "TRITON_DEFAULT_FP_FUSION": os.environ.get("TRITON_DEFAULT_FP_FUSION", "1"),
            **({"TRITON_INTERPRET": "1"} if self._interpret else {}),
        }
        self._environment = mock.patch.dict(os.environ, names)
        self._environment.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._environment.stop()
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()


def _limit_memory(memory_gb: float) -> None:
    limit = int(memory_gb * 2**30)
    # RLIMIT_DATA, not RLIMIT_AS: torch and LLVM map far more address space than they touch.
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
