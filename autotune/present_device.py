"""Detection of the GPU that is present: the record that describes it, or one made from what its driver reports."""

from __future__ import annotations

import logging
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from autotune import arch as archs
from autotune import device as devices
from autotune.derived_device import derived
from autotune.device import Device
from autotune.device_identity import arch_of, fitting, pci_id, relation
from autotune.errors import DeviceError


def current() -> Device:
    """The GPU that torch sees. Raises DeviceError where there is none, or none of an arch with a record."""
    import torch

    if not torch.cuda.is_available():
        raise DeviceError("no GPU is visible to torch; name a device, such as mi355x")
    return at(torch.cuda.current_device())


def current_recorded() -> Device:
    """The GPU that torch sees, to be tuned: other processes and tables know no derived record.

    Raises DeviceError as `current` does, and where no record describes it.
    """
    gpu = current()
    if gpu.name not in devices.names():
        raise DeviceError(
            f"this GPU is {gpu.name}, {gpu.confidence}: it serves default configs, and tables need a record of it; "
            f"{devices.HOW_TO_ADD_THIS}"
        )
    return gpu


@cache
def at(index: int) -> Device:
    """The GPU that torch numbers `index`. Raises DeviceError."""
    import torch

    return _identify(torch.cuda.get_device_properties(index))


def _identify(properties: Any, sysfs: Path = Path("/sys/bus/pci/devices")) -> Device:  # noqa: ANN401 - private type
    pci = pci_id(properties, sysfs)
    fits = fitting(devices.records(), properties, pci)
    if not fits:
        return _without_record(properties, pci, "no record describes this GPU")
    if len(fits) == 1:
        return fits[0]
    which = " or ".join(device.name for device in fits)
    seen = f"PCI id {pci or 'hidden'}, name {getattr(properties, 'name', '')!r}, memory and clock fit each"
    fits.sort(key=_speed)
    if _speed(fits[0]) == _speed(fits[1]):
        return _without_record(properties, pci, f"this GPU may be {which} ({seen})")
    warnings.warn(
        f"this GPU may be {which}: {seen}; taken for the slowest. Name it with --device where that is wrong, and add "
        "its PCI id to its record",
        stacklevel=2,
    )
    return fits[0]


def _speed(device: Device) -> tuple[float, float]:
    return device.rate("bf16"), device.dram_tb_s


def _without_record(properties: Any, pci: str, why: str) -> Device:  # noqa: ANN401
    """A record made for this process: no table is of that name, so default configs serve."""
    arch = arch_of(properties)
    family = archs.family(arch)  # of an arch that is not known, the nearest
    lenders = [device for device in devices.records() if device.arch == family.name] or [devices.of_arch(family.name)]
    lender = relation(lenders, properties, lenders[0].arch, pci)
    made = derived(lender, arch, properties)
    devices.register(made)
    logging.getLogger(__name__).warning(
        "%s (arch %s, %d compute units, PCI id %s): it is %s, %s, and default configs serve; %s",
        *(
            why,
            arch,
            properties.multi_processor_count,
            pci or "hidden",
            made.name,
            made.confidence,
            devices.HOW_TO_ADD_THIS,
        ),
    )
    return made
