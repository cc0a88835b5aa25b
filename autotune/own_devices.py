"""The user's own device records: made from a related record or from the GPU that is here, and written beside none of
the shipped ones, so that an upgrade of this package keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from autotune import arch as archs
from autotune import device as devices
from autotune import device_record, files
from autotune.derived_device import derived
from autotune.device_identity import pci_id
from autotune.device_record import COUNTS, DTYPES, RATES, Device
from autotune.errors import DeviceError, UsageError

SETTABLE = ("arch", "pci_ids", *COUNTS, *RATES, "memory.page_loss", *(f"tflops.{dtype}" for dtype in DTYPES))
"""Fields that `--set` takes, by the names that a record's file gives them."""


@dataclass(frozen=True)
class Rate:
    """A measured figure: its field as `--set` takes it, such as memory.tb_s, and what was run for it."""

    field: str
    value: float
    source: str


def like(lender: Device, settings: Mapping[str, str]) -> Device:
    """A GPU that is like `lender` but for `settings`: rates follow compute units, clock and memory where these are set
    and the rates are not. Raises UsageError for a field that no record has or a value that it cannot hold."""
    values = {field: _value(field, text) for field, text in settings.items()}
    told = SimpleNamespace(
        multi_processor_count=values.get("compute_units", lender.compute_units),
        clock_rate=values.get("clock_ghz", 0.0) * 1e6,
        total_memory=values.get("memory.gb", 0.0) * 1e9,
    )
    made = derived(lender, values.get("arch", lender.arch), told)
    figures = {name: f"derived: from the record of {lender.name}" for name, _ in made.figures}
    return _with(replace(made, figures=tuple(figures.items())), values, f"derived: as {lender.name}, scaled")


def of_this_gpu(settings: Mapping[str, str], sysfs: Path = devices.SYSFS) -> Device:
    """The GPU that torch sees, with what its driver tells, its PCI id and its name.

    Raises DeviceError where there is none or where a record describes it, and UsageError as `like` does.
    """
    import torch

    here = devices.current()
    if here.name in devices.names():
        raise DeviceError(f"this GPU is {here.name}, which has a record; name that, or add one with --like {here.name}")
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    pci = pci_id(properties, sysfs)
    aliases = (("driver", (properties.name,)),) if getattr(properties, "name", "") else ()
    known = replace(here, pci_ids=(pci,) if pci else (), aliases=aliases)
    return _with(known, {field: _value(field, text) for field, text in settings.items()}, here.confidence)


def write(name: str, device: Device) -> Path:
    """Write the record of `device` as `name` into the user's folder, and return its file.

    Raises UsageError for a name that is taken or that no file should have, DeviceError for a record that contradicts
    itself, OSError where the folder cannot be written.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name) or name in archs.names():
        raise UsageError(
            f"{name!r}: a record's name has small letters, digits and _, and is no arch; such as h100_pcie"
        )
    path = devices.own_folder() / f"{name}.toml"
    if path.exists():
        raise UsageError(f"{path} is there already; edit it, or remove it and add it again")
    if devices.called(name):
        raise UsageError(f"{name!r} means {devices.called(name)}, which has a record; choose another name")
    return _put(path, device)


def measured(device: Device, rates: Iterable[Rate], where: str) -> Device:
    """`device` with the figures that were measured; peaks that were read from their maker's documents stay.

    `where` names the software that measured. Raises DeviceError where the figures contradict one another.
    """
    data = device_record.content(device)
    peaks_were_read = data["figures"].get("tflops", "").startswith("read")
    for rate in rates:
        part, _, leaf = rate.field.rpartition(".")
        if part == "tflops" and peaks_were_read:
            continue
        (data[part] if part else data)[leaf] = rate.value
        data["figures"]["tflops" if part == "tflops" else leaf] = f"measured: {rate.source}; {where}"
    # What streams through DRAM is no faster than its peak, nor the last level slower than DRAM.
    data["memory"]["peak_tb_s"] = max(data["memory"]["peak_tb_s"], data["memory"]["tb_s"])
    return device_record.parse(device.name, data, "measured figures")


def replace_record(device: Device) -> Path:
    """Write the record of `device` into the user's folder, in place of one that is there, and return its file."""
    return _put(devices.own_folder() / f"{device.name}.toml", device)


def _put(path: Path, device: Device) -> Path:
    data = device_record.content(device)
    device_record.parse(path.stem, data, path.stem)
    files.write(path, device_record.dumps(data))
    devices.forget()
    return path


def _with(device: Device, values: Mapping[str, Any], confidence: str) -> Device:
    """`device` with fields of its file as `values` has them. Raises DeviceError where they contradict one another."""
    data = device_record.content(device)
    for field, value in values.items():
        part, _, leaf = field.rpartition(".")
        (data[part] if part else data)[leaf] = value
        data["figures"]["tflops" if part == "tflops" else leaf] = "unconfirmed: given with --set"
    given = f"; given with --set: {', '.join(values)}" if values else ""
    return device_record.parse(device.name, data | {"confidence": confidence + given}, "--set")


def _value(field: str, text: str) -> Any:  # noqa: ANN401
    if field not in SETTABLE:
        raise UsageError(f"--set {field}: no such field; there are {', '.join(SETTABLE)}")
    try:
        if field in COUNTS:
            return int(text)
        return text if field == "arch" else text.split(",") if field == "pci_ids" else float(text)
    except ValueError:
        raise UsageError(f"--set {field}={text}: must be {'an integer' if field in COUNTS else 'a number'}") from None
