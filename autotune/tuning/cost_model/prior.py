"""What shipped winners have in common: a small ensemble of trees over features of problem, config and device record.

It knows no kernel and no device by name, so that it speaks of both before anyone tuned them. The artefact is JSON,
evaluated by numpy; `tools/train_prior.py` makes it and writes into it which winners it was trained on, and
`autotune learn` leaves one in the state folder that was taught further by what was measured here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.errors import UsageError
from autotune.files import read_json
from autotune.kernel import Kernel
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model import prior
from autotune.tuning.cost_model.call_batch import Calls, distinct, side_by_side, works
from autotune.tuning.cost_model.model import Predictions, predict_all
from autotune.tuning.cost_model.program_cost import footprint

Indices = NDArray[np.intp]

PATH = Path(__file__).with_name("prior.json")
VERSION = 1

SHAPE = (
    *("rows", "columns", "depth", "warps", "stages", "programs", "waves", "idle", "resident_waves", "resident_idle"),
    *("resident", "ring", "iterations", "accumulators", "loads", "reuse", "intensity"),
    *("flops_a_byte", "units", "shared", "wave_width", "narrow_rows"),
)
_MOST = 100.0
"""Log odds of any one tree, and of all together where they become a time: e^100 to one is certain."""
TERMS = ("compute", "issue", "shared", "l2", "chain", "latency", "dram")
MODEL = ("behind", "place", *(f"{name}_time" for name in TERMS))
FEATURES = (*SHAPE, *MODEL)


def features(calls: Calls, device: Device, predictions: Predictions) -> Floats:
    """One row a config of one problem, columns as in FEATURES; the model's columns are relative to its best config."""
    best = predictions.us.min()
    place = np.argsort(np.argsort(predictions.us, kind="stable"), kind="stable") / max(1, len(predictions.us) - 1)
    model = [np.log(predictions.us / best), place, *(predictions.terms[name] / best for name in TERMS)]
    return np.stack([*_shape(calls, device), *model], 1)


def speaks_of(calls: Calls) -> bool:
    """Whether a kernel is of the kind that the winners are of: tiles on the matrix units."""
    return bool((calls.rows > 0).all() and (calls.depth > 0).all())


def _shape(calls: Calls, device: Device) -> list[Floats]:
    resident = footprint(calls, device).programs_per_unit
    threads = calls.warps * device.warp_size
    waves = calls.programs / device.compute_units
    resident_waves = waves / resident

    def all_alike(value: float) -> Floats:
        return np.full(len(waves), float(value))

    return [
        *map(_log2, (calls.rows, calls.columns, calls.depth, calls.warps)),
        calls.stages,
        _log2(calls.programs),
        _log2(waves),
        np.ceil(waves) / waves,
        _log2(resident_waves),
        np.ceil(resident_waves) / resident_waves,
        resident,
        calls.step_bytes * calls.stages / device.shared_bytes_per_unit,
        _log2(calls.iterations),
        calls.rows * calls.columns / threads,
        calls.step_bytes / threads,
        _log2(calls.programs * calls.bytes_per_program / np.maximum(1.0, calls.unique_bytes)),
        _log2(calls.flops_per_program / calls.bytes_per_program),
        all_alike(np.log2(device.rate(calls.dtype) / (device.dram_tb_s * 1e6))),
        all_alike(np.log2(device.compute_units)),
        all_alike(np.log2(device.shared_bytes_per_block)),
        all_alike(device.warp_size),
        np.where(calls.rows < 64, 1.0, 0.0) * (device.architecture.group_mma is not None),
    ]


def _log2(values: Floats) -> Floats:
    logs: Floats = np.log2(np.maximum(values, 2.0**-20))
    return logs


@dataclass(frozen=True)
class Prior:
    """Trees as arrays [trees, nodes]; a leaf's children are itself."""

    trained_on: dict[str, Any]
    feature: Indices
    threshold: Floats
    left: Indices
    right: Indices
    value: Floats

    def score(self, rows: Floats) -> Floats:
        """Log odds of being a winner, higher is better, for the rows of `features`."""
        total = np.zeros(len(rows))
        for feature, threshold, left, right, value in zip(
            self.feature, self.threshold, self.left, self.right, self.value, strict=True
        ):
            node: Indices = np.zeros(len(rows), np.intp)
            while not np.array_equal(node, step := _step(rows, node, feature, threshold, left, right)):
                node = step
            total += value[node]
        return total

    def times(self, rows: Floats) -> Floats:
        """The scores as an opinion for the search: positive, smaller is better."""
        times: Floats = np.exp(-np.clip(self.score(rows), -_MOST, _MOST))
        return times


