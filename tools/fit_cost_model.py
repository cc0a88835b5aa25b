"""The terms of the cost model's formula for NVIDIA GPUs, fitted on measured times of others' kernels.

    python -m tools.fit_cost_model --data MEASURED --winners SHIPPED [--rounds 3]

The loss is the mean over spaces of the time's error (Huber, on logarithms) and of the regret expected when configs are
drawn by their modeled time; fused MoE, of which one config a shape was timed, counts for its times alone. Fitted on one
half of the shapes; `benchmarks.cost_model.measured_spaces` and `.measured_times` judge the other.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from autotune import device as devices
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.call_batch import CallBatch
from autotune.tuning.cost_model.constants import Terms, terms
from autotune.tuning.cost_model.model import predict_all
from tools import fused_moe_times, inductor_data
from tools import shipped_winners_data as winners

HELD = ("matrix_share", "fill_bytes_per_clock", "tensor_memory_clocks", "row_scaling", "shared_share")
"""Not fitted: rates that hardware limits, and what these times leave at any value."""
WINNERS, WINNERS_WEIGHT = 12, 0.4
"""Winners of each GPU, family and dtype that a fit reads."""
SPACES, CALLS = 60, 120
"""Spaces, and calls of fused MoE, of each GPU and dtype that a fit reads."""
_WIDEST = 1.5
_TEMPERATURE = 0.03
"""Configs within 3 % of the best modeled are drawn with almost its chance."""


@dataclass(frozen=True)
class Target:
    """A loss of one set of measured times, and its weight."""

    weight: float
    loss: Callable[[Terms], float]


def huber(ratio_logs: Floats) -> Floats:
    """Return the squared error up to 20 %, and beyond it the absolute one, continued smoothly."""
    off = np.abs(ratio_logs)
    return np.where(off < 0.2, off**2 / 0.4, off - 0.1)


def of_spaces(spaces: inductor_data.Spaces, weight: float) -> Target:
    """Return the loss of times and ranks of whole spaces; configs that failed are left out."""
    rng = np.random.default_rng(0)
    numbers = np.unique(spaces.space[spaces.half == 0])
    drawn = rng.choice(numbers, min(SPACES, len(numbers)), replace=False)
    chosen = spaces.chosen(np.isin(spaces.space, drawn) & np.isfinite(spaces.us))
    _, index = np.unique(chosen.space, return_inverse=True)
    count = int(index.max()) + 1
    logs = np.log(chosen.us)

    def by_space(values: Floats) -> Floats:
        total: Floats = np.bincount(index, values, count).astype(float)
        return total

    def least(values: Floats) -> Floats:
        lowest = np.full(count, np.inf)
        np.minimum.at(lowest, index, values)
        return lowest[index]

    def loss(tried: Terms) -> float:
        modeled = np.log(predict_all(chosen.calls, chosen.device, terms_of_formula=tried).us + inductor_data.EVENTS_US)
        error = by_space(huber(logs - modeled)) / by_space(np.ones(len(logs)))
        chance = np.exp((least(modeled) - modeled) / _TEMPERATURE)
        regret = by_space(chance * (logs - least(logs))) / by_space(chance)
        return float((error + regret).mean())

    return Target(weight, loss)


def of_moe(times: fused_moe_times.Times, weight: float) -> Target:
    """Return the loss of times of whole layers."""
    rng = np.random.default_rng(0)
    open_half = np.flatnonzero(times.half == 0)
    chosen = times.chosen(rng.choice(open_half, min(CALLS, len(open_half)), replace=False))
    return Target(weight, lambda tried: float(huber(np.log(chosen.us / chosen.modeled(tried))).mean()))


def of_winners(chosen: Sequence[winners.Winner], weight: float) -> Target:
    """Return the loss of the ranks of one GPU's shipped winners of one family and dtype: their mean logarithm."""
    device = devices.named(chosen[0].device)
    spaces = [winner.calls() for winner in chosen]
    sizes = [len(gemms[0].rows) for gemms in spaces]
    gemms = [joined(batches) for batches in zip(*spaces, strict=True)]
    reuse_bytes = np.sum([calls.unique_bytes for calls in gemms], axis=0)
    index = np.repeat(np.arange(len(chosen)), sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    places = starts + [winner.space.index(winner.config) for winner in chosen]

    def loss(tried: Terms) -> float:
        times = [predict_all(calls, device, reuse_bytes=reuse_bytes, terms_of_formula=tried).us for calls in gemms]
        modeled = np.log(np.sum(times, axis=0))
        ahead = 1 / (1 + np.exp((modeled - modeled[places][index]) / _TEMPERATURE))  # 0.5 for a tie, and for itself
        return float(np.log(0.5 + np.bincount(index, ahead)).mean() / np.log(np.mean(sizes)))

    return Target(weight, loss)


def joined(batches: Sequence[CallBatch]) -> CallBatch:
    """Return all calls as one batch."""
    names = [column.name for column in fields(CallBatch)]
    return CallBatch(**{name: np.concatenate([getattr(calls, name) for calls in batches]) for name in names})


def winner_targets(data: Path) -> list[Target]:
    """Return a target a GPU, family and dtype of the open half of the shapes, of NVIDIA GPUs."""
    groups = defaultdict(list)
    for winner in winners.load(data)[0]:
        if winner.half == 0 and not devices.named(winner.device).is_amd:
            groups[winner.family, winner.device, winner.dtype].append(winner)
    rng = np.random.default_rng(0)
    some = ([group[at] for at in rng.permutation(len(group))[:WINNERS]] for group in groups.values())
    return [of_winners(group, WINNERS_WEIGHT * len(group) / WINNERS) for group in some]


def targets(data: Path) -> list[Target]:
    found = [of_spaces(spaces, 2.0) for spaces in inductor_data.load(data, "mm") if spaces.dtype in _SIXTEEN_BITS]
    found += [of_spaces(spaces, 1.0) for spaces in inductor_data.load(data, "mixed_mm")]
    return found + [of_moe(times, 0.4) for times in fused_moe_times.load(data)]


_SIXTEEN_BITS = ("float16", "bfloat16")
"""Spaces of `mm` that are fitted: of fp32 there are few."""


def fit(start: Terms, judged: Sequence[Target], rounds: int) -> Terms:
    """Search all constants but HELD by Powell's method, on logarithms; prints the loss before and after."""
    names = [field.name for field in fields(Terms) if field.name not in HELD]
    origin = np.log([getattr(start, name) for name in names])

    def at(logs: Floats) -> Terms:
        return replace(start, **dict(zip(names, np.exp(logs).tolist(), strict=True)))

    def loss(logs: Floats) -> float:
        return sum(target.weight * target.loss(at(logs)) for target in judged)

    print(f"before: {loss(origin):.4f}", flush=True)
    bounds = [(value - _WIDEST, value + _WIDEST) for value in origin]
    found = minimize(loss, origin, method="Powell", bounds=bounds, options={"maxiter": rounds, "xtol": 0.02})
    print(f"after {found.nfev} evaluations: {found.fun:.4f}")
    return at(found.x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--winners", type=Path, required=True, help="folder of shipped winners")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    found = fit(terms("nvidia"), [*targets(arguments.data), *winner_targets(arguments.winners)], arguments.rounds)
    print("\n[terms.nvidia]")
    for field in fields(found):
        print(f"{field.name} = {getattr(found, field.name):.3g}")


if __name__ == "__main__":
    main()
