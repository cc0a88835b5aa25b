"""A session on simulated GPUs where configs hang, crash, lie and lose contexts, and that is killed again and again.

    python -m benchmarks.session.chaos      # 2,016 candidates, 20 kills: 6 to 10 minutes on two cores
    python -m benchmarks.session.chaos --rows 64 --cols 1536 --trials 20 --kills 2 --rate 3 --skip-calm

Prints one JSON object; exit code 1 where a trial was lost or measured twice, a wrong config got into the table, or the
winners are not the best tried that work and can be proved, within the noise. A kill may fall in the millisecond between
the end of a measurement and its answer on disk: then it has to be made again, and is told by itself.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna

from autotune import device as devices
from autotune import registry, table
from autotune.config import Config, Problem, build, describe, key
from autotune.state import Cache
from autotune.tuning import space
from autotune.tuning.measurement.simulated import Faults, Modeled, Simulated, Weather
from autotune.tuning.search.stopping import Budget
from autotune.tuning.search.storage import journal
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.evaluator import SAMPLES
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.progress import Progress
from autotune.tuning.session.session import Session
from autotune.tuning.validation.coverage import problems_to_prove
from autotune.tuning.workers.worker import Job, Limits

KERNEL, DEVICE = "quant/fp8_group_quant", "mi355x"
NOISE = 0.01
TOLERANCE = 0.03
"""An interval may lose 1 %, a race of this noise another 1 to 2 %."""
FAULTS = {"hang": 0.05, "segfault": 0.05, "sticky": 0.05, "wrong": 0.05, "out_of_memory": 0.02}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 64, 512, 4096])
    parser.add_argument("--cols", type=int, nargs="+", default=[1536, 4096, 7168])
    parser.add_argument("--trials", type=int, default=168, help="of each problem; their spaces have 276 to 348 configs")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the rates of all faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds after which a measurement hangs")
    parser.add_argument("--skip-calm", action="store_true", help="run no second session without faults and kills")
    return parser.parse_args()


def bench(given: argparse.Namespace, folder: Path, calm: bool) -> Simulated:
    """Both benches have one surface; only one of them has faults."""
    rates = {name: 0.0 if calm else share * given.rate for name, share in FAULTS.items()}
    seed = 2 * given.seed + (0 if calm else 1)
    trace = folder / ("calm.trace" if calm else "chaos.trace")
    weather = Weather(noise=NOISE, drift=0.02, throttle=0.05)
    return Simulated(seed, Modeled(given.seed), weather, Faults(**rates), slots=2, trace=trace)


def problems(given: argparse.Namespace) -> dict[Problem, int]:
    kernel = registry.load(KERNEL)
    sizes = itertools.product(given.rows, given.cols)
    return {build(kernel.problem, {"rows": rows, "cols": cols}, "chaos"): 1 for rows, cols in sizes}


def session(given: argparse.Namespace, folder: Path, calm: bool, progress: Progress) -> None:
    plan = Plan(
        tables=folder / "tables",
        state=folder / "state",
        budget=Budget(trials=given.trials),
        limits=Limits(processes=2, measure_timeout_s=given.timeout),
        bench=bench(given, folder, calm),
    )
    Session(registry.load(KERNEL), devices.named(DEVICE), plan, progress).run(problems(given))


@dataclass
class Kills:
    """Trials and jobs on disk when the session was killed."""

    count: int = 0
    trials: dict[str, str] = field(default_factory=dict)
    """Outcomes by problem and config."""
    unanswered: Counter[str] = field(default_factory=Counter)
    """How often a job had been timed with no answer on disk: as often it may be timed again."""


def run_and_kill(given: argparse.Namespace, folder: Path) -> Kills:
    """Runs the session to its end, with kills at random numbers of finished trials."""
    chance = random.Random(given.seed)
    total = given.trials * len(problems(given))
    moments = sorted(chance.randrange(1, total) for _ in range(given.kills))
    kills = Kills()
    while True:
        child, statuses = begin(given, folder)
        with suppress(EOFError):
            while True:
                status = statuses.recv()
                if moments and status.stage == "search" and status.done >= moments[0]:
                    time.sleep(chance.uniform(0, 0.3))  # in the midst of whatever it does next
                    child.kill()
                    moments = moments[1:]
                    kills.count += 1
                    print(f"kill {kills.count} at {status.done} trials", file=sys.stderr, flush=True)
                    break
        child.join()
        if child.exitcode == 0:
            return kills
        assert child.exitcode == -signal.SIGKILL, f"the session ended by itself with {child.exitcode}"
        time.sleep(0.1)  # its workers were killed with it
        kills.unanswered |= unanswered(given, folder)
        for name, outcome in finished(given, folder).items():
            assert kills.trials.setdefault(name, outcome) == outcome, f"{name} changed after a kill"


def unanswered(given: argparse.Namespace, folder: Path) -> Counter[str]:
    """Jobs that were timed, and how often, but whose answers are not on disk."""
    subject = Subject.of(registry.load(KERNEL), devices.named(DEVICE))
    answers = Cache(folder / "state/results")
    name = bench(given, folder, calm=False).name

    def answered(line: str) -> bool:
        _, problem, config, _ = line.split()
        return answers.get(*subject.key("measure", name, problem, config, str(SAMPLES))) is not None

    return Counter({line: count for line, count in timed(folder).items() if not answered(line)})


def timed(folder: Path) -> Counter[str]:
    """How often each job was timed alone, to the end."""
    trace = folder / "chaos.trace"
    return Counter(trace.read_text().splitlines() if trace.exists() else ())


def begin(given: argparse.Namespace, folder: Path) -> tuple[BaseProcess, Connection]:
    """A session in a process of its own, and where it tells its statuses; forked, so that it imports nothing again."""
    context = multiprocessing.get_context("fork")
    statuses, theirs = context.Pipe(duplex=False)
    child = context.Process(target=session, args=(given, folder, False, theirs.send))
    child.start()
    theirs.close()
    return child, statuses


def finished(given: argparse.Namespace, folder: Path, calm: bool = False) -> dict[str, str]:
    """Outcomes by problem and config, read from the journal as a stranger would."""
    filed = bench(given, folder, calm).table_device(DEVICE)
    storage = journal(folder / "state/journal" / filed / f"{KERNEL}.log")
    found: dict[str, str] = {}
    for study in optuna.get_all_study_summaries(storage):
        for trial in optuna.load_study(study_name=study.study_name, storage=storage).get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.COMPLETE and "outcome" in trial.user_attrs:
                name = f"{study.study_name.split()[0]} {Config(trial.params)}"
                assert name not in found, f"{name} was tried twice"
                found[name] = trial.user_attrs["outcome"]
    return found


def served(rows: tuple[table.Row, ...], problem: Problem) -> table.Row | None:
    here = dict(key(problem))
    for row in rows:
        ends = {name: (low, high) for name, low, high in row.serves}
        there = dict(row.problem)
        inside = {n for n, (low, high) in ends.items() if low <= int(here[n]) <= high}
        if all(here[n] == there[n] or n in inside for n in here):
            return row
    return None


def regrets(given: argparse.Namespace, folder: Path, calm: bool) -> tuple[list[float], int]:
    """True loss of each served config against the best tried that works and can be proved to; and how many problems
    get a faulty one."""
    device, kernel, here = devices.named(DEVICE), registry.load(KERNEL), bench(given, folder, calm)
    loaded = space.load(kernel, device)
    rows = table.load(table.path_of(folder / "tables", device.arch, here.table_device(DEVICE), KERNEL)).rows
    tried = {name: json.loads(outcome) for name, outcome in finished(given, folder, calm).items()}
    found, wrong = [], 0

    def job(problem: Problem, config: Config) -> Job:
        return Job(KERNEL, key(problem), config, DEVICE)

    for problem in problems(given):
        feasible = space.feasible(loaded, kernel, problem, device)
        # What timed out on a busy machine is no candidate either, though nothing is wrong with it.
        healthy = [config for config in feasible if "us" in tried.get(f"{describe(problem)} {config}", {})]
        # Nor is what no check problem allows: it is never served, however fast.
        provable = [c for c in healthy if problems_to_prove(kernel, (problem, c), device, loaded.check, {})]
        row = served(rows, problem)
        assert row is not None, f"no row serves {problem}"
        wrong += bool(here.fault(job(problem, row.config)))
        best = min(here.surface.us(job(problem, config)) or 0 for config in provable)
        found.append((here.surface.us(job(problem, row.config)) or 0) / best - 1)
    return found, wrong


def calm_regrets(given: argparse.Namespace, folder: Path) -> list[float]:
    session(given, folder, calm=True, progress=lambda status: None)
    return regrets(given, folder, calm=True)[0]


def main() -> int:
    given = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.monotonic()
        kills = run_and_kill(given, folder)
        seconds = time.monotonic() - begin
        result = judge(given, folder, kills) | {"kills": kills.count, "seconds": round(seconds, 1)}
    print(json.dumps(result, indent=1))
    return 0 if result["fine"] else 1


def judge(given: argparse.Namespace, folder: Path, kills: Kills) -> dict[str, object]:
    after = finished(given, folder)
    lost = sum(after.get(name) != outcome for name, outcome in kills.trials.items())
    twice = sum(count - kills.unanswered[line] > 1 for line, count in timed(folder).items())
    kinds = Counter(json.loads(outcome).get("kind", "fine") for outcome in after.values())
    chaos, wrong = regrets(given, folder, calm=False)
    calm = [] if given.skip_calm else calm_regrets(given, folder)
    total = given.trials * len(problems(given))
    fine = len(after) == total and not (lost or twice or wrong) and max(chaos) <= TOLERANCE
    return {
        "candidates": len(after),
        "expected": total,
        "outcomes": dict(kinds),
        "trials lost": lost,
        "trials checked at kills": len(kills.trials),
        "measured twice": twice,
        "timed again, for a kill came before the answer was on disk": kills.unanswered.total(),
        "problems served by a faulty config": wrong,
        "regret against the best healthy and provable config tried": {
            "chaos": [round(value, 4) for value in chaos],
            "calm": [round(value, 4) for value in calm],
        },
        "fine": fine,
    }


if __name__ == "__main__":
    sys.exit(main())