def _step(rows: Floats, node: Indices, feature: Indices, threshold: Floats, left: Indices, right: Indices) -> Indices:
    below = rows[np.arange(len(rows)), feature[node]] <= threshold[node]
    step: Indices = np.where(below, left[node], right[node])
    return step


def own(state: Path) -> Path:
    """Where `autotune learn` leaves what it learned."""
    return state / "prior.json"


def chosen(state: Path) -> Path:
    """The prior that holds for who keeps trials in `state`: their own, where they taught one."""
    return own(state) if own(state).is_file() else PATH


def name(path: Path) -> str:
    """As rows say which prior of one's own helped to find them."""
    return f"learned:{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"


@cache
def load(path: Path = PATH) -> Prior:
    """The artefact. Raises UsageError where it is another version's, or not one at all."""
    remedy = "python tools/train_prior.py" if path == PATH else "autotune learn (or remove the file)"
    try:
        data = read_json(path)
    except UsageError as error:
        raise UsageError(f"{error}; train it again: {remedy}") from error
    try:
        if data["version"] != VERSION or tuple(data["features"]) != FEATURES:
            raise UsageError(f"{path}: made for other features; train it again: {remedy}")
        return from_trees(data["trees"], data["trained_on"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UsageError(f"{path}: not a prior ({error!r}); train it again: {remedy}") from error


def from_trees(trees: Sequence[Sequence[Sequence[float]]], trained_on: dict[str, Any]) -> Prior:
    """Each tree is its nodes (feature, threshold, left, right, value). Raises IndexError for a child that is none, and
    ValueError for a value that is no log odds."""
    nodes = max(map(len, trees))
    table = np.zeros((len(trees), nodes, 5))
    for tree, rows in enumerate(trees):
        table[tree, : len(rows)] = rows
        children = table[tree, : len(rows), 2:4]
        own = np.arange(len(rows))[:, None]
        # Children lie behind their parents, so that every walk ends.
        if not ((children < len(rows)) & ((children > own) | (children == own))).all():
            raise IndexError(f"tree {tree} has a child that does not follow its parent")
    if not np.isfinite(table).all() or np.abs(table[:, :, 4]).max() > _MOST:
        raise ValueError(f"a threshold that is no number, or a value beyond {_MOST:g}")
    feature = table[:, :, 0].astype(np.intp)
    if feature.min() < 0 or feature.max() >= len(FEATURES):
        raise IndexError("a feature that is none of FEATURES")
    left, right = table[:, :, 2].astype(np.intp), table[:, :, 3].astype(np.intp)
    return Prior(trained_on, feature, table[:, :, 1], left, right, table[:, :, 4])


def opinions(
    kernel: Kernel[Any], problem: Problem, configs: Sequence[Config], device: Device, believed: Path = prior.PATH
) -> tuple[list[float], ...]:
    """Predicted times of all configs, one list a source, for `Search.allow`. The prior that lies at `believed`, trained
    on winners of GEMM and fused MoE, speaks of kernels with BLOCK_M x BLOCK_N tiles on the matrix units only."""
    if not configs:
        return ([],)
    asked = works(kernel, problem, configs, device)
    first, like = distinct(asked, configs)
    calls = side_by_side([asked[at] for at in first], [configs[at] for at in first])
    predictions = predict_all(calls, device)
    found = [predictions.us]
    if prior.speaks_of(calls):
        found.append(prior.load(believed).times(prior.features(calls, device, predictions)))
    return tuple(times[like].tolist() for times in found)


def believes(kernel: Kernel[Any], problem: Problem, device: Device) -> bool:
    """Whether the prior has a view of this kernel."""
    config = kernel.default(problem, device)
    return prior.speaks_of(side_by_side([kernel.work(problem, config, device)], [config]))
