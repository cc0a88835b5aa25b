"""Time of a whole session beside a bare loop that does the same compiles and the same waits for a GPU.

    python -m benchmarks.session.overhead [--trials 60] [--seconds 0.2] [--serial]

Both sides have one compile process and one GPU whose measurements take `--seconds`; both are cold, and both are timed
without the start of processes and without proofs; enumerating the space is the session's own work. The bare loop
compiles a config, waits, and goes on; the session compiles the next ones meanwhile, so its ratio may be under 1:
`--serial` keeps it from that, to show what its own work costs.

That work is told by itself too: the same session once more, whose executors know all answers and give them at
once, in seconds of this process's CPU, which other programs on the machine do not stretch.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Problem, build
from autotune.tuning.jobs import compile_job
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.measurement.simulated import Simulated, Weather
from autotune.tuning.search import trials
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session import executors
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.executors import Executors, Pool, Start
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.progress import Status
from autotune.tuning.session.session import Session
from autotune.tuning.workers.worker import Job, Limits, Workers

KERNEL, DEVICE = "gemm/fp8_block_scaled", "mi355x"


class _Done(Exception):
    """The search is over; what follows is not compared."""


def another() -> Job:
    """Job of another kernel: a worker that has compiled it has imported the compiler."""
    kernel, device = registry.load("quant/fp8_group_quant"), devices.named(DEVICE)
    other = build(kernel.problem, {"rows": 64, "cols": 1536, "dtype": device.fp8}, "overhead")
    return Subject.of(kernel, device).job(other, kernel.default(other, device))


@dataclass(frozen=True)
class Known:
    """A pool that gives answers of an earlier session at once; measurements that wait for nothing are made here."""

    compiled: dict[Job, Any]

    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future[Any]:  # noqa: ANN401
        future: Future[Any] = Future()
        future.set_result(self.compiled[argument] if task is compile_job else task(argument))
        return future


@dataclass(frozen=True)
class Noting:
    """A pool that remembers what was compiled."""

    pool: Pool
    compiled: dict[Job, Any]

    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future[Any]:  # noqa: ANN401
        future = self.pool.submit(task, argument)
        if task is compile_job:
            future.add_done_callback(lambda done: self.compiled.__setitem__(argument, done.result()))
        return future


@dataclass(frozen=True)
class Times:
    """Seconds of a search: wall time, and `cpu` time of this process to the first told trial and for all others."""

    seconds: float
    cpu: tuple[float, float]


def session(given: argparse.Namespace, folder: Path, seconds: float, start: Start) -> Times:
    """From `run` to the last told trial."""
    kernel, device = registry.load(KERNEL), devices.named(DEVICE)
    marks: list[tuple[float, float]] = []

    def mark() -> None:
        marks.append((time.perf_counter(), time.process_time()))

    def progress(status: Status) -> None:
        mark()
        if status.done == status.of:
            raise _Done

    bench = Simulated(weather=Weather(noise=0.0), seconds=seconds)
    plan = Plan(folder / "t", folder / "s", Budget(given.trials), limits=Limits(processes=1), bench=bench, start=start)
    tuning = Session(kernel, device, plan, progress)
    mark()
    with suppress(_Done):
        tuning.run({problem(): 1})
    begin, first, last = marks[0], marks[1], marks[-1]
    return Times(last[0] - begin[0], (first[1] - begin[1], last[1] - first[1]))


def warmed(given: argparse.Namespace, compiled: dict[Job, Any], starting: list[float]) -> Start:
    """Local executors whose processes have begun; the seconds that took go into `starting`."""

    @contextmanager
    def start(limits: Limits, state: Path, bench: Bench | None) -> Iterator[Executors]:
        with executors.local(limits, state, bench) as started:
            begin = time.perf_counter()
            for pool in (started.compilers, *started.lanes):
                pool.submit(compile_job, another()).result()
            starting.append(time.perf_counter() - begin)
            yield Executors(Noting(started.compilers, compiled), [started.compilers] if given.serial else started.lanes)

    return start


def informed(compiled: dict[Job, Any]) -> Start:
    @contextmanager
    def start(limits: Limits, state: Path, bench: Bench | None) -> Iterator[Executors]:
        yield Executors(Known(compiled), [Known(compiled)])

    return start


def tried(folder: Path) -> list[Config]:
    """In the order asked."""
    filed = Simulated().table_device(DEVICE)
    (found,) = trials.read(folder / "s", filed, registry.load(KERNEL))
    return [config for config, _ in found.outcomes]


def problem() -> Problem:
    kernel, device = registry.load(KERNEL), devices.named(DEVICE)
    made: Problem = build(kernel.problem, {"m": 64, "n": 2048, "k": 7168, "dtype": device.fp8}, "overhead")
    return made


def bare(given: argparse.Namespace, folder: Path, configs: list[Config]) -> float:
    """Seconds of a user's own loop: compile in a process, wait for the GPU, next."""
    subject = Subject.of(registry.load(KERNEL), devices.named(DEVICE))
    with Workers(Limits(processes=1), folder) as workers:
        workers.submit(compile_job, another()).result()
        begin = time.perf_counter()
        for config in configs:
            found = workers.submit(compile_job, subject.job(problem(), config)).result()
            if "resources" in found:
                time.sleep(given.seconds)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=0.2, help="of one measurement")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--serial", action="store_true", help="the session measures in its compile process")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ratios = []
    for _ in range(given.repeat):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            compiled: dict[Job, Any] = {}
            starting: list[float] = []
            measured = session(given, folder / "ours", given.seconds, warmed(given, compiled, starting))
            ours = measured.seconds - starting[0]
            own = session(given, folder / "own", 0.0, informed(compiled))
            theirs = bare(given, folder / "bare", tried(folder / "ours"))
        ratios.append(ours / theirs)
        first, others = own.cpu
        print(
            f"session {ours:.2f} s, bare loop {theirs:.2f} s, ratio {ours / theirs:.3f}; own work: {first:.2f} s to "
            f"the first trial, {1e3 * others / (given.trials - 1):.1f} ms for each other, together "
            f"{(first + others) / theirs:.2%} of the loop",
            file=sys.stderr,
            flush=True,
        )
    print(f"{given.trials} trials: median ratio {sorted(ratios)[len(ratios) // 2]:.3f}")


if __name__ == "__main__":
    main()
