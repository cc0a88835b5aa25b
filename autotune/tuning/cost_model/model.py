"""The static model: how long one call takes, from what a program does, what its binary uses and what the device has.

All resident programs of a unit go through their iterations together; an iteration takes the longest of what they
share (matrix units, issue slots, shared memory, L2) and of what one program cannot overlap with itself (its chain of
dependent steps, its loads in flight), and a share of every other. Waves of programs follow one another, the last with
as many programs a unit as are left; DRAM bounds them all together. Structure after AMD's Origami (per-iteration
maximum, wave quantisation) and DeepGEMM (shared memory and L2 bytes a block).

The constants here and in `footprint` are one set for all devices. They start from published figures, were searched one
at a time on shipped winners of block-scaled FP8 GEMM and fused MoE of one half of the shapes, and rounded: a mild fit,
so `benchmarks/cost_model/shipped_winners.py` shows the other half apart. These terms were set while looking at the
data of `benchmarks/cost_model/exhaustive_moe.py`, which is not held out for them: load transfer time, overlap with
DRAM, its pages, pipeline fill, the rate of mma.sync, a unit's port to L2. Two were set with the ranks of both halves
visible: the visible share of each term, and reuse of what just fits a cache.
"""

from __future__ import annotations

import ast
import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from autotune.config import Config
from autotune.device import Device
from autotune.identity import meaning
from autotune.kernel import Work
from autotune.tuning.arrays import Floats
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.cost_model.call_batch import Calls, side_by_side
from autotune.tuning.cost_model.program_cost import UNIT_BYTES_PER_CLOCK, Footprint, footprint
from autotune.tuning.cost_model.tile_cost import WIDTH

_LATENCY_US = {"nvidia": 0.35, "amd": 0.175}
"""Of loads that mostly hit L2, under load."""
_DRAM_LATENCY_US = 0.4
_PAGE_LOSS = 0.035
"""Share of streaming that is lost each time the rows that a program reads at once double, or what it reads of each
halves: it opens more of DRAM's pages for the same bytes. A device's record may know its own."""
_SHARED_BYTES_PER_CLOCK = 128
_SHARED_LINES = 1.5
"""Requests of neighbouring units for one line reach L2 once: Hopper's and Blackwell's coalescer, CDNA's."""
_ISSUED = 0.8
"""Instructions a clock of a scheduler that has one warp only, which waits for its own results."""
_VISIBLE = {"compute": 0.5, "issue": 0.5, "shared": 0.7, "l2": 0.5, "chain": 0.7, "latency": 0.2}
"""Share of each of an iteration's terms that stays visible beside the longest: nothing waits for loads that came in
time, and little covers a program's own chain. With half of each, B200's winners of GEMM rank at 3.5 % in place of 3.0.
"""
_BEHIND = 0.3
"""Share of the units' time that stays visible behind DRAM's, or the other way round."""


@dataclass(frozen=True)
class Prediction:
    """Modelled microseconds, never measured ones; the truth is expected within `range_us`."""

    us: float
    terms: tuple[tuple[str, float], ...]
    """(name, us) of what could bound the call, were it alone."""
    spread: float
    """The truth is expected in [us / spread, us * spread]: 2 where nothing was measured on this arch and dtype."""
    source: str
    """What the times were calibrated on."""

    @property
    def bound(self) -> str:
        return max(self.terms, key=lambda term: term[1])[0]

    @property
    def range_us(self) -> tuple[float, float]:
        return self.us / self.spread, self.us * self.spread


@dataclass(frozen=True)
class Predictions:
    """The same of calls side by side."""

    us: Floats
    terms: dict[str, Floats]
    spread: float
    source: str

    def __getitem__(self, at: int) -> Prediction:
        terms = tuple((name, float(us[at])) for name, us in self.terms.items())
        return Prediction(float(self.us[at]), terms, self.spread, self.source)


@cache
def model_name(device: Device) -> str:
    """Version of the cost model for `device`: `model:` and a hash of this folder's code, its constants, and the device
    and arch records (citations excluded). Trials of two versions do not compare."""
    folder = Path(__file__).parent
    code = [meaning(ast.parse(path.read_bytes())) for path in sorted(folder.glob("*.py"))]
    records = [repr(replace(device, figures=())), repr(replace(device.architecture, figures={}))]
    text = "\n".join([*code, (folder / "constants.toml").read_text(), *records])
    return f"model:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def predict(work: Work, config: Config, device: Device, resources: Resources | None = None) -> Prediction:
    """Time of one call. `resources` of the binary replace the estimates made from the config."""
    return predict_all(side_by_side([work], [config]), device, [resources])[0]


