"""When a search told to go on until little is left does end, on recorded spaces, and what was left then.

    python benchmarks/stop_rule.py --data FOLDER [--repeats 4] [--percent 1]

Beside the rule of sessions (the chance that an untried config is faster by more is under 1 %): other chances, and the
expected gain of one more trial. Looked at every 8 trials; a search that goes on to its 240th counts as ended there.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import replay_spaces
from data import required

from autotune.tuning.search.suggest import Outlook, Suggester

FEWEST, EVERY, MOST = 16, 8, 240


@dataclass(frozen=True)
class Look:
    trials: int
    outlook: Outlook
    left: float
    """Share of the best time so far that the optimum saves."""


def looks(space: replay_spaces.Space, seed: int, share: float) -> Iterator[Look]:
    configs, times = [space.config(values) for values in space.times], list(space.times.values())
    suggester = Suggester(configs, seed)
    observed: dict[int, float] = {}
    while len(observed) < min(MOST, len(configs)):
        at = suggester.suggest(observed)
        if at is None:
            return
        observed[at] = times[at]
        best = min(observed.values())
        if len(observed) >= FEWEST and len(observed) % EVERY == 0 and best < math.inf:
            yield Look(len(observed), suggester.outlook(observed, share), 1 - space.best / best)


def ended(run: list[Look], over: Callable[[Outlook], bool]) -> Look:
    return next((look for look in run if over(look.outlook)), run[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--percent", type=float, default=1.0)
    arguments = parser.parse_args()
    required(arguments.data, "index.json")
    share = arguments.percent / 100
    spaces = [replay_spaces.load(arguments.data, name) for name in replay_spaces.names(arguments.data)]
    runs = [list(looks(space, seed, share)) for space in spaces for seed in range(arguments.repeats)]
    chances = (0.1, 0.05, 0.02, 0.01)
    rules: dict[str, Callable[[Outlook], bool]] = {
        f"chance of {arguments.percent:g} % under {most:.0%}": lambda outlook, most=most: outlook.chance < most  # type: ignore[misc]
        for most in chances
    }
    rules[f"expected gain under {arguments.percent:g} %"] = lambda outlook: outlook.gain < share
    for name, over in rules.items():
        found = [ended(run, over) for run in runs]
        print(
            f"{name:28} ended after {np.mean([one.trials for one in found]):4.0f} trials (mean of {len(found)}); "
            f"over {arguments.percent:g} % left in {sum(one.left > share for one in found)}, "
            f"left in the mean {np.mean([one.left for one in found]):.2%}"
        )


if __name__ == "__main__":
    main()
