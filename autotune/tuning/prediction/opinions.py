"""What is believed of a problem's configs before any was tried: the static model's view, and the community's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning.prediction import prior
from autotune.tuning.prediction.predict import predict


def opinions(
    kernel: Kernel[Any], problem: Problem, configs: Sequence[Config], device: Device
) -> tuple[list[float], ...]:
    """Predicted times of all configs, one list a source, for `Search.allow`. The prior, trained on GEMM winners, speaks
    of kernels with BLOCK_M x BLOCK_N tiles on the matrix units only."""
    works = [kernel.work(problem, config, device) for config in configs]
    predictions = [predict(work, config, device) for work, config in zip(works, configs, strict=True)]
    modelled = [prediction.us for prediction in predictions]
    if not configs or not prior.speaks_of(works[0], configs[0]):
        return (modelled,)
    rows = prior.features(works, configs, device, predictions)
    return modelled, prior.load().times(rows)
