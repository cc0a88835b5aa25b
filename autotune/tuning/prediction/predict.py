"""The static model: how long one call takes, from what a program does, what its binary uses and what the device has.

All resident programs of a unit go through their iterations together; an iteration takes the longest of what they
share (matrix units, issue slots, shared memory, L2) and of what one program cannot overlap with itself (its chain of
dependent steps, its loads in flight). Waves of programs follow one another, DRAM bounds them all together. Structure
after AMD's Origami (per-iteration maximum, wave quantisation) and DeepGEMM (shared memory and L2 bytes a block).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Work
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.prediction.constants import constants
from autotune.tuning.prediction.footprint import footprint

_LOAD_LATENCY_US = 0.6
"""DRAM and L2 latency under load."""
_SHARED_BYTES_PER_CLOCK = 128
_LANES = 128
"""fp32 operations a clock and unit, NVIDIA and CDNA alike."""
_CLOCKS_A_STEP = 60
"""Barriers and address arithmetic of one iteration that overlap with nothing of the same program."""
_OVERLAP = 0.1
"""Share of the terms beside the longest that stays visible."""


@dataclass(frozen=True)
class Prediction:
    """Modelled microseconds, never measured ones; the truth is expected within `range_us`."""

    us: float
    terms: tuple[tuple[str, float], ...]
    """(name, us) of what could bound the call, were it alone."""
    spread: float
    """The truth is expected in [us / spread, us * spread]: 2 where nothing was measured on this arch and family."""

    @property
    def bound(self) -> str:
        return max(self.terms, key=lambda term: term[1])[0]

    @property
    def range_us(self) -> tuple[float, float]:
        return self.us / self.spread, self.us * self.spread


def predict(work: Work, config: Config, device: Device, resources: Resources | None = None) -> Prediction:
    """Time of one call. `resources` of the binary replace the estimates made from the config."""
    known = constants(device.arch, work.dtype)
    used = footprint(work, config, device, resources)
    resident, waves = _occupancy(work, device, used.programs_per_unit)
    clocks_us = device.clock_ghz * 1e3
    steps = max(1, work.iterations)
    each = {
        "compute": resident * used.matrix_clocks / known.matrix_efficiency,
        "issue": resident * used.vector_operations / _LANES,
        "shared": resident * used.shared_bytes_moved / _SHARED_BYTES_PER_CLOCK,
        "l2": _l2_clocks(work, device, resident) / known.memory_efficiency,
        "chain": used.matrix_clocks + used.vector_operations / (32 * config.size("num_warps")) + _CLOCKS_A_STEP,
        "latency": _LOAD_LATENCY_US * clocks_us / used.loads_in_flight,
    }
    terms = {name: waves * steps * clocks / clocks_us for name, clocks in each.items()}
    active = min(1.0, resident * min(work.programs, device.compute_units) / device.compute_units)
    dram_tb_s = device.dram_tb_s * known.memory_efficiency * min(1.0, 0.1 + 1.2 * active)
    terms["dram"] = work.unique_bytes / (dram_tb_s * 1e6)
    longest = max(terms.values())
    edges = waves * (_LOAD_LATENCY_US + used.epilogue_clocks / clocks_us)
    reduction = work.reduction_bytes / (device.l2_tb_s * 1e6)
    us = work.launches * known.launch_us + longest + _OVERLAP * (sum(terms.values()) - longest) + edges + reduction
    terms |= {"edges": edges, "reduction": reduction, "launch": work.launches * known.launch_us}
    return Prediction(us, tuple(terms.items()), known.spread)


def _occupancy(work: Work, device: Device, per_unit: int) -> tuple[int, float]:
    """Programs together on one unit, and how many such rounds the grid takes; a part of a round costs nearly all."""
    resident = max(1, min(per_unit, math.ceil(work.programs / device.compute_units)))
    rounds = work.programs / (device.compute_units * resident)
    return resident, math.ceil(rounds) if rounds < 4 else rounds + 0.5


def _l2_clocks(work: Work, device: Device, resident: int) -> float:
    """Of one iteration of all programs on the device, at the rate that few units reach alone at most."""
    active = min(work.programs, device.compute_units * resident)
    bytes_moved = active * work.bytes_per_program / max(1, work.iterations)
    per_clock = device.l2_tb_s * 1e3 / device.clock_ghz
    few = 64 * min(work.programs, device.compute_units)
    return bytes_moved / min(per_clock, few)
