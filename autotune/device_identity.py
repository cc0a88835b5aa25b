"""Records that may describe a GPU, by what its driver reports: arch and compute units, PCI id, name, memory, clock."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autotune.device_record import Device

Properties = Any
"""The type of what `torch.cuda.get_device_properties` returns is private."""

_PARTITION = re.compile(r" [dtqc]px$")
"""End of the name of a partition's record; drivers give a partition the name of its GPU."""
_OTHER_MEMORY = 0.5
"""Logarithm of the ratio of two memory sizes from which they are of two GPUs: an A100 of 40 GB is none of 80."""
_NO_MODEL = re.compile(r"\d+gb|hbm\d\w*|gddr\d\w*|sxm\d*|pcie\d*|oam|mig|\d+g|\d+c")
"""Words with digits in a GPU's name that name no model: memory, form, the size of a slice."""


def arch_of(properties: Properties) -> str:
    """`gfx950`, `sm_90`."""
    amd = getattr(properties, "gcnArchName", "")
    return str(amd).split(":")[0] if amd.startswith("gfx") else f"sm_{properties.major}{properties.minor}"


def pci_id(properties: Properties, sysfs: Path) -> str:
    """`2330` of an H100, empty where a virtual machine hides it; torch's `pci_device_id` is the slot on the bus."""
    slot = [getattr(properties, f"pci_{part}_id", 0) for part in ("domain", "bus", "device")]
    path = sysfs / "{:04x}:{:02x}:{:02x}.0".format(*slot) / "device"
    return path.read_text().strip().removeprefix("0x") if path.exists() else ""


def fitting(records: Iterable[Device], properties: Properties, pci: str) -> list[Device]:
    """The records that nothing which the driver tells speaks against: several where it does not tell enough.

    H100 and H200 differ in neither arch nor units, MI350X and MI355X nor in memory: PCI id, name, memory and clock are
    asked in turn, each where the one before leaves several. A slice of a GPU (MIG, CPX) that has as many units as
    another model is told by its name and memory. A PCI id of one record speaks against the others.
    """
    records = list(records)
    owners = {d.name for d in records if pci in d.pci_ids}
    alike = [d for d in records if (d.arch, d.compute_units) == (arch_of(properties), properties.multi_processor_count)]
    if owners:
        return [d for d in alike if d.name in owners]
    alike = _named_so(alike, getattr(properties, "name", ""))
    memory_gb = getattr(properties, "total_memory", 0) / 2**30  # makers' gigabytes: 79.2 of an H100's 80
    off = {d.name: abs(math.log(d.dram_gb / memory_gb)) if memory_gb else 0.0 for d in alike}
    nearest = min([*off.values(), _OTHER_MEMORY])
    alike = [d for d in alike if off[d.name] < min(nearest + 0.05, _OTHER_MEMORY)]
    clock_ghz = getattr(properties, "clock_rate", 0) / 1e6
    # An L40 and an L40S are 1.2 % apart.
    return [d for d in alike if abs(d.clock_ghz - clock_ghz) < 0.005 * d.clock_ghz] or alike


def _named_so(records: list[Device], name: str) -> list[Device]:
    """Those whose names stand in the driver's, the longest: an H100 NVL is no H100; all where it names no model."""
    words = _words(name)
    lengths = {d.name: max((len(n) for n in _names(d) if f" {n} " in f" {words} "), default=0) for d in records}
    longest = max(lengths.values(), default=0)
    if longest:
        return [d for d in records if lengths[d.name] == longest]
    models = [w for w in words.split() if re.search(r"\d", w) and not _NO_MODEL.fullmatch(w)]
    return [] if models else records


def _names(device: Device) -> set[str]:
    return {
        _PARTITION.sub("", _words(device.name)),
        *(_words(alias) for _, aliases in device.aliases for alias in aliases),
    }


def _words(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


def relation(records: Iterable[Device], properties: Properties, arch: str, pci: str) -> Device:
    """The record that lends its rates to a GPU of `arch` that has none: the GPU that it is a slice of, by PCI id, else
    the one of its name, else the one with the nearest number of compute units."""
    units = properties.multi_processor_count
    name = _words(getattr(properties, "name", ""))

    def distance(device: Device) -> tuple[bool, bool, float, str]:
        named = any(f" {each} " in f" {name} " for each in _names(device))
        return pci not in device.pci_ids, not named, abs(math.log(device.compute_units / units)), device.name

    return min((d for d in records if d.arch == arch), key=distance)
