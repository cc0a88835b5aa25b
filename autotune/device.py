"""Device records, one TOML file each in `devices/`, and lookup by name, alias or arch."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from autotune import arch as archs
from autotune.arch import Arch
from autotune.errors import DeviceError

CONFIDENCE = ("measured", "read", "derived", "estimated", "unconfirmed")
DEVICES = Path(__file__).parent / "devices"


@dataclass(frozen=True)
class Device:
    """Record of one GPU model; rates are dense peaks, bandwidths those that streaming kernels reach."""

    name: str
    arch: str
    """`gfx950`, `sm_100`: what the compiler is told."""
    compute_units: int
    xcds: int
    """Dies with an L2 of their own; programs go to them in turn."""
    clock_ghz: float
    tflops: tuple[tuple[str, float], ...]
    """(dtype, dense peak) with dtype one of fp4, fp8, bf16, tf32, fp32."""
    dram_gb: float
    dram_peak_tb_s: float
    dram_tb_s: float
    page_loss: float | None
    """Share of `dram_tb_s` lost with each doubling of the pages that a program opens; None: what most devices lose."""
    l2_mb: float
    l2_tb_s: float
    last_level_mb: float
    """Size of the cache nearest DRAM: what a cold-cache measurement has to flush."""
    last_level_tb_s: float
    shared_bytes_per_block: int
    shared_bytes_per_unit: int
    launch_us: float
    pci_ids: tuple[str, ...]
    confidence: str
    aliases: tuple[tuple[str, tuple[str, ...]], ...]
    """(project, its names of this GPU, the usual one first)."""
    figures: tuple[tuple[str, str], ...]
    """(name in the file, "how sure: from where") of every figure; how sure is one of CONFIDENCE."""

    @property
    def architecture(self) -> Arch:
        """Record of its arch."""
        return archs.named(self.arch)

    @property
    def is_amd(self) -> bool:
        return self.vendor == "amd"

    @property
    def vendor(self) -> str:
        return self.architecture.vendor

    @property
    def warp_size(self) -> int:
        return self.architecture.warp_size

    @property
    def fp8(self) -> str:
        """The e4m3 format of the matrix units: e4m3fn (OCP), or e4m3fnuz on CDNA3."""
        return self.architecture.fp8

    @property
    def has_native_fp4(self) -> bool:
        """True if `tl.dot_scaled` of FP8 by FP4 is one matrix instruction here; elsewhere it is emulated in bf16."""
        return self.architecture.native_fp4

    @property
    def last_level_bytes(self) -> float:
        return self.last_level_mb * 2**20

    def rate(self, dtype: str) -> float:
        """Dense flop/us of operands of `dtype`, as in `Work`; of bf16 where the matrix units lack it."""
        rates = dict(self.tflops)
        return rates.get(dtype.removesuffix("_tensor"), rates["bf16"]) * 1e6


def names() -> list[str]:
    return sorted(path.stem for path in DEVICES.glob("*.toml"))


_derived: dict[str, Device] = {}
"""GPUs of this machine that no record describes, by the names that were made for them."""


def named(name: str) -> Device:
    """The record of `name`, or of a GPU of this machine that was seen before and has none. Raises DeviceError."""
    return _derived.get(name) or _of_file(name)


def register(derived: Device) -> None:
    """Let `named` find the record of a GPU of this machine that no file describes, until this process ends."""
    _derived[derived.name] = derived


@cache
def _of_file(name: str) -> Device:
    if name not in names():
        raise DeviceError(f"unknown device {name!r}{_hint(name)}")
    path = DEVICES / f"{name}.toml"
    try:
        record = _record(name, tomllib.loads(path.read_text()))
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise DeviceError(f"{path}: not a device record ({error!r}); copy the fields of a neighbour") from error
    if record.arch not in archs.names():
        raise DeviceError(f"{path}: unknown arch {record.arch!r}; {archs.how_to_add(record.arch)}")
    return record


def filed(folder: str) -> Device:
    """The device whose tables lie in `folder`: of its own name, or of a rehearsal's, `mi355x.simulated-7`.

    Raises DeviceError.
    """
    return named(folder.partition(".")[0])


def called(alias: str) -> str | None:
    """The device that another project calls `alias`, in any case and with any spaces or marks between."""
    return _aliases().get(_plain(alias))


def target(name: str) -> Device:
    """Return the device to compile for, by the name of a device or of an arch. Raises DeviceError."""
    if name not in archs.names() and name not in names():
        raise DeviceError(f"unknown device or arch {name!r}{_hint(name)}")
    return of_arch(name) if name in archs.names() else named(name)


@cache
def of_arch(arch: str) -> Device:
    """The first device of `arch`, for compiling only; where no record has it, the arch's stand-in under the arch's own
    name and limits. Raises DeviceError."""
    record = archs.named(arch)
    for name in names():
        if named(name).arch == arch:
            return named(name)
    lender = named(record.stand_in)
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


@cache
def _aliases() -> dict[str, str]:
    """Each name that another project gives a device, without case and marks -> its record."""
    devices = map(named, names())
    return {_plain(alias): device.name for device in devices for _, given in device.aliases for alias in given}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _hint(name: str) -> str:
    """The device or arch that `name` spells otherwise (letters and first number agree), else all, and how to add one.

    Letters alone would not do: mi100 is close to sm_100, and B200 to H200, which are other GPUs.
    """
    if name in archs.names():
        devices = [known for known in names() if named(known).arch == name]
        return f"; it is an arch, of these devices: {', '.join(devices) or 'none'}"

    def model(text: str) -> str:
        return "".join(re.findall(r"[a-z]+|\d+", text)[:2])

    known = {_plain(word): word for word in (*archs.names(), *names())} | _aliases()
    plain = _plain(name)
    near = [known[plain]] if plain in known else sorted({w for k, w in known.items() if model(k) == model(plain)})
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    if re.match(r"(sm|gfx)\d", plain):
        return f"; {archs.how_to_add(name)}"
    return f"; known: {', '.join(names())}; to add {name}, copy a neighbour's file in {DEVICES}"


def _record(name: str, data: dict[str, Any]) -> Device:
    memory, cache_, shared = data["memory"], data["cache"], data["shared"]
    return Device(
        name=name,
        arch=data["arch"],
        compute_units=int(data["compute_units"]),
        clock_ghz=float(data["clock_ghz"]),
        xcds=int(data["xcds"]),
        tflops=tuple((dtype, float(rate)) for dtype, rate in data["tflops"].items()),
        dram_gb=float(memory["gb"]),
        dram_peak_tb_s=float(memory["peak_tb_s"]),
        dram_tb_s=float(memory["tb_s"]),
        page_loss=memory.get("page_loss"),
        l2_mb=float(cache_["l2_mb"]),
        l2_tb_s=float(cache_["l2_tb_s"]),
        last_level_mb=float(cache_["last_level_mb"]),
        last_level_tb_s=float(cache_["last_level_tb_s"]),
        shared_bytes_per_block=int(shared["bytes_per_block"]),
        shared_bytes_per_unit=int(shared["bytes_per_unit"]),
        launch_us=float(data["launch_us"]),
        pci_ids=tuple(data.get("pci_ids", ())),
        confidence=data["confidence"],
        aliases=tuple((project, tuple(called)) for project, called in data.get("aliases", {}).items()),
        figures=tuple(data["figures"].items()),
    )
