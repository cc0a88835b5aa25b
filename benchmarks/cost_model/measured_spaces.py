"""Where the cost model ranks whole choice lists of TorchInductor, every config of which was timed.

    python -m benchmarks.cost_model.measured_spaces --data FOLDER [--by-size]

Regret is the best time among the first 1, 4, 8 or 16 configs predicted over the best of the list, as a geometric mean
over spaces; beside it a random order and, where the list has one, the library's time over the best. `noise` is the
longest over the shortest repeat of the winner: no ranking can be told from one that is better by less. Configs that the
model's rules say do not fit shared memory come last; `failed` counts those that failed, `foreseen` those of them that
the rules named, `wrongly` those that ran although they named them. The constants were fitted on half 0 of the shapes;
half 1 was not looked at by the fit.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.model import predict_all
from autotune.tuning.cost_model.tile_cost import ring_bytes
from tools.inductor_data import FAMILIES, Spaces, load

PICKS = (1, 4, 8, 16)
SIZES = ((1, 16), (17, 64), (65, 512), (513, 4096), (4097, 10**9))
_HEAD = (
    f"{'':52} {'spaces':>6} {'first 1':>8} {'4':>6} {'8':>6} {'16':>6} {'p95 of 8':>8} {'worst':>6}"
    f" {'random 1':>8} {'4':>6} {'8':>6} {'library':>7} {'noise':>6} {'failed':>6} {'foreseen':>8} {'wrongly':>7}"
)


def fits(spaces: Spaces) -> NDArray[np.bool_]:
    """True of configs that the model expects to fit shared memory: the pipeline, and what a kernel keeps beside it."""
    needed = ring_bytes(spaces.calls, spaces.device) + spaces.kept_bytes
    fitting: NDArray[np.bool_] = needed <= spaces.device.shared_bytes_per_block
    return fitting


def regrets(us: Floats, order: NDArray[np.intp]) -> list[float]:
    """Return regret after each of PICKS; a failed config counts as the slowest that ran."""
    times = np.where(np.isfinite(us), us, np.nanmax(us))[order]
    return [float(times[:count].min() / np.nanmin(us)) for count in PICKS]


def row(spaces: Spaces, modeled: Floats, rng: np.random.Generator) -> str:
    """Return the figures of one family, GPU and dtype as a line."""
    ours, drawn, noise = [], [], []
    last = np.lexsort((modeled, ~fits(spaces), spaces.space))
    for block in np.split(last, np.flatnonzero(np.diff(spaces.space[last])) + 1):
        us = spaces.us[block]
        ours.append(regrets(us, np.arange(len(us))))
        drawn.append(np.exp(np.mean([np.log(regrets(us, rng.permutation(len(us)))) for _ in range(5)], 0)))
        noise.append(spaces.noise[block][np.nanargmin(us)])
    each = np.array(ours)
    mean = np.exp(np.log(each).mean(0))
    random = np.exp(np.log(drawn).mean(0))
    first = np.unique(spaces.space, return_index=True)[1]
    best = np.full(spaces.space.max() + 1, np.inf)
    np.fmin.at(best, spaces.space, spaces.us)
    beside = spaces.library_us[first] / best[spaces.space[first]]
    library = np.exp(np.log(beside[np.isfinite(beside)]).mean()) if np.isfinite(beside).any() else np.nan
    failed, fitting = np.isnan(spaces.us), fits(spaces)
    figures = [
        f"{len(each):6}",
        f"{mean[0]:8.3f} {mean[1]:6.3f} {mean[2]:6.4f} {mean[3]:6.4f}",
        f"{np.quantile(each[:, 2], 0.95):8.3f} {each[:, 2].max():6.3f}",
        f"{random[0]:8.2f} {random[1]:6.3f} {random[2]:6.3f}",
        f"{library:7.2f} {np.nanmedian(noise):6.3f}",
        f"{failed.sum():6} {(failed & ~fitting).sum():8} {(~failed & ~fitting).sum():7}",
    ]
    return " ".join(figures)


def parts(spaces: Spaces, by_size: bool) -> Sequence[tuple[str, NDArray[np.bool_]]]:
    """Return the halves of the shapes, and within the second one sizes of the result."""
    halves = [(f"half {half}", spaces.half == half) for half in (0, 1)]
    if not by_size:
        return halves
    return [
        *halves,
        *(
            (
                f"half 1, {low} to {high} rows" if high < 10**9 else f"half 1, from {low} rows",
                _within(spaces, low, high),
            )
            for low, high in SIZES
        ),
    ]


def _within(spaces: Spaces, low: int, high: int) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (spaces.half == 1) & (spaces.rows >= low) & (spaces.rows <= high)
    return inside


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--by-size", action="store_true", help="also by rows of the result")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print(_HEAD)
    for family in FAMILIES:
        for spaces in load(arguments.data, family):
            modeled = predict_all(spaces.calls, spaces.device).us
            for title, part in parts(spaces, arguments.by_size):
                if part.any():
                    name = f"{family} {spaces.device.name} {spaces.dtype}, {title}"
                    print(f"{name:52} {row(spaces.chosen(part), modeled[part], rng)}", flush=True)


if __name__ == "__main__":
    main()
