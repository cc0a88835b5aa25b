"""Known devices: a record each, in `devices/` or in the user's own folder, by name, alias or arch.

Kernels are tuned and served on GPUs; for an NPU they are only planned. `named` finds GPUs, `target` both.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from autotune import arch as archs
from autotune import device_record
from autotune.device_record import Device
from autotune.errors import DeviceError
from autotune.state import state_root

__all__ = ["Device"]

DEVICES = Path(__file__).parent / "devices"
"""Records that come with this package."""


HOW_TO_ADD_THIS = "`autotune devices add NAME --from-this-gpu` writes a record, which lets it be tuned"


def own_folder() -> Path:
    """Where the user's own records lie, read beside the shipped ones; one of a shipped name takes its place."""
    return state_root() / "devices"


def paths() -> dict[str, Path]:
    """The file of each record by its name, also of one that cannot be read."""
    found = {path.stem: path for folder in (DEVICES, own_folder()) for path in folder.glob("*.toml")}
    return dict(sorted(found.items()))


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
    spelled = _spellings().get(_plain(name))
    alike = [record for record in records() if record.arch == _arch_called(name)]
    if spelled is None and len(alike) != 1:
        raise DeviceError(f"unknown device {name!r}{_hint(name)}")
    return _recorded(spelled) if spelled else alike[0]


def register(derived: Device) -> None:
    """Let `named` find the record of a GPU of this machine that no file describes, until this process ends."""
    _derived[derived.name] = derived


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
    for cached in (_read, _readable, of_arch):
        cached.cache_clear()


def filed(folder: str) -> Device:
    """The device whose tables lie in `folder`: of its own name, or of a rehearsal's, `mi355x.simulated-7`.

    Raises DeviceError.
    """
    return named(folder.partition(".")[0])


def called(alias: str) -> str | None:
    """The device that another project calls `alias`, in any case and with any spaces or marks between."""
    return _spellings().get(_plain(alias))


def target(name: str) -> Device:
    """Return the GPU or NPU to compile for, by the name of a device or of an arch. Raises DeviceError."""
    return of_arch(str(_arch_called(name))) if is_arch(name) else _recorded(name)


def is_arch(name: str) -> bool:
    """True if `name` spells an arch, and no device is of that name, as one is of gfx1250."""
    return _arch_called(name) is not None and name not in names()


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


def _spellings() -> dict[str, str]:
    """Each name of a record and of other projects for it, without case and marks -> its name."""
    found = {_plain(alias): device.name for device in records() for _, given in device.aliases for alias in given}
    return found | {_plain(device.name): device.name for device in records()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _arch_called(name: str) -> str | None:
    """The arch that `name` spells: sm_90, SM90, gfx950."""
    return next((arch for arch in archs.names() if _plain(arch) == _plain(name)), None)


def how_to_add(name: str) -> str:
    """The remedy for a GPU without a record."""
    return f"to add it: `autotune devices add {name} --like RECORD --set compute_units=N`, or --from-this-gpu on it"


def _hint(name: str) -> str:
    """The devices of an arch, or the device that `name` spells otherwise (letters and first number agree), or all; and
    how to add one.

    Letters alone would not do: mi100 is close to sm_100, and B200 to H200, which are other GPUs.
    """
    arch = _arch_called(name)
    if arch:
        devices = [device.name for device in records() if device.arch == arch]
        return f"; it is an arch, of these devices: {', '.join(devices) or 'none'}"

    def model(text: str) -> str:
        return "".join(re.findall(r"[a-z]+|\d+", text)[:2])

    plain = _plain(name)
    known = {_plain(word): word for word in archs.names()} | _spellings()
    near = sorted({word for spelled, word in known.items() if model(spelled) == model(plain)})
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}? If it is none of these, {how_to_add(plain)}"
    if re.match(r"(sm|gfx|ascend)\d", plain):
        return f"; {archs.how_to_add(name)}"
    return f"; known: {', '.join(names())}; {how_to_add(plain)}"
