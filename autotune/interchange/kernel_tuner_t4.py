"""Kernel Tuner's T4 (schema 1.0.0): results of a session, one configuration each.

T4 names no kernel and no device (`--kernel` and `--device` do); a problem's fields stand among the parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autotune.config import Config, Problem, Scalar, key
from autotune.errors import UsageError
from autotune.files import read_json, scalars
from autotune.interchange.entries import (
    Entry,
    Hints,
    Unmapped,
    measured_us,
    of_a_rehearsal,
    problem_fields,
    without_times,
)
from autotune.table import Row, Table
from autotune.tuning.session.trials import Trials

SCHEMA = "1.0.0"
INVALID = ("timeout", "compile", "runtime", "correctness", "constraints")
_INVALIDITY = {"hang": "timeout", "wrong": "correctness"}
"""Of our kinds of failure; all others happen at run time."""


def read(path: Path, hints: Hints) -> tuple[list[Entry], list[Unmapped]]:
    """The fastest correct config of each problem among the results. Raises UsageError."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("results"), list):
        raise UsageError(f"{path}: not T4: it has no list of results")
    if not hints.kernel or not hints.device:
        return [], [Unmapped(str(path), "names no kernel and device of ours: say them with --kernel and --device")]
    metadata = data.get("metadata")
    rehearsal = of_a_rehearsal(metadata.get("bench") if isinstance(metadata, dict) else None, str(path))
    if rehearsal:
        return [], [rehearsal]
    fields = set(problem_fields(hints.kernel))
    best: dict[tuple[tuple[str, Scalar], ...], tuple[float, str, dict[str, Any]]] = {}
    left: list[Unmapped] = []
    for number, result in enumerate(data["results"], 1):
        place = f"{path}: result {number}"
        config, ms = _parsed(result, place)
        problem = tuple(sorted((name, value) for name, value in config.items() if name in fields))
        if result["invalidity"] != "correct" or ms is None:
            left.append(Unmapped(place, f"no time: {result['invalidity']}"))
        elif problem not in best or ms < best[problem][0]:
            best[problem] = (ms, place, {name: value for name, value in config.items() if name not in fields})
    entries = []
    for problem, (ms, place, options) in best.items():
        origin = {"from": "t4", "file": path.name, "foreign_us": round(ms * 1e3, 4)}
        entries.append(Entry(place, hints.kernel, hints.device, dict(problem), options, {}, origin))
    return entries, left


def write(tables: list[Table]) -> tuple[dict[str, str], list[Unmapped]]:
    """One file a table: problem and config of a row are one configuration; only measured times are written as times."""
    return {f"{one.device}/{one.kernel}.t4.json": _text(map(_row, one.rows), {}) for one in tables}, []


def write_trials(sessions: Iterable[Trials]) -> tuple[dict[str, str], list[Unmapped]]:
    """One file a study that was measured: every trial, also those that failed, and how."""
    files, left = {}, []
    for one in sessions:
        if one.study.measured:
            metadata = {"kernel": one.kernel, "device": one.device, "bench": one.study.bench}
            results = (_trial(one.problem, config, outcome) for config, outcome in one.outcomes)
            files[f"{one.label}.t4.json"] = _text(results, {**metadata, "toolchain": one.study.toolchain})
        else:
            left.append(without_times(one))
    return files, left


def _parsed(result: Any, place: str) -> tuple[dict[str, Any], float | None]:  # noqa: ANN401
    """(configuration, milliseconds or None)."""
    if not isinstance(result, dict) or result.get("invalidity") not in (*INVALID, "correct"):
        raise UsageError(f"{place}: not a T4 result: invalidity must be correct or one of {', '.join(INVALID)}")
    config = scalars(result.get("configuration"), place)
    measurements = result.get("measurements") or []
    if not isinstance(measurements, list) or not all(isinstance(one, dict) for one in measurements):
        raise UsageError(f"{place}: measurements must be a list of objects")
    times = [m["value"] for m in measurements if m.get("name") == "time" and isinstance(m.get("value"), int | float)]
    return config, float(times[0]) if times and times[0] > 0 else None


def _text(results: Iterable[dict[str, Any]], metadata: dict[str, str]) -> str:
    more = {"timeunit": "milliseconds", **metadata}
    return json.dumps({"schema_version": SCHEMA, "results": list(results), "metadata": more}, allow_nan=False) + "\n"


def _row(row: Row) -> dict[str, Any]:
    return _result({**dict(row.problem), **row.config}, "correct", measured_us(row), {"tier": row.tier})


def _trial(problem: Problem, config: Config, outcome: Mapping[str, Any]) -> dict[str, Any]:
    invalidity = "correct"
    if "failed" in outcome:
        invalidity = _INVALIDITY.get(
            outcome.get("kind", ""), "compile" if outcome["failed"] == "compile" else "runtime"
        )
    more = {name: outcome[name] for name in ("samples", "spread", "clock_mhz", "reason") if name in outcome}
    return _result({**dict(key(problem)), **config}, invalidity, outcome.get("us"), more)


def _result(
    configuration: dict[str, Scalar], invalidity: str, us: float | None, more: Mapping[str, float | str]
) -> dict[str, Any]:
    measured = [] if us is None else [{"name": "time", "value": us / 1e3, "unit": "ms"}]
    units = {"clock_mhz": "MHz"}
    return {
        "configuration": configuration,
        "times": {"runtimes": [] if us is None else [us / 1e3]},
        "invalidity": invalidity,
        "correctness": int(invalidity == "correct"),
        "measurements": [*measured, *({"name": n, "value": v, "unit": units.get(n, "")} for n, v in more.items())],
        "objectives": ["time"],
    }