def predict_all(
    calls: Calls,
    device: Device,
    found: Sequence[Resources | None] = (),
    reuse_bytes: Floats | float = np.inf,
) -> Predictions:
    """Times of many calls; `found` holds what is known of their binaries, in the same order. `reuse_bytes` is what
    passes through the caches from one call to the next on the same operands: where the last level holds that much,
    none of it comes from DRAM. Engines and our own benches leave nothing; tuners that repeat one call leave it all.
    """
    known = constants(device.arch, calls.dtype if (calls.rows > 0).all() else "*")
    used = footprint(calls, device, found)
    resident = np.minimum(used.programs_per_unit, np.ceil(calls.programs / device.compute_units))
    whole, left = np.divmod(calls.programs, device.compute_units * resident)
    last = np.ceil(left / device.compute_units)
    first, second = (_iteration(calls, device, used, together) for together in (resident, last))
    clocks_us = device.clock_ghz * 1e3

    def both(full: Floats, rest: Floats) -> Floats:
        return (whole * full + np.where(last > 0, rest, 0.0)) * calls.iterations / clocks_us

    terms = {name: both(first[name], second[name]) for name in first}
    loop = both(_visible(first), _visible(second))
    edge = _LATENCY_US[device.vendor] / 2 + used.edge_clocks / clocks_us
    edges = edge * (whole + (last > 0))
    kept = np.less_equal(reuse_bytes, device.last_level_bytes)
    from_cache = calls.unique_bytes / (device.last_level_tb_s * 1e6)
    dram = np.where(kept, from_cache, _dram_us(calls, device, used, resident))
    launch = calls.launches * known.launch_us
    reduction = calls.reduction_bytes / (device.l2_tb_s * 1e6)
    units = loop + edges
    rest = np.maximum(units, dram) + _BEHIND * np.minimum(units, dram) + reduction
    terms |= {"dram": dram, "edges": edges, "reduction": reduction}
    terms = {name: known.factor * us for name, us in terms.items()} | {"launch": launch}
    return Predictions(launch + known.factor * rest, terms, known.spread, known.source)


def _iteration(calls: Calls, device: Device, used: Footprint, together: Floats) -> dict[str, Floats]:
    """Clocks of one iteration of `together` programs a unit: of what they share, and of what each does alone."""
    lanes = 32 * _ISSUED * np.maximum(1.0, calls.warps)
    alone, shared = np.minimum(128, lanes), np.minimum(128, lanes * np.maximum(1.0, together))
    latency = _LATENCY_US[device.vendor] * device.clock_ghz * 1e3
    return {
        "compute": together * used.matrix_clocks,
        "issue": together * used.issue_clocks * 128 / shared,
        "shared": together * used.shared_bytes_moved / _SHARED_BYTES_PER_CLOCK,
        "l2": _l2_clocks(calls, device, used, together),
        "chain": used.matrix_clocks + used.issue_clocks * 128 / alone + used.sync_clocks,
        "latency": (latency + used.tile_bytes / UNIT_BYTES_PER_CLOCK) / used.loads_in_flight,
    }


def _visible(clocks: dict[str, Floats]) -> Floats:
    stacked = np.stack(list(clocks.values()))
    shares = np.array([_VISIBLE[name] for name in clocks])
    longest = stacked.argmax(0)
    visible: Floats = shares @ stacked + (1 - shares[longest]) * stacked.max(0)
    return visible


def _l2_clocks(calls: Calls, device: Device, used: Footprint, together: Floats) -> Floats:
    """Of one iteration of all programs on the device, at the rate that few units reach alone at most."""
    active = np.minimum(calls.programs, device.compute_units * together)
    units = np.minimum(calls.programs, device.compute_units)
    lines = _SHARED_LINES if device.is_amd or device.architecture.group_mma else 1.0
    per_clock = np.minimum(device.l2_tb_s * 1e3 / device.clock_ghz, UNIT_BYTES_PER_CLOCK * units)
    clocks: Floats = active * used.tile_bytes / lines / per_clock
    return clocks


def _dram_us(calls: Calls, device: Device, used: Footprint, resident: Floats) -> Floats:
    """At the rate of streaming, or what the bytes under way at once allow (Little's law); near both, slower still."""
    run = np.maximum(1.0, calls.depth * WIDTH.get(calls.dtype, 4) * used.loads_in_flight)
    rows = np.where(calls.depth > 0, calls.columns, 0.0)
    pages = np.log2(np.maximum(1.0, rows / 32 * 8192 / run))
    loss = _PAGE_LOSS if device.page_loss is None else device.page_loss
    streaming = calls.unique_bytes / (device.dram_tb_s * 1e6) * (1 + loss * pages)
    at_once = np.minimum(calls.programs, device.compute_units * resident) * used.tile_bytes * used.loads_in_flight
    waiting = calls.unique_bytes / at_once * _DRAM_LATENCY_US
    together: Floats = np.hypot(streaming, waiting)
    return together


_PATH = Path(__file__).with_name("constants.toml")


@dataclass(frozen=True)
class Constants:
    """The cost of a launch, a factor on the rest that keeps its order, and how far predictions lie off."""

    launch_us: float
    factor: float
    spread: float
    """The truth is expected within a factor of this."""
    source: str


@cache
def constants(arch: str, dtype: str) -> Constants:
    """The entry of this arch and dtype, or the rest's."""
    entries = tomllib.loads(_PATH.read_text())
    return Constants(**entries.get(arch, {}).get(dtype, entries["*"]["*"]))
