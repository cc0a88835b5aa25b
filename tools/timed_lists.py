"""Whole lists of configs, every one timed, beside what the cost model says of them: what searches are judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from autotune.config import Scalar
from autotune.device import Device
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model import prior
from autotune.tuning.cost_model.call_batch import CallBatch
from autotune.tuning.cost_model.model import predict_all
from tools import inductor_data

_LAUNCH = {"num_warps": "warps", "num_stages": "stages"}
_PRODUCT = {"BLOCK_M": "rows", "BLOCK_N": "columns", "BLOCK_K": "depth"} | _LAUNCH
_ATTENTION = {"BLOCK_M": "rows", "BLOCK_N": "depth"} | _LAUNCH
"""Parameters of a config, each by the column of `CallBatch` that holds it."""


Views = tuple[list[float], ...]
"""Times by the cost model, and by the prior where it applies: what a session's search begins with."""


@dataclass(frozen=True)
class TimedList:
    """One problem on one GPU, one entry a config."""

    device: str
    problem: str
    half: int
    """0 or 1: a split by shape; constants of the cost model were fitted on 0."""
    configs: tuple[Mapping[str, Scalar], ...]
    times: Floats
    """Microseconds; inf where the config failed."""
    predict: Callable[[], Views]

    @cached_property
    def views(self) -> Views:
        return self.predict()

    def until(self, order: Iterator[int], share: float) -> int:
        """Return the trials, in this order, until one is within `share` of the best time."""
        enough = (1 + share) * self.times.min()
        return next(count for count, at in enumerate(order, 1) if self.times[at] <= enough)


def load(data: Path, family: str) -> Iterator[TimedList]:
    """Yield every list of TorchInductor of one family in which some config ran."""
    for spaces in inductor_data.load(data, family):
        order = np.argsort(spaces.space, kind="stable")
        for at in np.split(order, np.flatnonzero(np.diff(spaces.space[order])) + 1):
            us = np.where(np.isfinite(spaces.us[at]), spaces.us[at], np.inf)
            if np.isfinite(us).any():
                calls, first = spaces.calls.chosen(at), at[0]
                yield TimedList(
                    spaces.device.name,
                    str(spaces.problem[first]),
                    int(spaces.half[first]),
                    _configs(calls, _ATTENTION if family == "flex_attention" else _PRODUCT),
                    us,
                    partial(_predicted, calls, spaces.device),
                )


def _predicted(calls: CallBatch, device: Device) -> Views:
    predictions = predict_all(calls, device)
    if not prior.applies_to(calls):
        return (predictions.us.tolist(),)
    return predictions.us.tolist(), prior.load().times(prior.features(calls, device, predictions)).tolist()


def _configs(calls: CallBatch, parameters: Mapping[str, str]) -> tuple[Mapping[str, Scalar], ...]:
    columns = [getattr(calls, column).astype(int).tolist() for column in parameters.values()]
    return tuple(dict(zip(parameters, values, strict=True)) for values in zip(*columns, strict=True))
