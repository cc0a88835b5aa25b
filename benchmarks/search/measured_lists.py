"""Trials until a search is within 1 % of the best of whole lists of Triton configs, every one of which was timed.

    python -m benchmarks.search.measured_lists --data MEASURED [--moe MOE] [--lists 60] [--repeats 4]

TorchInductor's lists for `mm`, `mixed_mm` and flex attention on A100 and H100 (8 to 29 configs), and with --moe a
fused MoE kernel on an H100 at nine token counts (808 configs). Lists are drawn from half 1 of the shapes, on which no
constant was fitted; six terms of the cost model were settled with the fused MoE in view. A cell is the mean over lists
and repeats, and the trials that 9 of 10 need at most.

`random` draws without repetition. `pattern` climbs as Helion's pattern search: from the five best of a random
population it tries all configs that differ in one parameter, until none is better; then random ones. Its population is
8: Helion's is 100, which would time Inductor's lists whole. `tpe` is Optuna's, multivariate; a suggestion outside the
list stands for the untried config nearest to it. `ours, no model` and `ours` are the sampler without and with the times
of cost model and prior, as a session begins, but for the default config: these lists name none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import optuna

from autotune import device as devices
from autotune.config import Config, Scalar
from autotune.tuning.arrays import Floats
from autotune.tuning.search.acquisition import Acquisition
from benchmarks.cost_model import exhaustive_moe
from tools import fused_moe_work as moe
from tools import inductor_data, timed_lists
from tools.data import required
from tools.timed_lists import TimedList

SHARE = 0.01
POPULATION, CLIMBERS = 8, 5

Search = Callable[[TimedList, int], Iterator[int]]
"""Yields positions in the order that a search with this seed tries them."""


def drawn(space: TimedList, seed: int) -> Iterator[int]:
    yield from np.random.default_rng(seed).permutation(len(space.times)).tolist()


def pattern(space: TimedList, seed: int) -> Iterator[int]:
    order = list(drawn(space, seed))
    places = _places(space.configs)
    tried = order[:POPULATION]
    yield from tried
    climbers = sorted(tried, key=space.times.__getitem__)[:CLIMBERS]
    while climbers:
        higher = []
        for at in climbers:
            near = [other for other in order if (places[other] != places[at]).sum() == 1 and other not in tried]
            yield from near
            tried += near
            best = min([at, *near], key=space.times.__getitem__)
            higher += [best] if best != at else []
        climbers = higher
    yield from (at for at in order if at not in tried)


def tpe(space: TimedList, seed: int) -> Iterator[int]:
    """Optuna's TPE over positions in each parameter's values; failed configs are told the worst time."""
    places = _places(space.configs)
    names = [str(column) for column in range(places.shape[1])]
    ranges = {
        name: optuna.distributions.IntDistribution(0, int(most))
        for name, most in zip(names, places.max(0), strict=True)
    }
    worst = float(space.times[np.isfinite(space.times)].max())
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True))
    left = np.ones(len(places), bool)
    while left.any():
        asked = study.ask(ranges)  # type: ignore[arg-type]  # a dict is invariant
        wanted = np.array([asked.params[name] for name in names])
        at = int(np.argmin(np.where(left, np.abs(places - wanted).sum(1), np.inf)))
        left[at] = False
        yield at
        study.tell(asked, state=optuna.trial.TrialState.FAIL)
        params = dict(zip(names, places[at].tolist(), strict=True))
        value = min(float(space.times[at]), worst)
        study.add_trial(optuna.create_trial(params=params, distributions=ranges, value=value))  # type: ignore[arg-type]


def ours(space: TimedList, seed: int) -> Iterator[int]:
    yield from _suggested(space, Acquisition(space.configs, seed, space.views))


def ours_alone(space: TimedList, seed: int) -> Iterator[int]:
    yield from _suggested(space, Acquisition(space.configs, seed))


def _suggested(space: TimedList, acquisition: Acquisition) -> Iterator[int]:
    observed: dict[int, float] = {}
    while (at := acquisition.suggest(observed)) is not None:
        yield at
        observed[at] = float(space.times[at])


SEARCHES: Mapping[str, Search] = {
    "random": drawn,
    "pattern": pattern,
    "tpe": tpe,
    "ours, no model": ours_alone,
    "ours": ours,
}


def _places(configs: Sequence[Mapping[str, Scalar]]) -> Floats:
    """Return each config as positions in its parameters' sorted values: [configs, parameters that vary]."""
    columns = [np.unique([config[name] for config in configs], return_inverse=True) for name in configs[0]]
    places: Floats = np.stack([place for values, place in columns if len(values) > 1], 1)
    return places


def fused_moe(path: Path) -> list[TimedList]:
    """Return the fused MoE on an H100, one list a token count."""
    found = []
    for problem, by_config in exhaustive_moe.load(path).items():
        configs = list(by_config)
        times = np.array(list(by_config.values()))
        predict = partial(_predicted, problem, configs)
        found.append(TimedList("h100", str(problem.tokens), 1, tuple(map(dict, configs)), times, predict))
    return found


def _predicted(problem: moe.Moe, configs: Sequence[Config]) -> timed_lists.Views:
    return (moe.predicted(problem, configs, devices.named("h100"))[1].us.tolist(),)


def row(lists: Sequence[TimedList], repeats: int) -> str:
    cells = []
    for search in SEARCHES.values():
        trials = [space.until(search(space, seed), SHARE) for space in lists for seed in range(repeats)]
        cells.append(f"{np.mean(trials):8.1f} ({np.quantile(trials, 0.9):4.0f})")
    return " ".join(f"{cell:>15}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--moe", type=Path, help="folder of the exhaustive fused MoE")
    parser.add_argument("--lists", type=int, default=60, help="most lists of a family and GPU")
    parser.add_argument("--repeats", type=int, default=4)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'trials until within 1 % of the best: mean (9 of 10)':52}" + " ".join(f"{name:>15}" for name in SEARCHES))
    rng = np.random.default_rng(0)
    for family in inductor_data.FAMILIES:
        every = [space for space in timed_lists.load(arguments.data, family) if space.half == 1]
        for device in sorted({space.device for space in every}):
            found = [space for space in every if space.device == device]
            some = [found[at] for at in rng.permutation(len(found))[: arguments.lists]]
            sizes = sorted(len(space.times) for space in some)
            head = f"{family} {device}, {len(some)} lists of {sizes[0]} to {sizes[-1]}"
            print(f"{head:52}{row(some, arguments.repeats)}", flush=True)
    if arguments.moe:
        lists = fused_moe(required(arguments.moe, exhaustive_moe.FILE))
        head = f"fused MoE h100, {len(lists)} lists of {len(lists[0].times)}"
        print(f"{head:52}{row(lists, arguments.repeats)}")


if __name__ == "__main__":
    main()
