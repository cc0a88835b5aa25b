"""The cost model: how long one call takes, from what a program does, what its binary uses and what the device has.

All resident programs of a unit go through their iterations together; an iteration takes the longest of what they
share (matrix units, issue slots, shared memory, L2) and of what one program cannot overlap with itself (its chain of
dependent steps, its loads in flight), and a share of every other. Waves of programs follow one another, the last with
as many programs a unit as are left; DRAM bounds them all together. Structure after AMD's Origami (per-iteration
maximum, wave quantisation) and DeepGEMM (shared memory and L2 bytes a block).

The constants here and in `program_cost` are one set for all devices. They start from published figures, were searched
one at a time on shipped winners of block-scaled FP8 GEMM and fused MoE of one half of the shapes, and rounded: a mild
fit, so `benchmarks/cost_model/shipped_winners.py` shows the other half apart. These terms were set while looking at the
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
from autotune.tuning.cost_model.call_batch import CallBatch, side_by_side
from autotune.tuning.cost_model.program_cost import UNIT_BYTES_PER_CLOCK, ProgramCost, program_cost
from autotune.tuning.cost_model.tile_cost import WIDTH

_LATENCY_US = {"nvidia": 0.35, "amd": 0.175}
"""Latency of loads that mostly hit L2, under load."""
_DRAM_LATENCY_US = 0.4
_PAGE_LOSS = 0.035
"""Fraction of streaming bandwidth lost per doubling of the DRAM pages that a program opens for the same bytes: when it
reads twice the rows at once, or half as much of each. A device record may have its own value."""
_SHARED_BYTES_PER_CLOCK = 128
_SHARED_LINES = 1.5
"""Requests of neighbouring units for one line reach L2 once: Hopper's and Blackwell's coalescer, CDNA's."""
_SINGLE_WARP_ISSUE = 0.8
"""Instructions per clock of a scheduler with a single warp, which waits for its own results."""
_NOT_OVERLAPPED = {"compute": 0.5, "issue": 0.5, "shared": 0.7, "l2": 0.5, "chain": 0.7, "latency": 0.2}
"""Fraction of each term of an iteration that does not overlap with the longest term: loads that arrive in time cost
little, a program's own dependency chain much. With 0.5 for all, B200's GEMM winners rank at 3.5 % instead of 3.0 %."""
_DRAM_NOT_OVERLAPPED = 0.3
"""Fraction of the shorter of compute-unit time and DRAM time that does not overlap with the longer."""


_CONSTANTS = Path(__file__).with_name("constants.toml")


@dataclass(frozen=True)
class Prediction:
    """Modeled time in microseconds, never a measured one; the measured time is expected within `range_us`."""

    us: float
    terms: tuple[tuple[str, float], ...]
    """(name, us) of each resource, as if it alone bound the call."""
    spread: float
    """The measured time is expected in [us / spread, us * spread]; 2 without measurements on this arch and dtype."""
    source: str
    """Measurements that the times were calibrated on."""

    @property
    def bound(self) -> str:
        return max(self.terms, key=lambda term: term[1])[0]

    @property
    def range_us(self) -> tuple[float, float]:
        return self.us / self.spread, self.us * self.spread


@dataclass(frozen=True)
class Predictions:
    """Predictions for a batch of calls, as columns."""

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
    """Predict the time of one call. `resources` of the binary replace the estimates made from the config."""
    return predict_all(side_by_side([work], [config]), device, [resources])[0]


def predict_all(
    calls: CallBatch,
    device: Device,
    resources: Sequence[Resources | None] = (),
    reuse_bytes: Floats | float = np.inf,
) -> Predictions:
    """Predict the times of many calls on one device.

    `resources` of their binaries, in the same order, replace the estimates made from the configs. `reuse_bytes` is the
    data that passes through the caches between two calls on the same operands: if the last-level cache holds that much,
    nothing comes from DRAM. Caches are cold (inf) in engines and on our benches, warm for tuners that repeat one call.
    """
    fitted = constants(device.arch, calls.dtype if (calls.rows > 0).all() else "*")
    cost = program_cost(calls, device, resources)
    resident = np.minimum(cost.programs_per_unit, np.ceil(calls.programs / device.compute_units))
    full_waves, remainder = np.divmod(calls.programs, device.compute_units * resident)
    last = np.ceil(remainder / device.compute_units)
    in_full, in_last = (_iteration(calls, device, cost, programs) for programs in (resident, last))
    clocks_us = device.clock_ghz * 1e3

    def all_waves(full: Floats, final: Floats) -> Floats:
        return (full_waves * full + np.where(last > 0, final, 0.0)) * calls.iterations / clocks_us

    terms = {name: all_waves(in_full[name], in_last[name]) for name in in_full}
    loop = all_waves(_overlapped(in_full), _overlapped(in_last))
    edge = _LATENCY_US[device.vendor] / 2 + cost.edge_clocks / clocks_us
    edges = edge * (full_waves + (last > 0))
    cached = np.less_equal(reuse_bytes, device.last_level_bytes)
    from_cache = calls.unique_bytes / (device.last_level_tb_s * 1e6)
    dram = np.where(cached, from_cache, _dram_us(calls, device, cost, resident))
    launch = calls.launches * fitted.launch_us
    reduction = calls.reduction_bytes / (device.l2_tb_s * 1e6)
    units = loop + edges
    rest = np.maximum(units, dram) + _DRAM_NOT_OVERLAPPED * np.minimum(units, dram) + reduction
    terms |= {"dram": dram, "edges": edges, "reduction": reduction}
    terms = {name: fitted.factor * us for name, us in terms.items()} | {"launch": launch}
    return Predictions(launch + fitted.factor * rest, terms, fitted.spread, fitted.source)


