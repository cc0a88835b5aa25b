"""How soon a search finds the best config of a problem when another GPU has timed the same list of configs.

    python -m benchmarks.search.across_gpus --data MEASURED

TorchInductor's lists that an A100 and an H100 both timed: each GPU's times order the other's first configs. Shares are
of the problems whose best config is among the first two tried: exactly, within 1 %, and within the noise of the times
(3 % for products, 8 % for flex attention). `regret` is the best of the first two over the best of the list, as a
geometric mean; 95 % of the problems have at most `p95`.

`times` tries the configs in the order of the other GPU's times, `model` in the order that a session without such times
begins with, `session` as a session that reads them, `scaled` as one that would multiply each by what the model says of
both GPUs. Half 1 of the shapes fitted no constant of the cost model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from autotune.tuning.search.acquisition import Acquisition
from tools import inductor_data, timed_lists
from tools.timed_lists import TimedList

TRIALS = 2
NOISE = {"mm": 0.03, "mixed_mm": 0.03, "flex_attention": 0.08}
"""Differences below these are ties: 9 of 10 of the repeats of one config lie within them."""

Pair = tuple[TimedList, TimedList]
"""The GPU that lends its times, and the one that searches."""


def pairs(lists: Sequence[TimedList]) -> Iterator[Pair]:
    """Yield both directions of each problem that two GPUs timed."""
    first: dict[str, TimedList] = {}
    for space in lists:
        other = first.setdefault(space.problem, space)
        if other.device != space.device:
            yield other, space
            yield space, other


def lent(pair: Pair) -> dict[int, float]:
    """Return the lender's times by position in the searcher's list."""
    lender, space = pair
    times = {tuple(config.items()): float(us) for config, us in zip(lender.configs, lender.times, strict=True)}
    keys = [tuple(config.items()) for config in space.configs]
    return {at: times[key] for at, key in enumerate(keys) if key in times}


def by_times(pair: Pair) -> list[int]:
    known = lent(pair)
    return sorted(known, key=known.__getitem__)[:TRIALS]


def scaled(pair: Pair) -> dict[int, float]:
    """Return the lender's times, each by what the model says of the searcher over the lender."""
    lender, space = pair
    modeled = {tuple(config.items()): us for config, us in zip(lender.configs, lender.views[0], strict=True)}
    return {at: us * space.views[0][at] / modeled[tuple(space.configs[at].items())] for at, us in lent(pair).items()}


def by_model(pair: Pair) -> list[int]:
    return _begun(pair[1], {})


def by_session(pair: Pair) -> list[int]:
    return _begun(pair[1], lent(pair))


def by_scaled(pair: Pair) -> list[int]:
    return _begun(pair[1], scaled(pair))


def _begun(space: TimedList, known: dict[int, float]) -> list[int]:
    acquisition = Acquisition(space.configs, 0, space.views)
    acquisition.transfer([known] if known else [])
    observed: dict[int, float] = {}
    while len(observed) < TRIALS and (at := acquisition.suggest(observed)) is not None:
        observed[at] = float(space.times[at])
    return list(observed)


WAYS = {"times": by_times, "model": by_model, "session": by_session, "scaled": by_scaled}


def behind(space: TimedList, tried: Sequence[int]) -> float:
    """Return the best time tried over the best of the list; the slowest of the list where all failed."""
    ran = space.times[np.isfinite(space.times)]
    return float(min(space.times[tried].min(), ran.max()) / ran.min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    print(f"{'best among the first two':48} {'pairs':>5} {'exact':>6} {'1 %':>6} {'noise':>6} {'regret':>7} {'p95':>6}")
    for family in inductor_data.FAMILIES:
        every = list(pairs(list(timed_lists.load(data, family))))
        for lender in sorted({pair[0].device for pair in every}):
            for half in (0, 1):
                group = [pair for pair in every if pair[0].device == lender and pair[1].half == half]
                for name, way in WAYS.items():
                    ratios = np.array([behind(pair[1], way(pair)) for pair in group])
                    shares = " ".join(f"{np.mean(ratios <= 1 + off):6.1%}" for off in (1e-4, 0.01, NOISE[family]))
                    mean, most = np.exp(np.log(ratios).mean()), np.quantile(ratios, 0.95)
                    head = f"{family}, lent by {lender}, half {half}, {name}"
                    print(f"{head:48} {len(group):5} {shares} {mean:7.3f} {most:6.2f}", flush=True)


if __name__ == "__main__":
    main()
