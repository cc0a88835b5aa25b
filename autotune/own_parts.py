"""Kernels and device records outside this package that a command was given, for the processes that work for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autotune import device as devices
from autotune import registry
from autotune.origin import Origin


@dataclass(frozen=True)
class OwnParts:
    """Origins of kernels, and the folder of device records; files lie at the same paths on every machine."""

    kernels: tuple[Origin, ...]
    devices: Path | None


def of_this_process() -> OwnParts:
    """The parts that this process was given."""
    return OwnParts(registry.named_here(), devices.given_folder())


def know(parts: OwnParts) -> None:
    """Make `parts` known in this process. Raises UsageError where a kernel's name is another's."""
    registry.know(parts.kernels)
    devices.give_folder(parts.devices)
