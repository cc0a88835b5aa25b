"""The workloads that a GPU is prepared for on the day it arrives: all models, and the layouts that are served on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autotune.errors import UsageError
from autotune.workload.calls import check
from autotune.workload.model import Model
from autotune.workload.models import MODELS
from autotune.workload.scenario import Parallelism, Scenario

DEVICES = ("mi300x", "mi325x", "mi355x", "h100", "h200", "h20", "b200", "gb300")
"""GPUs that serve DeepSeek V4 and V3.2 by InferenceX's lists and by the engines' recipes."""

TENSOR = Parallelism(8)
WIDE = (Parallelism(8, 8, data_attention=True), Parallelism(32, 32, data_attention=True))
"""Data-parallel attention with experts spread over the same ranks: decode of many requests."""
_WIDE_DEVICES = frozenset({"mi355x", "gb300"})


@dataclass(frozen=True)
class Deployment:
    """One model, as engines run it."""

    model: Model
    scenario: Scenario
    parallelism: Parallelism


def deployments(
    device: str, scenario: Scenario, models: Sequence[Model] = tuple(MODELS.values())
) -> Iterator[Deployment]:
    """Yield how `models` are served on `device`: eight GPUs by tensor parallelism, and wide layouts where they are
    usual. Layouts that a model's sizes cannot be split into are left out."""
    layouts = (TENSOR, *(WIDE if device in _WIDE_DEVICES else ()))
    for model in models:
        for parallelism in layouts:
            try:
                check(model, parallelism)
            except UsageError:
                continue
            yield Deployment(model, scenario, parallelism)
