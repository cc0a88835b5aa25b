"""How near the optimum each optimiser comes on exhaustively measured tuning spaces, ours and its peers in one run.

    pip install kernel-tuner scikit-learn          # the `benchmark` group of pyproject.toml
    python -m benchmarks.search.replay --data FOLDER [--repeats 10] [--minutes 10] [--optimisers ours]

The figure is optimum / best time so far after N unique evaluations; failed configs count. Every run is kept in
--cache with the release of its optimiser (ours: a hash of its sources), so that the same command resumes where
--minutes ended it. `ours:drawn` begins at a config drawn at random: all repeats of `ours` on a space begin near one
config, and the error over repeats does not show the luck of that. `ours+siblings` begins with what `ours` saw in as
many evaluations on other devices with the same kernel, never the space itself: it is no black-box figure and stands
apart.
Optuna's GP gets 3 repeats: it takes minutes a run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from benchmarks.search import replay_spaces
from benchmarks.search.optimisers import OPTIMISERS, OURS, SIBLINGS, Tried, large_space, release, run
from benchmarks.search.replay_spaces import Space
from tools.data import required

BUDGETS = (10, 25, 50, 100, 200)
JUDGED = 100
"""Evaluations after which spaces are compared, or as many of BUDGETS as were made."""
CANDIDATES = 20_000
SLOW = {"optuna:tpe": 10, "optuna:gp": 3}
"""Most repeats of what takes a quarter of a minute and minutes a run."""

Job = tuple[str, str, int]
"""Space, optimiser, seed."""


@dataclass(frozen=True)
class Run:
    """One repetition: configs in the order tried."""

    space: str
    optimiser: str
    seed: int
    evaluations: int
    """Evaluations that were asked for: some optimisers plan by them."""
    release: str
    tried: Tried
    seconds: tuple[float, ...]
    """Seconds of each suggestion; empty where the optimiser owns its loop."""


def jobs(names: list[str], optimisers: list[str], seeds: range) -> Iterator[Job]:
    """By repeat, so that a run cut short is a whole run of fewer repeats; the slow ones after all others."""
    for late in (False, True):
        for repeat, seed in enumerate(seeds):
            for optimiser in optimisers:
                if (optimiser in SLOW) == late and repeat < SLOW.get(optimiser, len(seeds)):
                    yield from ((name, optimiser, seed) for name in names)


def perform(item: tuple[Path, Job, int, list[Run]]) -> Run:
    data, (name, optimiser, seed), evaluations, histories = item
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = replay_spaces.load(data, name)
    elsewhere = [_observed(data, history) for history in histories]
    made = run(space, optimiser, seed, evaluations, elsewhere)
    return Run(name, optimiser, seed, evaluations, release(optimiser), *made)


def _observed(data: Path, history: Run) -> list[tuple[dict[str, Any], float]]:
    there = replay_spaces.load(data, history.space)
    return [(there.config(values), there.times[values]) for values in history.tried]


def _siblings(data: Path, job: Job, done: dict[Job, Run]) -> list[Run]:
    name, _, seed = job
    here = replay_spaces.load(data, name)
    return [
        done[other, OURS, seed]
        for other in replay_spaces.names(data)
        if other != name
        and (other, OURS, seed) in done
        and (replay_spaces.load(data, other).kernel, replay_spaces.load(data, other).names) == (here.kernel, here.names)
    ]


def cached(path: Path, evaluations: int) -> Iterator[Run]:
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        if row.get("evaluations") == evaluations and row["release"] == release(row["optimiser"]):
            yield Run(**{**row, "tried": tuple(map(tuple, row["tried"])), "seconds": tuple(row["seconds"])})


def complete(arguments: argparse.Namespace, todo: Iterable[Job], done: dict[Job, Run]) -> None:
    """Performs what is missing, those of siblings last, until the minutes are over."""
    end = time.monotonic() + 60 * arguments.minutes
    missing = [job for job in todo if job not in done]
    with multiprocessing.Pool(arguments.processes) as pool, arguments.cache.open("a") as kept:
        for last in (False, True):
            phase = [job for job in missing if (job[1] == SIBLINGS) == last]
            histories = [_siblings(arguments.data, job, done) if last else [] for job in phase]
            items = [
                (arguments.data, job, arguments.evaluations, history)
                for job, history in zip(phase, histories, strict=True)
                if history or not last
            ]
            for made in pool.imap_unordered(perform, items):
                done[made.space, made.optimiser, made.seed] = made
                kept.write(json.dumps(asdict(made)) + "\n")
                kept.flush()
                if time.monotonic() > end:
                    return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0, help="others than 0 to 19 chose nothing in the sampler")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--optimisers", default=",".join(OPTIMISERS))
    parser.add_argument("--spaces", help="names, joined by commas (default: all)")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "search_replay.jsonl")
    arguments = parser.parse_args()
    required(arguments.data, "index.json")
    names = arguments.spaces.split(",") if arguments.spaces else replay_spaces.names(arguments.data)
    done = {(run.space, run.optimiser, run.seed): run for run in cached(arguments.cache, arguments.evaluations)}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.repeats)
    todo = list(jobs(names, arguments.optimisers.split(","), seeds))
    budgets = tuple(budget for budget in BUDGETS if budget <= arguments.evaluations)
    if not budgets:
        parser.error(f"--evaluations must be at least {BUDGETS[0]}")
    complete(arguments, todo, done)
    report(arguments.data, [done[job] for job in todo if job in done], budgets)


def curve(space: Space, tried: Tried, budgets: Sequence[int]) -> list[float]:
    """optimum / best so far at each budget; 0 while everything failed, the last value where a run ended early."""
    best = list(itertools.accumulate((space.times[values] for values in tried), min))
    return [space.best / best[min(budget, len(best)) - 1] for budget in budgets]


def report(data: Path, runs: list[Run], budgets: Sequence[int]) -> None:
    found: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for made in runs:
        found[made.optimiser][made.space].append(curve(replay_spaces.load(data, made.space), made.tried, budgets))
    judged = sum(budget <= JUDGED for budget in budgets) - 1
    columns = " ".join(f"{budget:>6}" for budget in budgets)
    print(f"{'optimum / best so far after N evaluations':62} {columns}   worst space at {budgets[judged]}")
    for optimiser in OPTIMISERS:
        if optimiser == SIBLINGS and SIBLINGS in found:
            print("\nnot a black box: begun with what `ours` saw on each other device of the same kernel")
            _line(f"{OURS}, on the same spaces", {name: found[OURS][name] for name in found[SIBLINGS]}, judged)
        if optimiser in found:
            _line(optimiser, found[optimiser], judged)
    for optimiser in (OURS, SIBLINGS):
        if optimiser in found:
            print(f"\n{optimiser}, by space (mean; the worst repeat at {budgets[judged]})")
        for name, curves in found[optimiser].items():
            print(f"  {name:48} {_row(np.mean(curves, 0))}   {min(c[judged] for c in curves):.3f}")
    _speed()


def _line(head: str, spaces: dict[str, list[list[float]]], judged: int) -> None:
    means = {name: np.mean(curves, 0) for name, curves in spaces.items()}
    error = np.sqrt(sum(np.var(curves, 0) / len(curves) for curves in spaces.values())) / len(spaces)
    repeats = [len(curves) for curves in spaces.values()]
    low = min(means, key=lambda name: means[name][judged])
    shown = f"{min(repeats)}" if min(repeats) == max(repeats) else f"{min(repeats)} to {max(repeats)}"
    head = f"{head} ({len(spaces)} spaces, {shown} repeats)"
    print(f"{head:62} {_row(np.mean(list(means.values()), 0))}   {means[low][judged]:.3f} {low}")
    print(f"{'    +- standard error over repeats':62} {_row(error)}")


def _row(values: Any) -> str:  # noqa: ANN401
    return " ".join(f"{value:6.3f}" for value in values)


def _speed() -> None:
    """Measured anew, so that it is of this machine and these sources."""
    _, seconds = run(large_space(CANDIDATES), OURS, 0, BUDGETS[-1], [])
    ms = 1e3 * np.array(seconds)
    print(
        f"\nours, a suggestion among {CANDIDATES} candidates, CPU time over {len(ms)} of one study: "
        f"mean {ms.mean():.1f} ms, median {np.median(ms):.1f}, 95 % {np.quantile(ms, 0.95):.1f}, most {ms.max():.0f}"
    )


if __name__ == "__main__":
    main()
