"""The record of one GPU or NPU model: what it holds, and the TOML file that it is read from and written to."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import arch as archs
from autotune.arch import Arch
from autotune.errors import DeviceError

CONFIDENCE = ("measured", "read", "derived", "estimated", "unconfirmed")
DTYPES = ("fp4", "fp8", "bf16", "tf32", "fp32")
COUNTS = ("compute_units", "xcds", "shared.bytes_per_block", "shared.bytes_per_unit")
RATES = (
    *("clock_ghz", "launch_us", "memory.gb", "memory.peak_tb_s", "memory.tb_s"),
    *("cache.l2_mb", "cache.l2_tb_s", "cache.last_level_mb", "cache.last_level_tb_s"),
)
"""Fields of a file that hold positive numbers, and all that it must have beside `arch`, `confidence` and `[tflops]`."""


@dataclass(frozen=True)
class Device:
    """Record of one GPU or NPU model; rates are dense peaks, bandwidths those that streaming kernels reach.

    Of an NPU the compute units are its AI cores, and shared memory is the unified buffer of a vector core.
    """

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
        """nvidia, amd or huawei."""
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


Tree = Mapping[str, Any]
"""A file's content: values, and tables of values."""


def read(path: Path) -> Device:
    """The record in a TOML file, named as the file is. Raises DeviceError with file, field and remedy."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DeviceError(f"{path}: cannot be read as TOML ({error}); mend it, or remove the file") from error
    return parse(path.stem, data, str(path))


def parse(name: str, data: Tree, place: str) -> Device:
    """The record that `data` holds. Raises DeviceError with `place`, field and remedy."""
    wrong = next(_faults(data), None)
    if wrong:
        raise DeviceError(f"{place}: {wrong}; see docs/reference/device_records.md")
    if data["arch"] not in archs.names():
        raise DeviceError(f"{place}: unknown arch {data['arch']!r}; {archs.how_to_add(data['arch'])}")
    memory, cache, shared = data["memory"], data["cache"], data["shared"]
    return Device(
        name=name,
        arch=data["arch"],
        compute_units=data["compute_units"],
        clock_ghz=float(data["clock_ghz"]),
        xcds=data["xcds"],
        tflops=tuple((dtype, float(rate)) for dtype, rate in data["tflops"].items()),
        dram_gb=float(memory["gb"]),
        dram_peak_tb_s=float(memory["peak_tb_s"]),
        dram_tb_s=float(memory["tb_s"]),
        page_loss=memory.get("page_loss"),
        l2_mb=float(cache["l2_mb"]),
        l2_tb_s=float(cache["l2_tb_s"]),
        last_level_mb=float(cache["last_level_mb"]),
        last_level_tb_s=float(cache["last_level_tb_s"]),
        shared_bytes_per_block=shared["bytes_per_block"],
        shared_bytes_per_unit=shared["bytes_per_unit"],
        launch_us=float(data["launch_us"]),
        pci_ids=tuple(data.get("pci_ids", ())),
        confidence=data["confidence"],
        aliases=tuple((project, tuple(called)) for project, called in data.get("aliases", {}).items()),
        figures=tuple(data.get("figures", {}).items()),
    )


def _faults(data: Tree) -> Iterator[str]:
    """Complaints about a file's content, each with its field, the rule, and what came."""
    for name in ("arch", "confidence"):
        if not isinstance(data.get(name), str):
            yield f"{name} must be a string, got {data.get(name)!r}"
    for name in (*COUNTS, *RATES):
        value = get(data, name)
        kinds = int if name in COUNTS else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool) or not 0 < value < 1e9:
            yield f"{name} must be a positive {'integer' if name in COUNTS else 'number'}, got {value!r}"
    rates = data.get("tflops")
    if not isinstance(rates, dict) or "bf16" not in rates:
        yield f"tflops must be a table with bf16, got {rates!r}"
        return
    for dtype, rate in rates.items():
        if dtype not in DTYPES or not isinstance(rate, int | float) or not rate > 0:
            yield f"tflops.{dtype} must be a positive number, of {', '.join(DTYPES)}; got {rate!r}"
    for small, large in (("memory.tb_s", "memory.peak_tb_s"), ("shared.bytes_per_block", "shared.bytes_per_unit")):
        if get(data, small) > get(data, large):
            yield f"{small} must be at most {large}, got {get(data, small)} and {get(data, large)}"


def get(data: Tree, name: str) -> Any:  # noqa: ANN401
    """The value of a field by its dotted name; None where it is absent."""
    part, _, field = name.rpartition(".")
    table = data.get(part) if part else data
    return table.get(field) if isinstance(table, dict) else None


def content(device: Device) -> dict[str, Any]:
    """The content of a record's file."""
    loss = {} if device.page_loss is None else {"page_loss": device.page_loss}
    return {
        "arch": device.arch,
        "compute_units": device.compute_units,
        "xcds": device.xcds,
        "clock_ghz": device.clock_ghz,
        "launch_us": device.launch_us,
        "pci_ids": list(device.pci_ids),
        "confidence": device.confidence,
        "tflops": dict(device.tflops),
        "memory": {"gb": device.dram_gb, "peak_tb_s": device.dram_peak_tb_s, "tb_s": device.dram_tb_s} | loss,
        "cache": {
            "l2_mb": device.l2_mb,
            "l2_tb_s": device.l2_tb_s,
            "last_level_mb": device.last_level_mb,
            "last_level_tb_s": device.last_level_tb_s,
        },
        "shared": {
            "bytes_per_block": device.shared_bytes_per_block,
            "bytes_per_unit": device.shared_bytes_per_unit,
        },
        "aliases": {project: list(names) for project, names in device.aliases},
        "figures": dict(device.figures),
    }


def dumps(data: Tree) -> str:
    """The text of a file: values, then a table a mapping. JSON spells strings, numbers and lists as TOML does."""
    lines = [f"{name} = {_spelled(value)}" for name, value in data.items() if not isinstance(value, dict)]
    for name, table in data.items():
        if isinstance(table, dict) and table:
            lines += ["", f"[{name}]", *(f"{field} = {_spelled(value)}" for field, value in table.items())]
    return "\n".join(lines) + "\n"


def _spelled(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, allow_nan=False)
