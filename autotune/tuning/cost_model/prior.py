"""A prior for the search: a small tree ensemble trained on configs that vLLM and SGLang ship.

Its features come from the problem, the config and the device record; it knows no kernel or device by name, so it also
applies to those that nobody tuned. The artifact is JSON, evaluated by numpy. `tools/train_prior.py` makes the packaged
one and records its training data; `autotune learn` continues its training on measurements of this machine.
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
from autotune.tuning.cost_model.call_batch import CallBatch, distinct, side_by_side, works
from autotune.tuning.cost_model.model import Predictions, predict_all
from autotune.tuning.cost_model.program_cost import program_cost
from autotune.tuning.counted_work import work_of

Indices = NDArray[np.intp]

PATH = Path(__file__).with_name("prior.json")
VERSION = 1

SHAPE = (
    *("rows", "columns", "depth", "warps", "stages", "programs", "waves", "idle", "resident_waves", "resident_idle"),
    *("resident", "ring", "iterations", "accumulators", "loads", "reuse", "intensity"),
    *("flops_a_byte", "units", "shared", "wave_width", "narrow_rows"),
)
_MAX_LOG_ODDS = 100.0
"""Limit on the value of one tree, and on their sum where it becomes a time."""
TERMS = ("compute", "issue", "shared", "l2", "chain", "latency", "dram")
MODEL = ("behind", "place", *(f"{name}_time" for name in TERMS))
FEATURES = (*SHAPE, *MODEL)


def features(calls: CallBatch, device: Device, predictions: Predictions) -> Floats:
    """Return one row per config of one problem, columns as in FEATURES; times of the model are relative to its best."""
    best = predictions.us.min()
    place = np.argsort(np.argsort(predictions.us, kind="stable"), kind="stable") / max(1, len(predictions.us) - 1)
    model = [np.log(predictions.us / best), place, *(predictions.terms[name] / best for name in TERMS)]
    return np.stack([*_shape(calls, device), *model], 1)


def applies_to(calls: CallBatch) -> bool:
    """True for kernels like those it was trained on: BLOCK_M x BLOCK_N tiles on the matrix units."""
    return bool((calls.rows > 0).all() and (calls.depth > 0).all())


def _shape(calls: CallBatch, device: Device) -> list[Floats]:
    resident = program_cost(calls, device).programs_per_unit
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
        _log2(calls.by_dtype(device.rate) / (device.dram_tb_s * 1e6)),
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
    """Trees as arrays [trees, nodes]; a leaf is its own child."""

    trained_on: dict[str, Any]
    feature: Indices
    threshold: Floats
    left: Indices
    right: Indices
    value: Floats

    def score(self, rows: Floats) -> Floats:
        """Return the log odds of being a shipped winner for each row of `features`; higher is better."""
        columns = np.ascontiguousarray(rows.T)
        total = np.zeros(len(rows))
        for feature, threshold, left, right, value in zip(
            self.feature.tolist(),
            self.threshold.tolist(),
            self.left.tolist(),
            self.right.tolist(),
            self.value.tolist(),
            strict=True,
        ):
            # All rows go down together and part at each node: a third of the time of walking them side by side.
            pending: list[tuple[int, Indices]] = [(0, np.arange(len(rows)))]
            while pending:
                node, here = pending.pop()
                below = columns[feature[node]].take(here) <= threshold[node]
                for child, part in ((left[node], here[below]), (right[node], here[~below])):
                    if child == node:
                        total[part] += value[node]
                    elif len(part):
                        pending.append((child, part))
        return total

    def times(self, rows: Floats) -> Floats:
        """Return the scores as relative times for the search: positive, smaller is better."""
        times: Floats = np.exp(-np.clip(self.score(rows), -_MAX_LOG_ODDS, _MAX_LOG_ODDS))
        return times


def learned_path(state: Path) -> Path:
    """Path of the prior that `autotune learn` writes."""
    return state / "prior.json"


def chosen(state: Path) -> Path:
    """Path of the prior to use: the one learned in `state` if present, else the packaged one."""
    return learned_path(state) if learned_path(state).is_file() else PATH


def name(path: Path) -> str:
    """Identifier of a learned prior, recorded in rows."""
    return f"learned:{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"


@cache
def load(path: Path = PATH) -> Prior:
    """Read a prior. Raises UsageError for another version's file and for anything else."""
    remedy = "python -m tools.train_prior" if path == PATH else "autotune learn (or remove the file)"
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
    """Build a prior from trees of nodes (feature, threshold, left, right, value).

    Raises IndexError for children that do not follow their parent, and ValueError for values out of range.
    """
    nodes = max(map(len, trees))
    table = np.zeros((len(trees), nodes, 5))
    for tree, rows in enumerate(trees):
        table[tree, : len(rows)] = rows
        children = table[tree, : len(rows), 2:4]
        itself = np.arange(len(rows))[:, None]
        # Children stand after their parents, so that every walk ends.
        if not ((children < len(rows)) & (children >= itself)).all():
            raise IndexError(f"tree {tree} has a child that does not follow its parent")
    if not np.isfinite(table).all() or np.abs(table[:, :, 4]).max() > _MAX_LOG_ODDS:
        raise ValueError(f"a threshold that is no number, or a value beyond {_MAX_LOG_ODDS:g}")
    feature = table[:, :, 0].astype(np.intp)
    if feature.min() < 0 or feature.max() >= len(FEATURES):
        raise IndexError("a feature that is none of FEATURES")
    left, right = table[:, :, 2].astype(np.intp), table[:, :, 3].astype(np.intp)
    return Prior(trained_on, feature, table[:, :, 1], left, right, table[:, :, 4])


def predicted_times(
    kernel: Kernel[Any], problem: Problem, configs: Sequence[Config], device: Device, learned: Path = PATH
) -> tuple[list[float], ...]:
    """Return predicted times of all configs, one list per source: the cost model, then the prior where it applies.

    `learned` is the path of the prior to use.
    """
    if not configs:
        return ([],)
    all_works = works(kernel, problem, configs, device)
    positions, equal_to = distinct(all_works, configs)
    calls = side_by_side([all_works[at] for at in positions], [configs[at] for at in positions])
    predictions = predict_all(calls, device)
    sources = [predictions.us]
    if applies_to(calls):
        sources.append(load(learned).times(features(calls, device, predictions)))
    return tuple(times[equal_to].tolist() for times in sources)


def has_prior(kernel: Kernel[Any], problem: Problem, device: Device) -> bool:
    """True where the prior applies to this kernel."""
    config = kernel.default(problem, device)
    return applies_to(side_by_side([work_of(kernel, problem, config, device)], [config]))
