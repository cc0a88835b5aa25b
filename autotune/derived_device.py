"""A record of a GPU that has none: what its driver reports, and the rest scaled from a related record."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.device_record import Device


def _name(arch: str, properties: Any) -> str:  # noqa: ANN401 - torch's type is private
    """Name a GPU by arch and what the driver reports: `sm_90-114-nvidia-h100-pcie`; no record's name looks so."""
    marketing = re.sub(r"[^a-z0-9]+", "-", getattr(properties, "name", "").lower()).strip("-")
    return "-".join(filter(None, (arch, str(properties.multi_processor_count), marketing)))


def derived(lender: Device, arch: str, properties: Any) -> Device:  # noqa: ANN401 - torch's type is private
    """The record of a GPU of `arch`, from the properties that torch reports, after the record of its relation `lender`.

    Rates of matrix units and L2 go with compute units and clock; bandwidth follows from bus and memory clock where the
    driver tells them, else it goes with the memory's size, as in a partition of a GPU.
    """
    units = properties.multi_processor_count
    clock_ghz = _reported(properties, "clock_rate", 1e-6) or lender.clock_ghz
    speed = units * clock_ghz / (lender.compute_units * lender.clock_ghz)
    dram_gb = _reported(properties, "total_memory", 1e-9) or lender.dram_gb
    share = min(1.0, dram_gb / lender.dram_gb)
    bus_tb_s = 2e-9 * _reported(properties, "memory_clock_rate") * _reported(properties, "memory_bus_width") / 8
    peak_tb_s = bus_tb_s or lender.dram_peak_tb_s * share
    l2_mb = _reported(properties, "L2_cache_size", 2.0**-20) or lender.l2_mb * share
    own_l2_is_last = lender.last_level_mb == lender.l2_mb
    return replace(
        lender,
        name=_name(arch, properties),
        arch=arch,
        compute_units=units,
        xcds=max(1, round(lender.xcds * units / lender.compute_units)),
        clock_ghz=clock_ghz,
        tflops=tuple((dtype, rate * speed) for dtype, rate in lender.tflops),
        dram_gb=dram_gb,
        dram_peak_tb_s=peak_tb_s,
        dram_tb_s=peak_tb_s * lender.dram_tb_s / lender.dram_peak_tb_s,
        l2_mb=l2_mb,
        l2_tb_s=lender.l2_tb_s * speed,
        last_level_mb=l2_mb if own_l2_is_last else lender.last_level_mb * share,
        last_level_tb_s=lender.last_level_tb_s * (speed if own_l2_is_last else share),
        shared_bytes_per_block=int(_reported(properties, "shared_memory_per_block_optin"))
        or lender.shared_bytes_per_block,
        shared_bytes_per_unit=int(_reported(properties, "shared_memory_per_multiprocessor"))
        or lender.shared_bytes_per_unit,
        pci_ids=(),
        confidence=f"derived: what the driver reports, the rest scaled from {lender.name}",
        aliases=(),
        figures=tuple(
            (figure, f"derived: from the driver and the record of {lender.name}")
            for figure, _ in lender.figures
            if figure not in dict(lender.aliases)
        ),
    )


def _reported(properties: Any, field: str, unit: float = 1.0) -> float:  # noqa: ANN401
    """The driver's figure times `unit`; 0 where it reports none."""
    return float(getattr(properties, field, 0) or 0) * unit
