"""Time of a whole session beside a bare loop that does the same compiles and the same waits for a GPU.

    python benchmarks/session_overhead.py [--trials 60] [--seconds 0.2]

Both sides have one compile process and one GPU whose measurements take `--seconds`; both are cold, and both are timed
without the start of processes and without proofs; enumerating the space is the session's own work. The bare loop
compiles a config, waits, and goes on; the session compiles the next ones meanwhile, so its ratio may be under 1:
`--serial` keeps it from that, to show what its own work costs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autotune import device as devices
from autotune import registry
from autotune.config import Config, build
from autotune.tuning import space
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.measurement.simulated import Simulated, Weather
from autotune.tuning.search.budget import Budget
from autotune.tuning.search.storage import journal
from autotune.tuning.search.study import Search
from autotune.tuning.session import crew
from autotune.tuning.session.compiling import Subject
from autotune.tuning.session.crew import Crew
from autotune.tuning.session.session import Plan, Session
from autotune.tuning.session.status import Status
from autotune.tuning.session.tasks import compile_job
from autotune.tuning.workers.worker import Job, Limits, Workers

KERNEL, DEVICE = "gemm/fp8_block_scaled", "mi355x"


class _Done(Exception):
    """The search is over; what follows is not compared."""


def warm(job: Job) -> str:
    import autotune.tuning.compilation.launch
    import autotune.tuning.compilation.resources

    registry.load(job.kernel)
    return autotune.tuning.compilation.launch.__name__ + autotune.tuning.compilation.resources.__name__


def session(given: argparse.Namespace, folder: Path) -> tuple[float, list[Config]]:
    """Seconds from `run` to the last told trial, the start of processes left out; and the configs in their order."""
    kernel, device = registry.load(KERNEL), devices.named(DEVICE)
    problem = build(kernel.problem, {"m": 64, "n": 2048, "k": 7168, "dtype": device.fp8}, "overhead")
    ends: list[float] = []
    starting: list[float] = []

    @contextmanager
    def warmed(limits: Limits, state: Path, bench: Bench | None) -> Iterator[Crew]:
        with crew.local(limits, state, bench) as hired:
            begin = time.perf_counter()
            first = Subject.of(kernel, device).job(problem, kernel.default(problem, device))
            for pool in (hired.compilers, *hired.lanes):
                pool.submit(warm, first).result()
            starting.append(time.perf_counter() - begin)
            yield Crew(hired.compilers, [hired.compilers] if given.serial else hired.lanes)

    def progress(status: Status) -> None:
        ends.append(time.perf_counter())
        if status.done == status.of:
            raise _Done

    bench = Simulated(weather=Weather(noise=0.0), seconds=given.seconds)
    plan = Plan(folder / "t", folder / "s", Budget(given.trials), limits=Limits(processes=1), bench=bench, hire=warmed)
    one = Session(kernel, device, plan, progress)
    begin = time.perf_counter()
    with suppress(_Done):
        one.run({problem: 1})
    path = folder / f"s/journal/{bench.table_device(DEVICE)}/{KERNEL}.log"
    kept = Search(journal(path), one._study(problem), space.load(kernel, device).lists, 0)
    return ends[-1] - begin - starting[0], list(kept.outcomes)


def bare(given: argparse.Namespace, folder: Path, configs: list[Config]) -> float:
    """What a user would write: compile in a process, wait for the GPU, next."""
    kernel, device = registry.load(KERNEL), devices.named(DEVICE)
    problem = build(kernel.problem, {"m": 64, "n": 2048, "k": 7168, "dtype": device.fp8}, "overhead")
    subject = Subject.of(kernel, device)
    with Workers(Limits(processes=1), folder) as workers:
        workers.submit(warm, subject.job(problem, configs[0])).result()
        begin = time.perf_counter()
        for config in configs:
            found = workers.submit(compile_job, subject.job(problem, config)).result()
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
            ours, configs = session(given, Path(name) / "ours")
            theirs = bare(given, Path(name) / "bare", configs)
        ratios.append(ours / theirs)
        print(f"session {ours:.2f} s, bare loop {theirs:.2f} s, ratio {ours / theirs:.3f}", file=sys.stderr, flush=True)
    print(f"{given.trials} trials: median ratio {sorted(ratios)[len(ratios) // 2]:.3f}")


if __name__ == "__main__":
    main()
