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
    source = kernel.source_hash()
    for name in _filed(state, kernel, device, bench):
        for trials in _read(state, name, kernel):
            if (trials.study.source, trials.study.bench) == (source, bench.name):
                found[trials.problem].append(dict(trials.outcomes))
    return found


def _filed(state: Path, kernel: Kernel[Any], device: Device, bench: Bench) -> list[str]:
    """Names under which such devices are filed where this bench measured them."""
    others = [devices.named(name) for name in devices.names() if name != device.name]
    names = [bench.table_device(other.name) for other in others if other.vendor == device.vendor]
    return [name for name in names if (state / "journal" / name / f"{kernel.name}.log").is_file()]


def _read(state: Path, name: str, kernel: Kernel[Any]) -> list[Trials]:
    try:
        return list(read(state, name, kernel.name, kernel.problem))
    except UsageError:  # another session is writing it, or it is damaged: its own session says so, and we do without
        return []
