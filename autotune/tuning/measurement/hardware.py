"""The GPUs of this machine: which are of a kind, and where one differs from its device record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from autotune import device as devices
from autotune.device import Device
from autotune.errors import DeviceError

_ALIKE = 0.1
"""Share by which a figure may differ: datasheets round, and memory is told in GB or in GiB, less what drivers keep."""


@dataclass(frozen=True)
class Present:
    """torch's numbers of the GPUs of one kind, and the others of this machine: `GPU 1 is l40s`."""

    numbers: tuple[int, ...]
    others: tuple[str, ...]


def present(kind: str) -> Present:
    """The GPUs that torch sees, divided into those that are the device `kind` and those that are not."""
    kinds = [_kind(number) for number in range(torch.cuda.device_count())]
    numbers = tuple(number for number, name in enumerate(kinds) if name == kind)
    others = tuple(f"GPU {number} is {name}" for number, name in enumerate(kinds) if name != kind)
    return Present(numbers, others)


def _kind(number: int) -> str:
    try:
        return devices.at(number).name
    except DeviceError:
        return f"a {torch.cuda.get_device_name(number)}, which no device record describes"


def last_level_bytes(device: Device, number: int) -> int:
    """Bytes of the cache nearest DRAM by the record or the driver, whichever is more: too much flushes too."""
    told = int(getattr(torch.cuda.get_device_properties(number), "L2_cache_size", 0))
    return max(int(device.last_level_bytes), told)


def differences(device: Device, number: int) -> Iterator[str]:
    """Where the record says something else than the driver, for the figures that a driver tells."""
    properties = torch.cuda.get_device_properties(number)
    for name, recorded, told, unit in _figures(device, properties):
        if told and abs(told - recorded) > _ALIKE * recorded:
            yield f"{name}: the record says {recorded:g} {unit}, the driver {told:g}"


def _figures(device: Device, properties: Any) -> Iterator[tuple[str, float, float, str]]:  # noqa: ANN401
    # torch tells AMD's L2 of one die.
    l2_mb = getattr(properties, "L2_cache_size", 0) * device.xcds / 2**20
    # Both edges of the clock, in bits: what the datasheet's bandwidth is computed from.
    bandwidth = 2e3 * getattr(properties, "memory_clock_rate", 0) * getattr(properties, "memory_bus_width", 0) / 8e12
    yield "compute units", device.compute_units, properties.multi_processor_count, ""
    yield "memory", device.dram_gb, properties.total_memory / 1e9, "GB"
    yield "L2", device.l2_mb, l2_mb, "MiB"
    yield "clock", device.clock_ghz, getattr(properties, "clock_rate", 0) / 1e6, "GHz at most"
    yield "bandwidth", device.dram_peak_tb_s, bandwidth, "TB/s"
    yield "shared memory", device.shared_bytes_per_unit, _shared(properties), "B a unit"


def _shared(properties: Any) -> float:  # noqa: ANN401
    return float(getattr(properties, "shared_memory_per_multiprocessor", 0))
