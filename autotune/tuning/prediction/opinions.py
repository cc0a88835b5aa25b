"""What is believed of a problem's configs before any was tried: the static model's view, and the community's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning.prediction import prior
from autotune.tuning.prediction.calls import distinct, side_by_side, works
from autotune.tuning.prediction.predict import predict_all


def opinions(
    kernel: Kernel[Any], problem: Problem, configs: Sequence[Config], device: Device, believed: Path = prior.PATH
) -> tuple[list[float], ...]:
    """Predicted times of all configs, one list a source, for `Search.allow`. The prior that lies at `believed`, trained
    on winners of GEMM and fused MoE, speaks of kernels with BLOCK_M x BLOCK_N tiles on the matrix units only."""
    if not configs:
        return ([],)
    asked = works(kernel, problem, configs, device)
    first, like = distinct(asked, configs)
    calls = side_by_side([asked[at] for at in first], [configs[at] for at in first])
    predictions = predict_all(calls, device)
    found = [predictions.us]
    if prior.speaks_of(calls):
        found.append(prior.load(believed).times(prior.features(calls, device, predictions)))
    return tuple(times[like].tolist() for times in found)


def believes(kernel: Kernel[Any], problem: Problem, device: Device) -> bool:
    """Whether the prior has a view of this kernel."""
    config = kernel.default(problem, device)
    return prior.speaks_of(side_by_side([kernel.work(problem, config, device)], [config]))
