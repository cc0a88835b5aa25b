"""Constants of the cost model from the times of one run, in the form of `cost_model/constants.toml`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.gpu_run.lines import Line
from benchmarks.gpu_run.results import Results
from tools.calibrate_model import fit

_FEWEST = 6
"""Times in each half, below which two constants would be luck."""
_WITHIN = 0.9
_LEAST_SPREAD = 1.05


@dataclass(frozen=True)
class Calibration:
    """Fitted on the kernels of one half and judged on those of the other, which holds `spread`."""

    dtype: str
    launch_us: float
    factor: float
    spread: float
    fitted_on: int
    judged_on: int

    def toml(self, device: str, source: str) -> str:
        judged = f"9 of 10 of {self.judged_on} times of other kernels within x{self.spread:.2f}"
        return (
            f"[calibration.{device}.{self.dtype}]\nlaunch_us = {self.launch_us:.1f}\nfactor = {self.factor:.2f}\n"
            f'spread = {self.spread:.2f}\nsource = "{source}: fitted on {self.fitted_on} times, {judged}"\n'
        )


def timed(results: Results) -> list[Line]:
    """Lines of the step `sizes` with a time and what the model said of it."""
    if not results.has_times:
        return []
    return [line for line in results.of("sizes").values() if line.get("us") and line.get("modeled_us")]


def calibrations(results: Results) -> Iterator[Calibration | str]:
    """One for each dtype of operands, or why there is none."""
    found = timed(results)
    for dtype in sorted({line["dtype"] for line in found}):
        here = [line for line in found if line["dtype"] == dtype]
        kernels = sorted({line["kernel"] for line in here})
        first = set(kernels[::2])
        fitted, judged = ([line for line in here if (line["kernel"] in first) == half] for half in (True, False))
        if min(len(fitted), len(judged)) < _FEWEST:
            halves = f"{len(fitted)} times to fit and {len(judged)} to judge"
            yield f"{dtype}: {halves}, of {len(kernels)} kernels, are too few"
            continue
        launch, factor = fit(np.array([_rest(line) for line in fitted]), np.array([line["us"] for line in fitted]))
        off = [abs(math.log((launch + factor * _rest(line)) / line["us"])) for line in judged]
        spread = max(_LEAST_SPREAD, math.exp(float(np.quantile(off, _WITHIN))))
        yield Calibration(dtype, launch, factor, spread, len(fitted), len(judged))


def _rest(line: Line) -> float:
    """Modeled microseconds before both constants."""
    rest: float = (line["modeled_us"] - line["terms"]["launch"]) / line["factor"]
    return rest
