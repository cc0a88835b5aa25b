"""Building blocks of every part of a layer, and the record of its results."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from layer.launch import Launcher
from layer.scene import Scene
from layer.weights import Plan, Sizes, Weights
from torch import Tensor

Trace = dict[str, Tensor]


@dataclass(frozen=True)
class Recorder:
    """Puts values in rows of a trace, under the name of a layer."""

    trace: Trace
    scope: str
    sizes: dict[str, int]
    """Rows that the trace has for `tokens` and for `entries`."""

    def __call__(self, name: str, value: Tensor, rows: Tensor, of: str = "tokens") -> None:
        key = f"{self.scope}.{name}"
        if key not in self.trace:
            self.trace[key] = torch.full((self.sizes[of], *value.shape[1:]), float("nan"))
        self.trace[key][rows] = value.float()


@dataclass(frozen=True)
class Site:
    """One layer: its plan and weights, the scene it serves, how its kernels are launched, and its recorder."""

    plan: Plan
    sizes: Sizes
    weights: Weights
    scene: Scene
    launch: Launcher
    record: Recorder
