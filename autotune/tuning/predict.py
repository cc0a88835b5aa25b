"""A first static model: launch + waves x max(compute, on-chip traffic, load latency), and DRAM once over all.

Structure after AMD's Origami (per-wave maximum of terms) and DeepGEMM's bytes-per-block terms. The constants
below are uncalibrated estimates: predictions order configs; their times are good to a factor of two at best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Work
from autotune.tuning.resources import Resources

_MATRIX_EFFICIENCY = 0.5
"""Block-scaled kernels reach 0.3 to 0.5 of the matrix peak on AMD's public measurements (44,070 shapes)."""
_LOAD_LATENCY_US = 0.7
"""DRAM latency under load; one pipelined iteration waits a share of it."""
_L1_BYTES_PER_CLOCK = 64
_RANGE = 2.0


@dataclass(frozen=True)
class Prediction:
    """Modelled microseconds, never measured ones; the truth is expected in [us / 2, us x 2]."""

    us: float
    terms: tuple[tuple[str, float], ...]

    @property
    def bound(self) -> str:
        return max(self.terms, key=lambda term: term[1])[0]

    @property
    def range_us(self) -> tuple[float, float]:
        return self.us / _RANGE, self.us * _RANGE


def predict(work: Work, config: Config, device: Device, resources: Resources | None = None) -> Prediction:
    """Time of one call; `resources` of the binary make it sharper, before compiling two programs a unit are assumed."""
    per_unit = resources.programs_per_unit if resources else 2
    units = device.compute_units
    resident = min(per_unit, math.ceil(work.programs / units))
    waves = work.programs / (units * per_unit) if work.programs > units * per_unit else 1.0
    # A fractional last wave costs nearly a whole one when there are few.
    waves = math.ceil(waves) if waves < 4 else waves + 0.5
    warps = config.size("num_warps") * resident
    rate = device.rate(_rate_dtype(work.dtype, resources)) / units * _efficiency(work.dtype, warps)
    traffic = work.bytes_per_program + _spill_bytes(resources, config, device, work)
    l1 = traffic * resident / (_L1_BYTES_PER_CLOCK * device.clock_ghz * 1e3)
    l2 = traffic * min(work.programs, units * resident) / (device.l2_tb_s * 1e6)
    depth = max(1, config.size("num_stages") - 1)
    busy = min(work.programs * config.size("num_warps"), units * 4) / (units * 4)
    terms = {
        "compute": waves * work.flops_per_program * resident / rate,
        "on-chip": waves * max(l1, l2),
        "latency": waves * work.iterations * _LOAD_LATENCY_US / depth,
        "dram": work.unique_bytes / (device.dram_tb_s * 1e6 * max(busy, 1 / units)),
    }
    reduction = work.reduction_bytes / (device.l2_tb_s * 1e6)
    us = work.launches * device.launch_us + max(terms.values()) + 0.1 * sum(terms.values()) + reduction
    return Prediction(us, tuple(terms.items()))


def _efficiency(dtype: str, warps: int) -> float:
    """Four warps a unit, one for each matrix pipe, are needed to keep all of them busy."""
    return min(1.0, warps / 4) * (_MATRIX_EFFICIENCY if dtype != "fp32" else 1.0)


def _rate_dtype(dtype: str, resources: Resources | None) -> str:
    """The rate of the instruction really emitted: `dot` of FP8 or FP4 may have become bf16."""
    if resources is None or not resources.matrix_instructions:
        return dtype
    names = " ".join(name for name, _ in resources.matrix_instructions)
    narrow = any(mark in names for mark in ("f8", "fp8", "e4m3", "mxf4"))
    return dtype if narrow or dtype not in ("fp8", "fp4") else "bf16"


def _spill_bytes(resources: Resources | None, config: Config, device: Device, work: Work) -> float:
    if resources is None or not resources.stack_bytes:
        return 0.0
    return 2.0 * resources.stack_bytes * config.size("num_warps") * device.warp_size * work.iterations
