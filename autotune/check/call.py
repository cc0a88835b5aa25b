"""One call of one kernel on one device: the unit that compilers are compared on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from autotune import device as devices
from autotune.config import Config, Problem, describe, key
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning.compilation.launch import Launch, launches

Proved = tuple[str, str, Config]
"""(kernel, device, config): what is proved as a whole, on all check problems."""


@dataclass(frozen=True)
class CheckedCall:
    kernel: Kernel[Any]
    problem: Problem
    config: Config
    device: Device

    @cached_property
    def signature(self) -> str:
        """Equal for calls that a toolchain compiles to the same binaries, on every device of an arch."""
        seen = " ".join(launch.signature for launch in self._launches) or describe(self.problem)
        return f"{self.kernel.name} {self.kernel.identity.kernel} {self.device.arch} {seen} {self.config}"

    @property
    def proved(self) -> Proved:
        return self.kernel.name, self.device.name, self.config

    @cached_property
    def computation(self) -> str:
        """Equal for calls that compute the same on the same inputs, on whatever arch and with whatever options."""
        seen = " ".join(f"{launch.grid} {launch.computes}" for launch in self._launches)
        asked = describe(self.problem)
        return f"{self.kernel.name} {self.kernel.identity.kernel} {asked} {seen or f'{self.device.name} {self.config}'}"

    @cached_property
    def _launches(self) -> list[Launch]:
        try:
            return launches(self.kernel, self.problem, self.config, self.device)
        except Exception:  # a row may hold any config; the compiler will say what is wrong with it
            return []

    @property
    def programs(self) -> int:
        """Programs of the heaviest launch: occupancy matters only up to that many."""
        if self.kernel.formula is None:
            return max((math.prod(launch.grid) for launch in self._launches), default=1)
        try:
            return self.kernel.formula(self.problem, self.config, self.device).programs
        except (KeyError, ZeroDivisionError):
            return 1  # a row that the kernel's rules refuse

    def request(self, action: str) -> dict[str, Any]:
        """The line that asks a child for `action`."""
        return {
            "action": action,
            "kernel": self.kernel.name,
            "path": str(self.kernel.path),
            "launcher": self.kernel.origin.function,
            "problem": dict(key(self.problem)),
            "config": dict(self.config),
            "device": self.device.name,
            "devices": str(devices.given_folder() or ""),
        }
