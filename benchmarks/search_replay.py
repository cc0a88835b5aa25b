"""How near the optimum each optimiser comes on exhaustively measured tuning spaces, ours and its peers in one run.

    pip install kernel-tuner scikit-learn          # the `benchmark` group of pyproject.toml
    python benchmarks/search_replay.py --data ../shared/data/replay [--repeats 10] [--optimisers ours,optuna:tpe]

The figure is optimum / best time so far after N unique evaluations; failed configs count. Every run is kept in
--cache, so that the command resumes and merges. `ours+neighbours` has the histories of `ours` on the other devices
of the data that share the kernel's parameters, never the space itself: it is no black-box figure.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import lzma
import math
import multiprocessing
import random
import tempfile
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from autotune.tuning.search.sampler import FeasibleSampler
from autotune.tuning.search.suggest import opinion

BUDGETS = (10, 25, 50, 100, 200)
OURS, NEIGHBOURS = "ours", "ours+neighbours"
KERNEL_TUNER = ("dual_annealing", "adaptive_tabu_greywolf", "hybrid_vndx", "genetic_algorithm", "pso", "random_sample")
OPTIMISERS = (OURS, NEIGHBOURS, "optuna:tpe", "optuna:gp", *(f"kernel_tuner:{name}" for name in KERNEL_TUNER))


@dataclass(frozen=True)
class Space:
    """Every config of one kernel on one device with its time, infinite where it failed."""

    name: str
    kernel: str
    names: tuple[str, ...]
    times: dict[tuple[Any, ...], float]

    @property
    def best(self) -> float:
        return min(self.times.values())

    def config(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self.names, values, strict=True))

    @property
    def lists(self) -> dict[str, list[Any]]:
        return {name: sorted({values[i] for values in self.times}) for i, name in enumerate(self.names)}


@cache
def load(data: Path, name: str) -> Space:
    index = {entry["name"]: entry for entry in json.loads((data / "index.json").read_text())}[name]
    with lzma.open(data / f"{name}.csv.xz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    names = tuple(index["params"])
    keys = [tuple(_number(row[name]) for name in names) for row in rows]
    times = {
        key: float(row["time_ms"]) if row["status"] == "ok" else math.inf for key, row in zip(keys, rows, strict=True)
    }
    return Space(name, index["kernel"], names, times)


def _number(text: str) -> Any:  # noqa: ANN401
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True)
class Run:
    """One repetition: configs in the order tried."""

    space: str
    optimiser: str
    seed: int
    tried: tuple[tuple[Any, ...], ...]
    seconds: tuple[float, ...]
    """Of each suggestion; empty where the optimiser owns its loop."""


def run(data: Path, job: tuple[str, str, int], evaluations: int, histories: list[tuple[str, list[Any]]]) -> Run:
    name, optimiser, seed = job
    space = load(data, name)
    if optimiser.startswith("kernel_tuner:"):
        return Run(*job, tuple(_kernel_tuner(space, optimiser.partition(":")[2], seed, evaluations)), ())
    return Run(*job, *_optuna(space, _sampler(data, space, optimiser, seed, histories), evaluations))


def _sampler(data: Path, space: Space, optimiser: str, seed: int, histories: list[tuple[str, list[Any]]]) -> Any:  # noqa: ANN401
    if optimiser == "optuna:tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
    if optimiser == "optuna:gp":
        return optuna.samplers.GPSampler(seed=seed)
    configs = [space.config(values) for values in space.times]
    opinions = []
    for other, tried in histories:
        there = load(data, other)
        observed = [(there.config(tuple(values)), there.times[tuple(values)]) for values in tried]
        opinions.append(opinion(observed, configs))
    return FeasibleSampler(configs, seed=seed, opinions=opinions)


def _optuna(space: Space, sampler: Any, evaluations: int) -> tuple[tuple[Any, ...], tuple[float, ...]]:  # noqa: ANN401
    """Peers search positions in the lists of values; a config outside the space, or tried before, costs no
    evaluation and is told the worst time, or its own."""
    ours = isinstance(sampler, FeasibleSampler)
    study = optuna.create_study(sampler=sampler)
    worst = max(value for value in space.times.values() if value < math.inf)
    tried: dict[tuple[Any, ...], float] = {}
    seconds: list[float] = []
    for _ in range(20 * evaluations):
        begin = time.perf_counter()
        trial = study.ask()
        values = tuple(
            trial.suggest_categorical(name, of_name)
            if ours or isinstance(of_name[0], str)
            else of_name[trial.suggest_int(name, 0, len(of_name) - 1)]
            for name, of_name in space.lists.items()
        )
        seconds.append(time.perf_counter() - begin)
        value = space.times.get(values, math.inf)
        if values in space.times:
            tried[values] = value
        study.tell(trial, value if value < math.inf or ours else worst)
        if len(tried) >= min(evaluations, len(space.times)):
            break
    return tuple(tried), tuple(seconds)


def _kernel_tuner(space: Space, strategy: str, seed: int, evaluations: int) -> list[tuple[Any, ...]]:
    import kernel_tuner
    from constraint import FunctionConstraint

    random.seed(seed)
    np.random.seed(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results, _ = kernel_tuner.tune_kernel(
            space.kernel,
            "",
            [1],
            [],
            space.lists,
            restrictions=[FunctionConstraint(lambda *values: values in space.times)],
            cache=str(_cachefile(space, Path(folder))),
            simulation_mode=True,
            strategy=strategy,
            strategy_options={"max_fevals": evaluations},
            lang="CUDA",
            quiet=True,
            verbose=False,
        )
    return list(dict.fromkeys(tuple(result[name] for name in space.names) for result in results))


def _cachefile(space: Space, folder: Path) -> Path:
    extra = dict.fromkeys(("compile_time", "verification_time", "benchmark_time", "strategy_time", "framework_time"), 0)
    rows = {
        ",".join(map(str, values)): {
            **space.config(values),
            "time": value if value < math.inf else "RuntimeFailedConfig",
            "times": [value if value < math.inf else 0.0],
            **extra,
            "timestamp": "2026-01-01 00:00:00+00:00",
        }
        for values, value in space.times.items()
    }
    head = {"device_name": "replay", "kernel_name": space.kernel, "problem_size": [1]}
    parameters = {"tune_params_keys": list(space.names), "tune_params": space.lists, "objective": "time"}
    path = folder / "cache.json"
    path.write_text(json.dumps({"schema_version": "1.0.0", **head, **parameters, "cache": rows}))
    return path


def curve(space: Space, tried: tuple[tuple[Any, ...], ...]) -> list[float]:
    """optimum / best so far at each budget; 0 while everything failed, the last value where a run ended early."""
    best = list(itertools.accumulate((space.times[tuple(values)] for values in tried), min))
    return [space.best / best[min(budget, len(best)) - 1] for budget in BUDGETS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--optimisers", default=",".join(OPTIMISERS))
    parser.add_argument("--spaces", help="names, joined by commas (default: all)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "search_replay.jsonl")
    arguments = parser.parse_args()
    if not (arguments.data / "index.json").exists():
        print(f"skipped: {arguments.data}/index.json is absent; give the folder of replay spaces with --data")
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [entry["name"] for entry in json.loads((arguments.data / "index.json").read_text())]
    chosen = arguments.spaces.split(",") if arguments.spaces else names
    done = {(r.space, r.optimiser, r.seed): r for r in _cached(arguments.cache) if r.space in names}
    for optimiser in arguments.optimisers.split(","):
        jobs = [(name, optimiser, seed) for name in chosen for seed in range(arguments.repeats)]
        todo = [job for job in jobs if job not in done]
        if optimiser == NEIGHBOURS:
            work = [(arguments.data, job, arguments.evaluations, _histories(arguments.data, job, done)) for job in todo]
        else:
            work = [(arguments.data, job, arguments.evaluations, []) for job in todo]
        with multiprocessing.Pool(arguments.processes) as pool, arguments.cache.open("a") as kept:
            for made in pool.imap_unordered(_run, [item for item in work if optimiser != NEIGHBOURS or item[3]]):
                done[made.space, made.optimiser, made.seed] = made
                kept.write(json.dumps(made.__dict__) + "\n")
                kept.flush()
    report(arguments.data, [name for name in names if name in chosen], done)


def _run(item: tuple[Any, ...]) -> Run:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return run(*item)


def _cached(path: Path) -> list[Run]:
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        Run(r["space"], r["optimiser"], r["seed"], tuple(map(tuple, r["tried"])), tuple(r["seconds"])) for r in rows
    ]


def _histories(data: Path, job: tuple[str, str, int], done: dict[Any, Run]) -> list[tuple[str, list[Any]]]:
    name, _, seed = job
    here = load(data, name)
    others = [
        made for (space, optimiser, at), made in done.items() if optimiser == OURS and at == seed and space != name
    ]
    same = [made for made in others if (load(data, made.space).names) == here.names]
    return [(made.space, list(made.tried)) for made in same]


def report(data: Path, names: list[str], done: dict[Any, Run]) -> None:
    found: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for (name, optimiser, _), made in sorted(done.items()):
        if name in names:
            found[optimiser][name].append(curve(load(data, name), made.tried))
    budgets = " ".join(f"{budget:>6}" for budget in BUDGETS)
    print(f"{'optimum / best so far after N evaluations':44} {budgets}   worst space at 100")
    order = [name for name in OPTIMISERS if name in found]
    for optimiser in order:
        spaces = found[optimiser]
        means = {name: np.mean(curves, 0) for name, curves in spaces.items()}
        mean = np.mean(list(means.values()), 0)
        error = np.sqrt(sum(np.var(curves, 0) / len(curves) for curves in spaces.values())) / len(spaces)
        repeats = min(len(curves) for curves in spaces.values())
        low = min(means, key=lambda name: means[name][BUDGETS.index(100)])
        head = f"{optimiser} ({len(spaces)} spaces, {repeats} repeats)"
        print(f"{head:44} {_row(mean)}   {means[low][BUDGETS.index(100)]:.3f} {low}")
        print(f"{'    +- standard error over repeats':44} {_row(error)}")
    for optimiser in order[:2]:
        print(f"\n{optimiser}, by space (mean, and the worst repeat at 100)")
        for name, curves in found[optimiser].items():
            print(f"  {name:42} {_row(np.mean(curves, 0))}   {min(c[BUDGETS.index(100)] for c in curves):.3f}")
    _speed(data, [made for made in done.values() if made.optimiser == OURS and made.space in names])


def _row(values: Any) -> str:  # noqa: ANN401
    return " ".join(f"{value:6.3f}" for value in values)


def _speed(data: Path, runs: list[Run]) -> None:
    if not runs:
        return
    largest = max({made.space for made in runs}, key=lambda name: len(load(data, name).times))
    ms = 1e3 * np.array([s for made in runs if made.space == largest for s in made.seconds])
    print(
        f"\nours, a suggestion among {len(load(data, largest).times)} candidates ({largest}), wall time: "
        f"mean {ms.mean():.1f} ms, median {np.median(ms):.1f}, 95 % {np.quantile(ms, 0.95):.1f}, most {ms.max():.0f}"
    )


if __name__ == "__main__":
    main()
