"""Constants of the cost model: terms of the formula by vendor, and calibrations by device, arch and operand dtype."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autotune.device import Device

PATH = Path(__file__).with_name("constants.toml")


@dataclass(frozen=True)
class Terms:
    """Constants of the formula, one set for all kernels, devices and dtypes of a vendor."""

    matrix_share: float
    """Visible matrix time, over that at the datasheet's rate; the best loops reach 0.95 of it."""
    issue_share: float
    """Visible share of issuing instructions; the rest hides behind the matrix units."""
    shared_share: float
    """Visible share of shared-memory traffic."""
    l2_share: float
    """Visible share of loads from L2 at its own rate: asynchronous copies run behind the matrix units."""
    chain_share: float
    """Share of a program's matrix time that its own next step waits for."""
    scaled_chain: float
    """Share of a program's matrix time that it waits for instead where products are scaled before they are added up."""
    iteration_norm: float
    call_norm: float
    """Exponents by which close limits add up: (x^p + y^p)^(1/p) is the longer of x and y where they are far apart."""
    whole_waves: float
    """Weight of whole waves against fractions of waves: programs do not all end at once."""
    latency_us: float
    """Latency of loads that mostly hit L2, under load."""
    dram_latency_us: float
    dram_reach: float
    """Rate of reads and writes of a kernel over that of a streaming one."""
    edge_share: float
    """Visible share of prologue and epilogue, which other programs of the unit overlap."""
    loop_instructions: float
    """Instructions per warp and iteration beside products and operands: addresses, scales, predicates."""
    lane_instructions: float
    """Instructions of a conversion or exponential that a kernel's formula counts."""
    scaling: float
    """Operations to scale one product and add it to the accumulator."""
    row_scaling: float
    """Operations per row of A for its scale: each of the four lanes of a row computes an address and loads."""
    sync_clocks: float
    """Clocks that the barriers of one iteration wait."""
    tensor_memory_clocks: float
    """The same where tcgen05's products are read back from tensor memory in each iteration, to be scaled."""
    fill_bytes_per_clock: float
    """Rate at which a unit's first tiles arrive, from L2 and from lines that its neighbours fetched."""


@dataclass(frozen=True)
class Calibration:
    """Cost of a launch, and a factor on all other time, which leaves the ranking unchanged."""

    launch_us: float
    factor: float
    spread: float
    """The measured time is expected within a factor of this."""
    source: str


@cache
def terms(vendor: str) -> Terms:
    return Terms(**_read()["terms"][vendor])


@cache
def calibration(device: Device, dtype: str) -> Calibration:
    """Return the calibration of this device and dtype, else of the nearest relation: its arch, its vendor, any.

    `dtype` is that of a tile's operands, or `*` for kernels unlike those measured: without tiles, or that convert one.
    """
    entries = _read()["calibration"]
    relations = [(name, kind) for kind in (dtype, "*") for name in (device.name, device.arch, device.vendor)]
    for name, kind in relations:
        if (entry := entries.get(name, {}).get(kind)) is not None:
            return Calibration(**entry)
    return Calibration(**entries["*"]["*"])


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(PATH.read_text())
