"""Known devices: a record each, in `devices/` or in the user's own folder, found by name or by what a driver reports.

Kernels are tuned and served on GPUs; for an NPU they are only planned. `named` finds GPUs, `target` both, `current` the
GPU that is here, with a record made from its driver's figures where none describes it.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from autotune import arch as archs
from autotune import device_record
from autotune.derived_device import derived
from autotune.device_identity import arch_of, fitting, pci_id, relation
from autotune.device_names import called_arch, hint, plain, spellings
from autotune.device_record import Device
from autotune.errors import DeviceError
from autotune.state import state_root

__all__ = ["Device"]

DEVICES = Path(__file__).parent / "devices"
"""Records that come with this package."""

HOW_TO_ADD_THIS = "`autotune devices add NAME --from-this-gpu` writes a record, which lets it be tuned"


_given: Path | None = None
"""A folder of records that this process was given, read last."""


def give_folder(folder: Path | None) -> None:
    """Let records of `folder` be read too, and new ones be written there; None ends it."""
    global _given
    if folder != _given:
        _given = folder
        forget()


def given_folder() -> Path | None:
    """The folder that `give_folder` named."""
    return _given


def own_folder() -> Path:
    """Where the user's own records are written: the folder that was given, else one under AUTOTUNE_STATE."""
    return _given or state_root() / "devices"


def paths() -> dict[str, Path]:
    """The file of each record by its name, also of one that cannot be read.

    The user's own are read beside the shipped ones; one of a shipped name takes its place.
    """
    folders = (DEVICES, state_root() / "devices", own_folder())
    files = {path.stem: path for folder in folders for path in folder.glob("*.toml")}
    return dict(sorted(files.items()))


def records() -> list[Device]:
    """Every record that can be read; one that cannot is named in the log, once, and left out."""
    return [record for path in paths().values() if (record := _readable(path))]


def names() -> list[str]:
    """Names of the GPUs whose records can be read, sorted."""
    return [record.name for record in records() if record.architecture.is_gpu]


_derived: dict[str, Device] = {}
"""GPUs of this machine that no record describes, by the names that were made for them."""


def named(name: str) -> Device:
    """The record of a GPU by its name, in any spelling (`MI300X`), by another project's or the driver's name of it
    (`NVIDIA H100 80GB HBM3`), by an arch that has one device; or of a GPU of this machine without one.

    Raises DeviceError for any other name, with the names that it may mean or how to add it, for a broken record, and
    for an NPU.
    """
    device = _recorded(name)
    if not device.architecture.is_gpu:
        raise DeviceError(
            f"{device.name} is an NPU: no kernel is tuned, measured or served on it; {archs.PLANNED_ONLY}"
        )
    return device


def _recorded(name: str) -> Device:
    """The record of a GPU or an NPU, as `named` finds it. Raises DeviceError."""
    if name in _derived:
        return _derived[name]
    found = paths()
    if name in found:
        return _read(found[name])
    spelled = spellings(records()).get(plain(name))
    alike = [record for record in records() if record.arch == called_arch(name)]
    if spelled is None and len(alike) != 1:
        raise DeviceError(f"unknown device {name!r}{hint(name, records())}")
    return _recorded(spelled) if spelled else alike[0]


@cache
def _read(path: Path) -> Device:
    return device_record.read(path)


@cache
def _readable(path: Path) -> Device | None:
    try:
        return _read(path)
    except DeviceError as error:
        logging.getLogger(__name__).warning("%s; this record is left out", error)
        return None


def forget() -> None:
    """Drops what was read: the next question reads the files again."""
    for cached in (_read, _readable, of_arch, at):
        cached.cache_clear()


def filed(folder: str) -> Device:
    """The device whose tables lie in `folder`: of its own name, or of a rehearsal's, `mi355x.simulated-7`.

    Raises DeviceError.
    """
    return named(folder.partition(".")[0])


def called(alias: str) -> str | None:
    """The device that another project calls `alias`, in any case and with any spaces or marks between."""
    return spellings(records()).get(plain(alias))


def target(name: str) -> Device:
    """Return the GPU or NPU to compile for, by the name of a device or of an arch. Raises DeviceError."""
    return of_arch(str(called_arch(name))) if is_arch(name) else _recorded(name)


def is_arch(name: str) -> bool:
    """True if `name` spells an arch, and no device is of that name, as one is of gfx1250."""
    return called_arch(name) is not None and name not in names()


@cache
def of_arch(arch: str) -> Device:
    """The device that stands for `arch`, for compiling only: its stand-in where that is one of its own, else any of its
    own, else the stand-in's rates under the arch's own name and limits. Raises DeviceError."""
    record = archs.named(arch)
    lender = _recorded(record.stand_in)
    if lender.arch == arch:
        return lender
    if own := [device for device in records() if device.arch == arch]:
        return own[0]
    return replace(
        lender,
        name=arch,
        arch=arch,
        shared_bytes_per_block=record.shared_bytes_per_block,
        shared_bytes_per_unit=record.shared_bytes_per_unit,
        pci_ids=(),
        confidence=f"placeholder: compile only, rates copied from {lender.name}",
        aliases=(),
    )


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
    if gpu.name not in names():
        raise DeviceError(
            f"this GPU is {gpu.name}, {gpu.confidence}: it serves default configs, and tables need a record of it; "
            f"{HOW_TO_ADD_THIS}"
        )
    return gpu


@cache
def at(index: int) -> Device:
    """The GPU that torch numbers `index`. Raises DeviceError."""
    import torch

    return _identify(torch.cuda.get_device_properties(index))


SYSFS = Path("/sys/bus/pci/devices")


def _identify(properties: Any, sysfs: Path = SYSFS) -> Device:  # noqa: ANN401 - torch's type is private
    """The record of the GPU whose driver reports `properties` to torch; one made from them where none fits."""
    pci = pci_id(properties, sysfs)
    fits = fitting(records(), properties, pci)
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
    """A record made for this process, which `named` finds: no table is of that name, so default configs serve."""
    arch = arch_of(properties)
    family = archs.family(arch)  # of an arch that is not known, the nearest
    lenders = [device for device in records() if device.arch == family.name] or [of_arch(family.name)]
    lender = relation(lenders, properties, lenders[0].arch, pci)
    made = derived(lender, arch, properties)
    _derived[made.name] = made
    logging.getLogger(__name__).warning(
        "%s (arch %s, %d compute units, PCI id %s): it is %s, %s, and default configs serve; %s",
        *(why, arch, properties.multi_processor_count, pci or "hidden", made.name, made.confidence, HOW_TO_ADD_THIS),
    )
    return made