def _iteration(calls: CallBatch, device: Device, cost: ProgramCost, programs: Floats) -> dict[str, Floats]:
    """Return clocks per term of one iteration with `programs` resident per compute unit: shared terms and own ones."""
    lanes = 32 * _SINGLE_WARP_ISSUE * np.maximum(1.0, calls.warps)
    alone, shared = np.minimum(128, lanes), np.minimum(128, lanes * np.maximum(1.0, programs))
    latency = _LATENCY_US[device.vendor] * device.clock_ghz * 1e3
    return {
        "compute": programs * cost.matrix_clocks,
        "issue": programs * cost.issue_clocks * 128 / shared,
        "shared": programs * cost.shared_bytes_moved / _SHARED_BYTES_PER_CLOCK,
        "l2": _l2_clocks(calls, device, cost, programs),
        "chain": cost.matrix_clocks + cost.issue_clocks * 128 / alone + cost.sync_clocks,
        "latency": (latency + cost.tile_bytes / UNIT_BYTES_PER_CLOCK) / cost.loads_in_flight,
    }


def _overlapped(clocks: dict[str, Floats]) -> Floats:
    stacked = np.stack(list(clocks.values()))
    shares = np.array([_NOT_OVERLAPPED[name] for name in clocks])
    longest = stacked.argmax(0)
    total: Floats = shares @ stacked + (1 - shares[longest]) * stacked.max(0)
    return total


def _l2_clocks(calls: CallBatch, device: Device, cost: ProgramCost, programs: Floats) -> Floats:
    """Return L2 clocks of one iteration of all resident programs; a few compute units alone reach only a part of its
    rate."""
    active = np.minimum(calls.programs, device.compute_units * programs)
    units = np.minimum(calls.programs, device.compute_units)
    lines = _SHARED_LINES if device.is_amd or device.architecture.group_mma else 1.0
    per_clock = np.minimum(device.l2_tb_s * 1e3 / device.clock_ghz, UNIT_BYTES_PER_CLOCK * units)
    clocks: Floats = active * cost.tile_bytes / lines / per_clock
    return clocks


def _dram_us(calls: CallBatch, device: Device, cost: ProgramCost, resident: Floats) -> Floats:
    """Return DRAM time: at streaming bandwidth, or at what the bytes in flight allow (Little's law); the root of both
    squares, so that two close limits add up."""
    run = np.maximum(1.0, calls.depth * WIDTH.get(calls.dtype, 4) * cost.loads_in_flight)
    rows = np.where(calls.depth > 0, calls.columns, 0.0)
    pages = np.log2(np.maximum(1.0, rows / 32 * 8192 / run))
    loss = _PAGE_LOSS if device.page_loss is None else device.page_loss
    streaming = calls.unique_bytes / (device.dram_tb_s * 1e6) * (1 + loss * pages)
    at_once = np.minimum(calls.programs, device.compute_units * resident) * cost.tile_bytes * cost.loads_in_flight
    waiting = calls.unique_bytes / at_once * _DRAM_LATENCY_US
    us: Floats = np.hypot(streaming, waiting)
    return us


@dataclass(frozen=True)
class Constants:
    """Cost of a launch, and a factor on all other time, which leaves the ranking unchanged."""

    launch_us: float
    factor: float
    spread: float
    """The measured time is expected within a factor of this."""
    source: str


@cache
def constants(arch: str, dtype: str) -> Constants:
    """Return the constants of this arch and dtype, or the general ones."""
    entries = tomllib.loads(_CONSTANTS.read_text())
    return Constants(**entries.get(arch, {}).get(dtype, entries["*"]["*"]))
