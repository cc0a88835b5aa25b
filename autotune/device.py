"""Device records (one TOML file each in `devices/`) and the detection of the device that is present."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autotune.errors import DeviceError, did_you_mean

CONFIDENCE = ("read", "derived", "estimated", "unconfirmed")
DEVICES = Path(__file__).parent / "devices"


@dataclass(frozen=True)
class Device:
    """What is known of one GPU model; rates are dense peaks, bandwidths what streaming kernels reach."""

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
    usd_per_hour: float | None
    confidence: str
    figures: tuple[tuple[str, str], ...]
    """(name in the file, "how sure: from where") of every figure; how sure is one of CONFIDENCE."""

    @property
    def is_amd(self) -> bool:
        return self.arch.startswith("gfx")

    @property
    def vendor(self) -> str:
        return "amd" if self.is_amd else "nvidia"

    @property
    def warp_size(self) -> int:
        return 64 if self.arch.startswith("gfx9") else 32

    @property
    def fp8(self) -> str:
        """The e4m3 format of the matrix units: fnuz on CDNA3, OCP elsewhere."""
        return "e4m3fnuz" if self.arch == "gfx942" else "e4m3fn"

    @property
    def last_level_bytes(self) -> float:
        return self.last_level_mb * 2**20

    @property
    def has_native_fp4(self) -> bool:
        """Whether `tl.dot_scaled` of FP8 by FP4 is one matrix instruction here; elsewhere it is emulated in bf16."""
        return self.arch in NATIVE_FP4

    def rate(self, dtype: str) -> float:
        """Dense flop/us of operands of `dtype`, as in `Work`; of bf16 where the matrix units lack it."""
        rates = dict(self.tflops)
        return rates.get(dtype.removesuffix("_tensor"), rates["bf16"]) * 1e6


# sm_120 multiplies FP4 by FP4 only: Triton 3.9 widens FP8 by FP4 to bf16 there, and spills at 128 rows (255 registers).
NATIVE_FP4 = frozenset({"gfx950", "gfx1250", "sm_100", "sm_103"})

ARCHS = (
    *("sm_80", "sm_89", "sm_90", "sm_100", "sm_103", "sm_120"),
    *("gfx90a", "gfx942", "gfx950", "gfx1201", "gfx1250"),
)


def names() -> list[str]:
    return sorted(path.stem for path in DEVICES.glob("*.toml"))


@cache
def named(name: str) -> Device:
    """The record of `name`. Raises DeviceError."""
    if name not in names():
        raise DeviceError(f"unknown device {name!r}{did_you_mean(name, names())}")
    path = DEVICES / f"{name}.toml"
    try:
        return _record(name, tomllib.loads(path.read_text()))
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise DeviceError(f"{path}: not a device record ({error!r}); copy the fields of a neighbour") from error


def of_arch(arch: str) -> Device:
    """Some device of `arch`, for compiling only. Raises DeviceError."""
    for name in names():
        if named(name).arch == arch:
            return named(name)
    raise DeviceError(f"no device record has arch {arch!r}{did_you_mean(arch, ARCHS)}")


def current() -> Device:
    """The GPU that torch sees. Raises DeviceError where there is none, or none that a record describes."""
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
    matches = [d for d in map(named, names()) if (d.arch, d.compute_units) == (arch, units)]
    pci_id = _pci_id(properties, sysfs)
    by_pci = [d for d in matches if pci_id in d.pci_ids]
    if by_pci or matches:
        # H100 and H200 differ in neither arch nor units; where PCI ids are hidden, their memory tells them apart.
        memory_gb = getattr(properties, "total_memory", 0) / 1e9
        return min(by_pci or matches, key=lambda d: abs(math.log(d.dram_gb / max(memory_gb, 1))))
    raise DeviceError(
        f"no record in {DEVICES} has arch {arch} with {units} compute units (PCI id {pci_id or 'hidden'}); "
        f"add a file there: a new GPU needs nothing else"
    )


def _pci_id(properties: Any, sysfs: Path) -> str:  # noqa: ANN401
    """`2330` of an H100; torch's `pci_device_id` is the slot on the bus, not the id of the model."""
    slot = [getattr(properties, f"pci_{part}_id", 0) for part in ("domain", "bus", "device")]
    path = sysfs / "{:04x}:{:02x}:{:02x}.0".format(*slot) / "device"
    return path.read_text().strip().removeprefix("0x") if path.exists() else ""


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
        usd_per_hour=data.get("usd_per_hour"),
        confidence=data["confidence"],
        figures=tuple(data["figures"].items()),
    )
