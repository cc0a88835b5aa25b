"""How far the cost model's times lie from measured ones, and how often the truth lies in the range that it prints.

    python -m benchmarks.cost_model.measured_times --data FOLDER

Matrix multiplications of TorchInductor, fused MoE of vLLM and SGLang, and vLLM's FP8 GEMM. `factor` is the median of
measured over modeled time, `80 %` the factor that so many lie within around 1, `inside` the share in the range that
`predict` prints. Half 1 of the shapes was seen by neither the formula's fit nor the factors; the ranges are its
quantiles, so only times of another source judge them. Then a device or an engine is left out of the factor, as if
nobody had measured it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autotune.tuning.arrays import Floats
from tools.calibrate_cost_model import middle, ratios
from tools.measured_times import Times, load

_HEAD = (
    f"{'':48} {'times':>6} {'factor':>6} {'of 50 %':>7} {'80 %':>5} {'90 %':>5} {'95 %':>5} {'inside':>6} {'range':>6}"
)
_ROWS = ((1, 16), (17, 64), (65, 512), (513, 4096), (4097, 10**9))


def figures(logs: Floats, spread: float) -> str:
    off = np.abs(logs)
    within = " ".join(f"{np.exp(np.quantile(off, share)):5.2f}" for share in (0.8, 0.9, 0.95))
    inside = float(np.mean(off <= np.log(spread)))
    half = np.exp(np.quantile(off, 0.5))
    return f"{len(logs):6} {np.exp(np.median(logs)):6.2f} {half:7.2f} {within} {inside:6.0%} {spread:6.2f}"


def lines(times: Times) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the parts that are shown of one family, GPU and dtype: halves; engines, routings and sizes of half 1."""
    unseen = times.half == 1
    yield "half 0", ~unseen
    yield "half 1", unseen
    for engine in np.unique(times.engine):
        yield f"half 1, {engine}", unseen & (times.engine == engine)
    for routing in filter(None, np.unique(times.routing)):
        yield f"half 1, {routing}", unseen & (times.routing == routing)
    for low, high in _ROWS:
        rows = f"{low} to {high} rows" if high < 10**9 else f"from {low} rows"
        yield f"half 1, {rows}", unseen & (times.rows >= low) & (times.rows <= high)


def show(every: Sequence[Times]) -> None:
    print(_HEAD)
    for times in every:
        spread = times.calibration.spread
        for title, part in lines(times):
            if part.any():
                name = f"{times.family} {times.device.name} {times.dtype}, {title}"
                print(f"{name:48} {figures(times.ratio_logs[part], spread)}", flush=True)


def show_left_out(every: Sequence[Times]) -> None:
    """Print each device with the factor of its arch's other devices, or of other archs where it is alone there."""
    print(f"\n{'one device left out of the factor':48}{_HEAD[48:]}")
    groups: dict[tuple[str, str], list[Times]] = defaultdict(list)
    for times in every:
        groups[times.device.name, times.dtype].append(times)
    parts = {id(times): ratios(times) for times in every}
    for (device, dtype), group in sorted(groups.items()):
        arch = group[0].device.arch
        others = [parts[id(other)] for other in every if other.device.name != device]
        siblings = [part for part in others if (part.arch, part.dtype) == (arch, dtype)]
        near = siblings or [part for part in others if part.arch != arch]
        lender = arch if siblings else "other archs"
        for times in group:
            logs = parts[id(times)].judged - middle(near)
            if len(logs):
                print(f"{f'{times.family} {device} {dtype}, by {lender}':48} {figures(logs, 1.6)}")


def show_engines(every: Sequence[Times]) -> None:
    """Print fused MoE of each engine with the factor of the other's."""
    print(f"\n{'one engine left out of the factor':48}{_HEAD[48:]}")
    for times in every:
        engines = np.unique(times.engine)
        for engine in engines if len(engines) > 1 else ():
            own = times.engine == engine
            logs = times.ratio_logs[own] - np.median(times.ratio_logs[~own])
            print(f"{f'{times.family} {times.device.name} {times.dtype}, {engine}':48} {figures(logs, 1.6)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    every = list(load(parser.parse_args().data))
    show(every)
    show_left_out(every)
    show_engines(every)


if __name__ == "__main__":
    main()
