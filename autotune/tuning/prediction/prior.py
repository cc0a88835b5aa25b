"""What shipped winners have in common: a small ensemble of trees over features of problem, config and device record.

It knows no kernel and no device by name, so that it speaks of both before anyone tuned them. The artefact is JSON,
evaluated by numpy; `benchmarks/train_prior.py` makes it and writes into it which winners it was trained on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Work
from autotune.tuning.prediction.footprint import footprint
from autotune.tuning.prediction.predict import Prediction
from autotune.tuning.search.encoding import Floats

Indices = NDArray[np.intp]

PATH = Path(__file__).with_name("prior.json")
VERSION = 1

SHAPE = (
    *("rows", "columns", "depth", "warps", "stages", "programs", "waves", "idle", "resident_waves", "resident_idle"),
    *("resident", "ring", "iterations", "accumulators", "loads", "reuse", "intensity"),
    *("flops_a_byte", "units", "shared", "wave_width", "narrow_rows"),
)
MODEL = ("behind", "place", "compute", "issue", "shared_time", "l2", "chain", "latency", "dram")
FEATURES = (*SHAPE, *MODEL)


def features(
    works: Sequence[Work], configs: Sequence[Config], device: Device, predictions: Sequence[Prediction]
) -> Floats:
    """One row a config of one problem, columns as in FEATURES; the model's columns are relative to its best config."""
    rows = [_shape(work, config, device) for work, config in zip(works, configs, strict=True)]
    times = np.array([prediction.us for prediction in predictions])
    place = np.argsort(np.argsort(times, kind="stable"), kind="stable") / max(1, len(times) - 1)
    terms = np.array([[us for _, us in prediction.terms[:7]] for prediction in predictions])
    return np.hstack([np.array(rows), np.log(times / times.min())[:, None], place[:, None], terms / times.min()])


def speaks_of(work: Work, config: Config) -> bool:
    """Whether a kernel is of the kind that the winners are of: tiles on the matrix units."""
    return work.dtype != "fp32" and {"BLOCK_M", "BLOCK_N", "BLOCK_K"} <= config.keys()


def _shape(work: Work, config: Config, device: Device) -> list[float]:
    used = footprint(work, config, device, None)
    rows, columns, depth = (int(config.get(f"BLOCK_{axis}", 0)) for axis in "MNK")
    warps, stages = config.size("num_warps"), int(config.get("num_stages", 1))
    waves = work.programs / device.compute_units
    resident_waves = waves / used.programs_per_unit
    step_bytes = work.bytes_per_program / max(1, work.iterations)
    return [
        *map(_log2, (rows, columns, depth, warps)),
        stages,
        _log2(work.programs),
        _log2(waves),
        math.ceil(waves) / waves,
        _log2(resident_waves),
        math.ceil(resident_waves) / resident_waves,
        used.programs_per_unit,
        step_bytes * stages / device.shared_bytes_per_unit,
        _log2(work.iterations),
        rows * columns / (warps * device.warp_size),
        step_bytes / (warps * device.warp_size),
        _log2(work.programs * work.bytes_per_program / max(1.0, work.unique_bytes)),
        _log2(work.flops_per_program / work.bytes_per_program),
        _log2(device.rate(work.dtype) / (device.dram_tb_s * 1e6)),
        _log2(device.compute_units),
        _log2(device.shared_bytes_per_block),
        device.warp_size,
        float(device.arch in ("sm_90", "sm_100", "sm_103") and rows < 64),
    ]


def _log2(value: float) -> float:
    return math.log2(max(value, 2.0**-20))


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

    def times(self, rows: Floats) -> list[float]:
        """The scores as an opinion for the search: positive, smaller is better."""
        times: list[float] = np.exp(-self.score(rows)).tolist()
        return times


def _step(rows: Floats, node: Indices, feature: Indices, threshold: Floats, left: Indices, right: Indices) -> Indices:
    below = rows[np.arange(len(rows)), feature[node]] <= threshold[node]
    step: Indices = np.where(below, left[node], right[node])
    return step


@cache
def load(path: Path = PATH) -> Prior:
    """The artefact. Raises UsageError where it is another version's, or not one at all."""
    try:
        data = json.loads(path.read_text())
        if data["version"] != VERSION or tuple(data["features"]) != FEATURES:
            raise UsageError(f"{path}: made for other features; train it again: python benchmarks/train_prior.py")
        return from_trees(data["trees"], data["trained_on"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UsageError(
            f"{path}: not a prior ({error!r}); train it again: python benchmarks/train_prior.py"
        ) from error


def from_trees(trees: Sequence[Sequence[Sequence[float]]], trained_on: dict[str, Any]) -> Prior:
    """Each tree is its nodes (feature, threshold, left, right, value). Raises IndexError for a child that is none."""
    nodes = max(map(len, trees))
    table = np.zeros((len(trees), nodes, 5))
    for tree, rows in enumerate(trees):
        table[tree, : len(rows)] = rows
        children = table[tree, : len(rows), 2:4]
        own = np.arange(len(rows))[:, None]
        # Children lie behind their parents, so that every walk ends.
        if not ((children < len(rows)) & ((children > own) | (children == own))).all():
            raise IndexError(f"tree {tree} has a child that does not follow its parent")
    feature = table[:, :, 0].astype(np.intp)
    if feature.min() < 0 or feature.max() >= len(FEATURES):
        raise IndexError("a feature that is none of FEATURES")
    left, right = table[:, :, 2].astype(np.intp), table[:, :, 3].astype(np.intp)
    return Prior(trained_on, feature, table[:, :, 1], left, right, table[:, :, 4])
