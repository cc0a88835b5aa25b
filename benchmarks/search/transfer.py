"""Transfer between problems that are searched side by side: fused MoE on an H100, measured at nine token counts.

    python -m benchmarks.search.transfer --data FOLDER [--repeats 10]

The figure is best time so far / optimum, geometric mean over token counts and repeats, after N trials of each problem;
each begins with a random config, as with a default. `alone`: no problem knows of another, nor of a model. `shared`:
side by side, each learns from the two nearest as they go on. `in turn`: the same, one problem after another, fewest
tokens first. `modeled`: side by side, with the cost model's times, as in a session; six of its terms were settled
with these measurements in view. `shuffled_model`: the same, its times shuffled among the configs. `misled`: each learns
from 25 trials whose times were shuffled among their configs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna

from autotune import device as devices
from autotune.config import Config
from autotune.tuning.search.study import Search
from autotune.tuning.search.transfer import transfer_between
from benchmarks.cost_model.exhaustive_moe import FILE, load
from tools.data import required
from tools.fused_moe_work import Moe, predicted

BUDGETS = (5, 10, 15, 25)

Times = dict[Config, float]


def alone(searches: dict[Moe, Search], times: dict[Moe, Times], seed: int) -> None:
    pass


def shared(searches: dict[Moe, Search], times: dict[Moe, Times], seed: int) -> None:
    transfer_between(searches)  # type: ignore[arg-type]  # it reads the fields only


def misled(searches: dict[Moe, Search], times: dict[Moe, Times], seed: int) -> None:
    rng = random.Random(seed)
    for problem, search in searches.items():
        configs = rng.sample(list(times[problem]), 25)
        shuffled = rng.sample(configs, 25)
        search.transfer(
            {config: {"us": times[problem][other]} for config, other in zip(configs, shuffled, strict=True)}
        )


def in_turn(searches: dict[Moe, Search], times: dict[Moe, Times], seed: int) -> None:
    shared(searches, times, seed)


def modeled(searches: dict[Moe, Search], times: dict[Moe, Times], seed: int) -> None:
    _told(searches, times, range(_size(times)))
    shared(searches, times, seed)


def shuffled_model(searches: dict[Moe, Search], times: dict[Moe, Times], seed: int) -> None:
    _told(searches, times, random.Random(seed).sample(range(_size(times)), _size(times)))
    shared(searches, times, seed)


def _told(searches: dict[Moe, Search], times: dict[Moe, Times], order: Sequence[int]) -> None:
    for problem, search in searches.items():
        configs = list(times[problem])
        us = predicted(problem, configs, devices.named("h100"))[1].us
        search.set_feasible(configs, [us[list(order)].tolist()])


def _size(times: dict[Moe, Times]) -> int:
    """All problems were measured with the same configs."""
    return len(next(iter(times.values())))


Way = Callable[[dict[Moe, Search], dict[Moe, Times], int], None]
WAYS: tuple[Way, ...] = (alone, shared, in_turn, modeled, shuffled_model, misled)


def regrets(times: dict[Moe, Times], way: Way, seed: int) -> list[list[float]]:
    """[problem][budget]."""
    storage = optuna.storages.InMemoryStorage()
    tried = list(next(iter(times.values())))
    lists = {name: tuple(sorted({config.size(name) for config in tried})) for name in tried[0]}
    searches = {problem: Search(storage, str(problem), lists, seed) for problem in times}
    rng = random.Random(seed)
    for problem, search in searches.items():
        search.set_feasible(list(times[problem]))
        search.enqueue([rng.choice(list(times[problem]))])
    way(searches, times, seed)
    turns = [list(searches)] * BUDGETS[-1] if way is not in_turn else [[p] * BUDGETS[-1] for p in searches]
    for problem in itertools.chain(*turns):
        config = searches[problem].ask(1)[0]
        searches[problem].tell(config, {"us": times[problem][config]})
    found = []
    for problem, search in searches.items():
        best = np.minimum.accumulate([outcome["us"] for outcome in search.outcomes.values()])
        found.append([best[budget - 1] / min(times[problem].values()) for budget in BUDGETS])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    path = required(arguments.data, FILE)
    times = load(path)
    print(f"{len(times)} token counts, {arguments.repeats} repeats; best / optimum after N trials of each")
    print(f"{'':8}" + "".join(f"{budget:>14}" for budget in BUDGETS))
    for way in WAYS:
        logs = np.log([regrets(times, way, seed) for seed in range(arguments.repeats)])
        means, error = logs.mean((0, 1)), logs.mean(1).std(0) / math.sqrt(arguments.repeats)
        cells = (f"{math.exp(mean):.3f} +-{wide:.3f}" for mean, wide in zip(means, error, strict=True))
        print(f"{way.__name__:8}" + "".join(f"{cell:>14}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
