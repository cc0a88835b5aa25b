"""Calibration of modeled times by measurements of this machine: a factor and a spread per device, dtype and family.

Neither changes the ranking of configs; `autotune learn` fits them, and `autotune predict` applies them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autotune.device import Device
from autotune.errors import UsageError
from autotune.files import read_json
from autotune.kernel import Kernel
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.model import Prediction

FEWEST_TIMES = 16
"""Fewer measured times do not determine a spread."""
_WITHIN = 0.9
"""Fraction of the measured times within the spread."""
_LEAST_SPREAD = 1.05


@dataclass(frozen=True)
class Calibration:
    """Ratio of measured to modeled time, and the number of times that it was fitted on."""

    factor: float
    spread: float
    times: int

    def __post_init__(self) -> None:
        if not (self.factor > 0 and self.spread >= 1 and self.times >= 1):
            raise ValueError(f"factor must be positive, spread and times 1 or more, got {self}")

    def of(self, modeled: Prediction) -> Prediction:
        scaled = tuple((name, self.factor * us) for name, us in modeled.terms)
        return Prediction(
            self.factor * modeled.us, scaled, self.spread, f"calibrated on {self.times} times measured here"
        )


def fitted(modeled_us: Floats, us: Floats) -> Calibration:
    """Fit the median of the ratio, and the spread that nine of ten lie within."""
    logs = np.log(us / modeled_us)
    middle = float(np.median(logs))
    off = float(np.quantile(np.abs(logs - middle), _WITHIN))
    return Calibration(round(float(np.exp(middle)), 4), round(max(_LEAST_SPREAD, float(np.exp(off))), 4), len(us))


def family(kernel: Kernel[Any], device: Device, dtype: str) -> str:
    """Key of a calibration: `h100 fp8 gemm`."""
    return f"{device.name} {dtype} {kernel.name.partition('/')[0]}"


def path(state: Path) -> Path:
    return state / "calibration.json"


def written(found: Mapping[str, Calibration]) -> str:
    return json.dumps({name: asdict(one) for name, one in sorted(found.items())}, indent=1) + "\n"


def load(state: Path) -> dict[str, Calibration]:
    """Read calibrations by `family`; empty before anything was learned. Raises UsageError for a damaged file."""
    if not path(state).is_file():
        return {}
    remedy = "fit it again: autotune learn (or remove the file)"
    try:
        data = read_json(path(state))
        return {name: Calibration(**one) for name, one in data.items()}
    except (UsageError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"{path(state)}: not a calibration ({error}); {remedy}") from error
