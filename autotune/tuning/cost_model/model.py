"""The cost model: how long one call takes, from what a program does, what its binary uses and what the device has.

All resident programs of a unit go through their iterations together. An iteration takes the sum of what they share
(matrix units, issue slots, shared memory, L2: each by its visible share, the rest is hidden behind the others), or what
one program cannot overlap with itself (its chain of dependent steps, its loads in flight), whichever is longer; where
two of the three are close, a little more than either. Waves of programs follow one another, the last with as many
programs a unit as are left; DRAM bounds them all together. Structure after AMD's Origami (per-iteration maximum, wave
quantisation) and DeepGEMM (shared memory and L2 bytes a block).

The constants are one set for all kernels of a vendor. Those of NVIDIA GPUs were fitted on one half of the shapes of
TorchInductor's timed choice lists (A100, H100) and of fused MoE of nine GPUs; `benchmarks/cost_model/` judges them on
the other half.
"""

from __future__ import annotations

import ast
import hashlib
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
from autotune.tuning.cost_model.constants import PATH, Calibration, Terms, calibration, terms
from autotune.tuning.cost_model.program_cost import ProgramCost, program_cost

_PAGE_LOSS = 0.035
"""Fraction of streaming bandwidth lost per doubling of the DRAM pages that a program opens for the same bytes: when it
reads twice the rows at once, or half as much of each. A device record may have its own value."""
_SHARED_BYTES_PER_CLOCK = 128
_SHARED_LINES = 1.5
"""Requests of neighbouring units for one line reach L2 once: Hopper's and Blackwell's coalescer, CDNA's."""
_UNIT_BYTES_PER_CLOCK = 40
"""L2 bandwidth of one compute unit: loads of many warps reach 40 of the 64 bytes that its port is wide."""
_SINGLE_WARP_ISSUE = 0.8
"""Instructions per clock of a scheduler with a single warp, which waits for its own results."""


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
    spread: Floats
    source: Sequence[str]

    def __getitem__(self, at: int) -> Prediction:
        terms = tuple((name, float(us[at])) for name, us in self.terms.items())
        return Prediction(float(self.us[at]), terms, float(self.spread[at]), self.source[at])


@cache
def model_name(device: Device) -> str:
    """Version of the cost model for `device`: `model:` and a hash of this folder's code, its constants, and the device
    and arch records (citations excluded). Trials of two versions do not compare."""
    folder = Path(__file__).parent
    code = [meaning(ast.parse(path.read_bytes())) for path in sorted(folder.glob("*.py"))]
    records = [repr(replace(device, figures=())), repr(replace(device.architecture, figures={}))]
    text = "\n".join([*code, PATH.read_text(), *records])
    return f"model:{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def predict(work: Work, config: Config, device: Device, resources: Resources | None = None) -> Prediction:
    """Predict the time of one call. `resources` of the binary replace the estimates made from the config."""
    return predict_all(side_by_side([work], [config]), device, [resources])[0]


def predict_all(
    calls: CallBatch,
    device: Device,
    resources: Sequence[Resources | None] = (),
    reuse_bytes: Floats | float = np.inf,
    terms_of_formula: Terms | None = None,
) -> Predictions:
    """Predict the times of many calls on one device.

    `resources` of their binaries, in the same order, replace the estimates made from the configs. `reuse_bytes` is the
    data that passes through the caches between two calls on the same operands: if the last-level cache holds that much,
    nothing comes from DRAM. Caches are cold (inf) in engines and on our benches, warm for tuners that repeat one call.
    """
    given = terms_of_formula or terms(device.vendor)
    fitted = calibrations(calls, device)
    launch_us, factor, spread = np.array([(each.launch_us, each.factor, each.spread) for each in fitted]).T
    cost = program_cost(calls, device, resources, given)
    resident = np.minimum(cost.programs_per_unit, np.ceil(calls.programs / device.compute_units))
    per_wave = device.compute_units * resident
    full_waves, remainder = np.divmod(calls.programs, per_wave)
    last = np.ceil(remainder / device.compute_units)
    in_full, in_last = (_iteration(calls, device, cost, programs, given) for programs in (resident, last))
    clocks_us = device.clock_ghz * 1e3

    def all_waves(full: Floats, final: Floats) -> Floats:
        whole = full_waves * full + np.where(last > 0, final, 0.0)
        fractional = np.maximum(1.0, calls.programs / per_wave) * full
        weight = given.whole_waves
        waves: Floats = (weight * whole + (1 - weight) * fractional) * calls.iterations / clocks_us
        return waves

    times = {name: all_waves(in_full[name], in_last[name]) for name in in_full}
    loop = all_waves(_overlapped(in_full, given), _overlapped(in_last, given))
    edge = given.edge_share * (given.latency_us / 2 + cost.edge_clocks / clocks_us)
    edges = edge * (full_waves + (last > 0))
    cached = np.less_equal(reuse_bytes, device.last_level_bytes)
    from_cache = calls.unique_bytes / (device.last_level_tb_s * 1e6)
    dram = np.where(cached, from_cache, _dram_us(calls, device, cost, resident, given))
    launch = calls.launches * launch_us
    reduction = calls.reduction_bytes / (device.l2_tb_s * 1e6)
    rest = _close([loop + edges, dram], given.call_norm) + reduction
    times |= {"dram": dram, "edges": edges, "reduction": reduction}
    times = {name: factor * us for name, us in times.items()} | {"launch": launch}
    return Predictions(launch + factor * rest, times, spread, [each.source for each in fitted])


