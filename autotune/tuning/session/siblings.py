"""What was measured of a kernel on other devices of the same vendor, for a session that begins on this one."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune.config import Problem
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Kernel
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.search.study import Outcomes
from autotune.tuning.session.trials import Trials, read


def measured_by_siblings(
    state: Path, kernel: Kernel[Any], device: Device, bench: Bench | None
) -> dict[Problem, list[Outcomes]]:
    """Trials of the same source, measured in the same way, one list entry a device: for `Search.learn_from`. A model's
    own figures teach nothing: this device has a model too."""
    if bench is None:
        return {}
    found: dict[Problem, list[Outcomes]] = defaultdict(list)
    others = [devices.named(name) for name in devices.names() if name != device.name]
    for filed in (bench.table_device(other.name) for other in others if other.vendor == device.vendor):
        for trials in _read(state, filed, kernel):
            if trials.study.bench == bench.name:
                found[trials.problem].append(dict(trials.outcomes))
    return found


def _read(state: Path, name: str, kernel: Kernel[Any]) -> list[Trials]:
    try:
        return list(read(state, name, kernel))
    except UsageError:  # another session is writing it, or it is damaged: its own session says so, and we do without
        return []
