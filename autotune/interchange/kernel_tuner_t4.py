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
from autotune.files import scalars
from autotune.foreign_text import plausible_us, read_loose_json
from autotune.interchange.entries import (
    Entry,
    File,
    Hints,
    LeftOut,
    Read,
    Written,
    measured_us,
    of_a_rehearsal,
    problem_fields,
    reason_of,
    tiers_of,
    without_times,
)
from autotune.table import Row, Table
from autotune.tuning.search.trials import Trials

SCHEMA = "1.0.0"
INVALID = ("timeout", "compile", "runtime", "correctness", "constraints")
_INVALIDITY = {"hang": "timeout", "wrong": "correctness"}
"""Kernel Tuner's words for our kinds of failure; all others happen at run time."""

_UNIT_US = {
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-3),
    **dict.fromkeys(("us", "\u00b5s", "\u03bcs", "microsecond", "microseconds"), 1.0),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1e6),
}


def read(path: Path, hints: Hints) -> Read:
    """The fastest correct config of each problem among the results. Raises UsageError."""
    data = read_loose_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("results"), list):
        raise UsageError(f"{path}: not T4: it has no list of results")
    if not hints.kernel or not hints.device:
        return [], [LeftOut(str(path), "", "names no kernel and device of ours: say them with --kernel and --device")]
    stated = data.get("metadata")
    metadata: dict[str, Any] = stated if isinstance(stated, dict) else {}
    rehearsal = of_a_rehearsal(metadata.get("bench"), path)
    if rehearsal:
        return [], [rehearsal]
    unit = metadata.get("timeunit") or "milliseconds"
    fields = set(problem_fields(hints.kernel))
    best: dict[tuple[tuple[str, Scalar], ...], tuple[float, str, dict[str, Any]]] = {}
    left: list[LeftOut] = []
    for number, result in enumerate(data["results"], 1):
        name = f"result {number}"
        try:
            config, us = _parsed(result, unit, name)
        except UsageError as error:
            left.append(LeftOut(str(path), name, reason_of(error, name)))
            continue
        problem = tuple(sorted((field, value) for field, value in config.items() if field in fields))
        if problem not in best or us < best[problem][0]:
            best[problem] = (us, name, {field: value for field, value in config.items() if field not in fields})
    entries = []
    for problem, (us, name, options) in best.items():
        origin = {"from": "t4", "file": path.name, "foreign_us": round(us, 4)}
        entries.append(Entry(path, name, hints.kernel, hints.device, dict(problem), options, {}, origin))
    return entries, left


def write(tables: list[Table]) -> Written:
    """One file a table: problem and config of a row are one configuration; only measured times are written as times."""
    files = {}
    for table in tables:
        text = _text(map(_row, table.rows), {})
        files[f"{table.device}/{table.kernel}.t4.json"] = File(text, tiers_of(list(table.rows)))
    return files, []


def write_trials(sessions: Iterable[Trials]) -> Written:
    """One file a study that was measured: every trial, also those that failed, and how."""
    files, left = {}, []
    for session in sessions:
        if session.study.measured:
            metadata = {"kernel": session.kernel, "device": session.device, "bench": session.study.bench}
            results = (_trial(session.problem, config, outcome) for config, outcome in session.outcomes)
            text = _text(results, {**metadata, "toolchain": session.study.toolchain})
            files[f"{session.label}.t4.json"] = File(text, {"trials": len(session.outcomes)})
        else:
            left.append(without_times(session))
    return files, left


def _parsed(result: Any, unit: str, place: str) -> tuple[dict[str, Any], float]:  # noqa: ANN401
    """(configuration, microseconds) of a result that is correct. Raises UsageError for any other."""
    if not isinstance(result, dict) or result.get("invalidity") not in (*INVALID, "correct"):
        raise UsageError(f"{place}: not a T4 result: invalidity must be correct or one of {', '.join(INVALID)}")
    config = scalars(result.get("configuration"), place)
    if result["invalidity"] != "correct":
        raise UsageError(f"{place}: no time: {result['invalidity']}")
    measurements = result.get("measurements") or []
    if not isinstance(measurements, list) or not all(isinstance(session, dict) for session in measurements):
        raise UsageError(f"{place}: measurements must be a list of objects")
    time = next((session for session in measurements if session.get("name") == "time"), None)
    if time is None:
        raise UsageError(f"{place}: no measurement is called time")
    stated = time.get("unit") or unit
    scale = _UNIT_US.get(stated.strip().lower()) if isinstance(stated, str) else None
    if scale is None:
        raise UsageError(f"{place}: the unit of its time must be ns, us, ms or s, got {str(stated)[:40]!r}")
    us = plausible_us(time.get("value"), scale)
    if us is None:
        raise UsageError(f"{place}: {str(time.get('value'))[:40]} {stated} is no time that a kernel can take")
    return config, us


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