def calibrations(calls: CallBatch, device: Device) -> list[Calibration]:
    """Return the calibration of each call: of its operands' dtype, or of kernels unlike those measured."""
    kinds, at = np.unique(np.where(calls.is_plain, calls.dtype, "*"), return_inverse=True)
    known = [calibration(device, str(kind)) for kind in kinds]
    return [known[kind] for kind in at.tolist()]


def _iteration(
    calls: CallBatch, device: Device, cost: ProgramCost, programs: Floats, given: Terms
) -> dict[str, Floats]:
    """Return clocks per term of one iteration with `programs` resident per compute unit: shared terms and own ones."""
    lanes = 32 * _SINGLE_WARP_ISSUE * np.maximum(1.0, calls.warps)
    alone, shared = np.minimum(128, lanes), np.minimum(128, lanes * np.maximum(1.0, programs))
    latency = given.latency_us * device.clock_ghz * 1e3
    waited = np.where(calls.is_scaled, given.scaled_chain, given.chain_share)
    return {
        "compute": programs * cost.matrix_clocks,
        "issue": programs * cost.issue_clocks * 128 / shared,
        "shared": programs * cost.shared_bytes_moved / _SHARED_BYTES_PER_CLOCK,
        "l2": _l2_clocks(calls, device, cost, programs),
        "chain": waited * cost.matrix_clocks + given.issue_share * cost.issue_clocks * 128 / alone + cost.sync_clocks,
        "latency": (latency + cost.fill_clocks) / cost.loads_in_flight,
    }


def _overlapped(clocks: dict[str, Floats], given: Terms) -> Floats:
    visible = (
        given.matrix_share * clocks["compute"]
        + given.issue_share * clocks["issue"]
        + given.shared_share * clocks["shared"]
        + given.l2_share * clocks["l2"]
    )
    return _close([visible, clocks["chain"], clocks["latency"]], given.iteration_norm)


def _close(limits: Sequence[Floats], exponent: float) -> Floats:
    """Return the longest of the limits, and more where others are close: their mean of that exponent, times a count."""
    longest = np.maximum(np.max(limits, axis=0), 1e-9)
    total: Floats = longest * sum((limit / longest) ** exponent for limit in limits) ** (1 / exponent)
    return total


def _l2_clocks(calls: CallBatch, device: Device, cost: ProgramCost, programs: Floats) -> Floats:
    """Return L2 clocks of one iteration of all resident programs; a few compute units alone reach only a part of its
    rate."""
    active = np.minimum(calls.programs, device.compute_units * programs)
    units = np.minimum(calls.programs, device.compute_units)
    lines = _SHARED_LINES if device.is_amd or device.architecture.group_mma else 1.0
    per_clock = np.minimum(device.l2_tb_s * 1e3 / device.clock_ghz, _UNIT_BYTES_PER_CLOCK * units)
    clocks: Floats = active * cost.tile_bytes / lines / per_clock
    return clocks


def _dram_us(calls: CallBatch, device: Device, cost: ProgramCost, resident: Floats, given: Terms) -> Floats:
    """Return DRAM time: at streaming bandwidth, or at what the bytes in flight allow (Little's law); the root of both
    squares, so that two close limits add up."""
    run = np.maximum(1.0, calls.depth * calls.width * cost.loads_in_flight)
    rows = np.where(calls.depth > 0, calls.columns, 0.0)
    pages = np.log2(np.maximum(1.0, rows / 32 * 8192 / run))
    loss = _PAGE_LOSS if device.page_loss is None else device.page_loss
    streaming = calls.unique_bytes / (given.dram_reach * device.dram_tb_s * 1e6) * (1 + loss * pages)
    at_once = np.minimum(calls.programs, device.compute_units * resident) * cost.tile_bytes * cost.loads_in_flight
    waiting = calls.unique_bytes / at_once * given.dram_latency_us
    us: Floats = np.hypot(streaming, waiting)
    return us
