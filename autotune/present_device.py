"""Detection of the GPU that is present: by arch, compute units, PCI id, then what else its driver reports."""

from __future__ import annotations

import logging
import math
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from autotune import arch as archs
from autotune import device as devices
from autotune.derived_device import derived
from autotune.device import Device
from autotune.errors import DeviceError


def current() -> Device:
    """The GPU that torch sees. Raises DeviceError where there is none, or none of an arch with a record."""
    import torch

    if not torch.cuda.is_available():
        raise DeviceError("no GPU is visible to torch; name a device, such as mi355x")
    return at(torch.cuda.current_device())


@cache
def at(index: int) -> Device:
    """The GPU that torch numbers `index`. Raises DeviceError."""
    import torch

    return _identify(torch.cuda.get_device_properties(index))


def _identify(properties: Any, sysfs: Path = Path("/sys/bus/pci/devices")) -> Device:  # noqa: ANN401 - private type
    amd = getattr(properties, "gcnArchName", "")
    arch = amd.split(":")[0] if amd.startswith("gfx") else f"sm_{properties.major}{properties.minor}"
    units = properties.multi_processor_count
    records = [d for d in map(devices.named, devices.names()) if (d.arch, d.compute_units) == (arch, units)]
    pci_id = _pci_id(properties, sysfs)
    if not records:
        return _without_record(arch, properties, pci_id)
    records = [d for d in records if pci_id in d.pci_ids] or _fitting(records, properties)
    if len(records) > 1:
        warnings.warn(
            f"this GPU may be {' or '.join(d.name for d in records)}: PCI id {pci_id or 'hidden'}, name "
            f"{getattr(properties, 'name', '')!r}, memory and clock fit each; taken for the slowest. Name it with "
            "--device where that is wrong, and add its PCI id to its record",
            stacklevel=2,
        )
    return min(records, key=lambda d: d.rate("bf16"))


def _without_record(arch: str, properties: Any, pci_id: str) -> Device:  # noqa: ANN401
    """A record made for this process: no table is of that name, so default configs serve."""
    if arch not in archs.names():
        raise DeviceError(f"this GPU has arch {arch}, which has no record; {archs.how_to_add(arch)}")
    units = properties.multi_processor_count
    relations = [d for d in map(devices.named, devices.names()) if d.arch == arch] or [devices.of_arch(arch)]
    lender = min(relations, key=lambda d: abs(math.log(d.compute_units / units)))
    made = derived(lender, arch, properties)
    devices.register(made)
    logging.getLogger(__name__).warning(
        "no record in %s has arch %s with %d compute units (PCI id %s): this GPU is %s, %s, and default configs serve; "
        "a file there, copied from %s.toml, lets it be tuned",
        *(devices.DEVICES, arch, units, pci_id or "hidden", made.name, made.confidence, lender.name),
    )
    return made


def _fitting(records: list[Device], properties: Any) -> list[Device]:  # noqa: ANN401
    """The records that what the driver reports fits best, where a virtual machine hides the PCI id.

    H100 and H200 differ in neither arch nor units, MI350X and MI355X nor in memory: name, memory and clock are asked in
    turn, each where the one before leaves several.
    """
    words = f" {re.sub('[^a-z0-9]+', ' ', getattr(properties, 'name', '').lower())} "
    named_so = [d for d in records if f" {d.name.replace('_', ' ')} " in words] or records
    memory_gb = max(getattr(properties, "total_memory", 0) / 1e9, 1.0)
    off = {d.name: abs(math.log(d.dram_gb / memory_gb)) for d in named_so}
    alike = [d for d in named_so if off[d.name] < min(off.values()) + 0.05]
    clock_ghz = getattr(properties, "clock_rate", 0) / 1e6
    # An L40 and an L40S are 1.2 % apart.
    return [d for d in alike if abs(d.clock_ghz - clock_ghz) < 0.005 * d.clock_ghz] or alike


def _pci_id(properties: Any, sysfs: Path) -> str:  # noqa: ANN401
    """`2330` of an H100; torch's `pci_device_id` is the slot on the bus, not the id of the model."""
    slot = [getattr(properties, f"pci_{part}_id", 0) for part in ("domain", "bus", "device")]
    path = sysfs / "{:04x}:{:02x}:{:02x}.0".format(*slot) / "device"
    return path.read_text().strip().removeprefix("0x") if path.exists() else ""
