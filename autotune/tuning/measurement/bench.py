"""The interface between a session and a GPU, real or simulated: a measurement and its result."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autotune.errors import CandidateFailed
from autotune.tuning.workers.worker import Job


class NoLibrary(CandidateFailed):
    """The kernel names no library, or this build of torch cannot do the problem."""

    stage = "measure"


class OutOfMemory(CandidateFailed):
    """The device had no room for this call; its context is whole."""

    stage = "measure"


class Sticky(CandidateFailed):
    """An illegal access or a lost context: every later call of this process fails too."""

    stage = "measure"


@dataclass(frozen=True)
class Timing:
    """Repeated times of one call, cold caches; clocks where the driver tells them."""

    samples_us: tuple[float, ...]
    clock_mhz: int | None = None
    throttled_by: str = ""
    """Reasons, other than load, that held the clock down: the driver's, or where it gives none, a clock more than
    5 % under the highest that this process has seen. Empty: nothing did."""

    @property
    def throttled(self) -> bool:
        return bool(self.throttled_by)

    @property
    def us(self) -> float:
        return statistics.median(self.samples_us)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a fraction of the median."""
        if len(self.samples_us) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples_us, n=4)
        return (high - low) / 2 / self.us


class Meter(Protocol):
    """One GPU, opened in a process of its own. Failures are raised as CandidateFailed; hangs the caller ends."""

    def prepare(self, job: Job) -> None:
        """Draws the inputs and computes the reference of the job's problem, unless it was the last one."""

    def check(self, job: Job) -> float:
        """Launches several times; the worst error as a fraction of its bound, at most 1. Raises WrongResult."""

    def time(self, jobs: Sequence[Job], samples: int) -> tuple[Timing, ...]:
        """Times of jobs that already passed `check`, interleaved job by job, forwards and backwards in turn.

        Each has at least `samples` samples, sample i of all of them taken in one pass.
        """


class Bench(Protocol):
    """A bench that measuring processes open; hashable and picklable for that reason."""

    @property
    def name(self) -> str:
        """`gpu`, `simulated:7`: part of the key of everything measured here."""

    @property
    def tier(self) -> str:
        """Tier of rows measured here."""

    @property
    def slots(self) -> int:
        """How many GPUs."""

    @property
    def runs_code(self) -> bool:
        """True if equal machine code on equal grids takes equal time here, so that one of equals is measured."""

    def table_device(self, device: str) -> str:
        """The device name under which rows measured here are filed."""

    def open(self, slot: int) -> Meter: ...
    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class Check:
    """One question to one GPU: is `job` right there? Nothing is timed."""

    bench: Bench
    slot: int
    job: Job


@dataclass(frozen=True)
class Measurement:
    """One question to one GPU: how long do `jobs` take, after each is proved right there where `check` says so.

    Without `check` a config that is wrong is timed too, for study.
    """

    bench: Bench
    slot: int
    jobs: tuple[Job, ...]
    samples: int
    check: bool = True
    record: tuple[Path, tuple[str, ...]] | None = None
    """Root and key of a Cache where the worker itself writes the answer before it gives it: a session that is killed
    in between has lost nothing."""
