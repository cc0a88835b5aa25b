"""All models by name. A new one is a module with its record and calls, and an entry here."""

from __future__ import annotations

from autotune.errors import UsageError, did_you_mean
from autotune.workload import deepseek_v3_2, deepseek_v4
from autotune.workload.model import Model

MODELS = {model.name: model for model in (*deepseek_v4.MODELS, *deepseek_v3_2.MODELS)}


def named(name: str) -> Model:
    """Return the model called `name`. Raises UsageError."""
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}{did_you_mean(name, MODELS)}")
    return MODELS[name]
