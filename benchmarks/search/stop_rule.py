"""When a search told to go on until little is left does end, on recorded spaces, and what was left then.

    python -m benchmarks.search.stop_rule --data FOLDER [--moe FOLDER] [--repeats 4] [--percent 1]

Beside the rule of sessions (the chance that an untried config is faster by more is under 1 %): other chances, and the
expected gain of one more trial. Looked at every 8 trials; a search that still goes on at its 240th has promised nothing
and stands apart.
With --moe also with times that a model predicted: fused MoE on an H100, all measured, by the models of an H100 and of
an MI300X, which is mostly wrong there.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autotune import device as devices
from autotune.config import Scalar
from autotune.tuning.search.acquisition import Acquisition, RemainingGain
from benchmarks.cost_model import exhaustive_moe
from benchmarks.search import replay_spaces
from tools import fused_moe_work as moe
from tools.data import required

FEWEST, EVERY, MOST = 16, 8, 240


@dataclass(frozen=True)
class Look:
    trials: int
    remaining: RemainingGain
    left: float
    """Share of the best time so far that the optimum saves."""


@dataclass(frozen=True)
class Measured:
    """A space of which every config was measured."""

    configs: Sequence[Mapping[str, Scalar]]
    times: Sequence[float]
    modeled: tuple[list[float], ...] = ()


def recorded(data: Path) -> list[Measured]:
    spaces = [replay_spaces.load(data, name) for name in replay_spaces.names(data)]
    return [Measured([space.config(values) for values in space.times], list(space.times.values())) for space in spaces]


def modeled(path: Path, device: str) -> list[Measured]:
    """Fused MoE on an H100 with what the model of `device` says."""
    found = []
    for problem, by_config in exhaustive_moe.load(path).items():
        configs = list(by_config)
        us = moe.predicted(problem, configs, devices.named(device))[1].us
        found.append(Measured(configs, list(by_config.values()), (us.tolist(),)))
    return found


def looks(space: Measured, seed: int, share: float) -> Iterator[Look]:
    suggester = Acquisition(space.configs, seed, space.modeled)
    observed: dict[int, float] = {}
    optimum = min(space.times)
    while len(observed) < min(MOST, len(space.configs)):
        at = suggester.suggest(observed)
        if at is None:
            return
        observed[at] = space.times[at]
        best = min(observed.values())
        if len(observed) >= FEWEST and len(observed) % EVERY == 0 and best < math.inf:
            yield Look(len(observed), suggester.remaining_gain(observed, share), 1 - optimum / best)


def ended(run: list[Look], over: Callable[[RemainingGain], bool]) -> Look | None:
    return next((look for look in run if over(look.remaining)), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--moe", type=Path)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--percent", type=float, default=1.0)
    arguments = parser.parse_args()
    required(arguments.data, "index.json")
    kinds = {"recorded spaces": recorded(arguments.data)}
    if arguments.moe:
        path = required(arguments.moe, exhaustive_moe.FILE)
        kinds |= {f"fused MoE, modeled by {name}": modeled(path, name) for name in ("h100", "mi300x")}
    share = arguments.percent / 100
    for kind, spaces in kinds.items():
        print(f"{kind}:")
        report([list(looks(space, seed, share)) for space in spaces for seed in range(arguments.repeats)], share)


def report(runs: list[list[Look]], share: float) -> None:
    rules: dict[str, Callable[[RemainingGain], bool]] = {
        f"chance of {100 * share:g} % under {most:.0%}": lambda remaining, most=most: remaining.chance < most  # type: ignore[misc]
        for most in (0.1, 0.05, 0.02, 0.01)
    }
    rules[f"expected gain under {100 * share:g} %"] = lambda remaining: remaining.expected < share
    for name, over in rules.items():
        ends = [ended(run, over) for run in runs]
        found = [look for look in ends if look]
        going = [run[-1] for run, look in zip(runs, ends, strict=True) if not look]
        print(f"  {name:28} {_ends(found, share)}; {len(going)} go on{_left(going, share)}", flush=True)


def _ends(found: list[Look], share: float) -> str:
    if not found:
        return "none ended"
    return f"{len(found)} ended after {np.mean([run.trials for run in found]):4.0f} trials (mean){_left(found, share)}"


def _left(looks: list[Look], share: float) -> str:
    if not looks:
        return ""
    over = sum(look.left > share for look in looks)
    return f", over {100 * share:g} % left in {over}, in the mean {np.mean([look.left for look in looks]):.2%}"


if __name__ == "__main__":
    main()
