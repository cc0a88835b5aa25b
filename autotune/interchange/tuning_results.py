"""Tuning results of other tools: Kernel Tuner's T4 (schema 1.0.0), Triton's `*.autotune.json`, FLA's config cache.

A T4 or Triton file names configs and times but not the problem in our terms: the user says it with `--kernel`,
`--device` and `--key`, the names of the values that the file's key holds, in order.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autotune import registry
from autotune.config import Scalar
from autotune.errors import UsageError
from autotune.interchange.foreign import NEUTRAL, Entry, Hints, Unmapped, read_json, scalars
from autotune.table import Row, Table

SCHEMA = "1.0.0"
INVALID = ("timeout", "compile", "runtime", "correctness", "constraints")
_LAUNCH = ("num_warps", "num_stages", "num_ctas", "maxnreg")


def read_t4(path: Path, hints: Hints) -> tuple[list[Entry], list[Unmapped]]:
    """The fastest correct config of each problem among the results. Raises UsageError."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("results"), list):
        raise UsageError(f"{path}: not T4: it has no list of results")
    if not hints.kernel or not hints.device:
        return [], [Unmapped(str(path), "names no kernel and device of ours: say them with --kernel and --device")]
    fields = set(_problem_fields(hints.kernel))
    best: dict[tuple[tuple[str, Scalar], ...], tuple[float, str, dict[str, Any]]] = {}
    left: list[Unmapped] = []
    for number, result in enumerate(data["results"], 1):
        place = f"{path}: result {number}"
        config, ms = _result(result, place)
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


def write_t4(tables: list[Table]) -> tuple[dict[str, str], list[Unmapped]]:
    """One file a table: problem and config of a row are one configuration; only measured times are written as times."""
    files = {}
    for table in tables:
        results = [_t4_result(row) for row in table.rows]
        text = json.dumps({"schema_version": SCHEMA, "results": results, "metadata": {"timeunit": "milliseconds"}})
        files[f"{table.device}/{table.kernel}.t4.json"] = text + "\n"
    return files, []


def read_triton(path: Path, hints: Hints) -> tuple[list[Entry], list[Unmapped]]:
    """The fastest config of one `<function>.autotune.json` of Triton's cache. Raises UsageError."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("configs_timings"), list):
        raise UsageError(f"{path}: not Triton's: it has no list configs_timings")
    if not (hints.kernel and hints.device and hints.key):
        return [], [Unmapped(str(path), "names no problem of ours: say it with --kernel, --device and --key")]
    problem = _keyed(data.get("key"), hints, str(path))
    timed = [_timing(pair, f"{path}: config {n}") for n, pair in enumerate(data["configs_timings"], 1)]
    if not timed:
        return [], [Unmapped(str(path), "no config has a time")]
    ms, options = min(timed, key=lambda one: one[0])
    origin = {"from": "triton", "file": path.name, "foreign_us": round(ms * 1e3, 4)}
    return [Entry(str(path), hints.kernel, hints.device, problem, options, {}, origin)], []


def write_triton(tables: list[Table]) -> tuple[dict[str, str], list[Unmapped]]:
    """One file a measured row. Triton looks them up in a folder named by a hash of its environment: put them there."""
    files, left = {}, []
    for table in tables:
        function = _function(table.kernel)
        for row in table.rows:
            place = f"{table.kernel} on {table.device}: " + ",".join(f"{n}={v}" for n, v in row.problem)
            us = _us(row)
            if us is None:
                left.append(Unmapped(place, f"a {row.tier} row has no time, which Triton's file must give"))
                continue
            content = {"key": [v for _, v in row.problem], "configs_timings": [[_triton_config(row), [us / 1e3] * 3]]}
            folder = hashlib.sha256(place.encode()).hexdigest()[:16]
            files[f"{table.device}/{folder}/{function}.autotune.json"] = json.dumps(content) + "\n"
    return files, left


def read_fla(path: Path, hints: Hints) -> tuple[list[Entry], list[Unmapped]]:
    """The entries of one FLA config file. Raises UsageError."""
    data = read_json(path)
    found = data.get("autotune_entries") if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: not FLA's: it has no object autotune_entries")
    kernel = hints.kernel or _kernel_of(str(data.get("kernel_name")))
    if not kernel or not hints.device:
        name = data.get("kernel_name")
        return [], [Unmapped(str(path), f"{name}: no kernel here, or no --device (FLA's folder has a marketing name)")]
    keyed = Hints(hints.device, hints.model, kernel, hints.key or tuple(_problem_fields(kernel)))
    toolchain = f"triton {data['triton_version']}" if isinstance(data.get("triton_version"), str) else "unknown"
    entries = []
    for digest, entry in found.items():
        place = f"{path}: {digest[:40]}"
        if not isinstance(entry, dict):
            raise UsageError(f"{place}: must be an object, got {type(entry).__name__}")
        problem = _keyed(entry.get("autotune_key"), keyed, place)
        origin = {"from": "fla", "file": path.name, "entry": digest}
        options = _options(entry.get("config"), place)
        entries.append(Entry(place, kernel, hints.device, problem, options, {}, origin, (), toolchain))
    return entries, []


def write_fla(tables: list[Table]) -> tuple[dict[str, str], list[Unmapped]]:
    """One file a table, under the kernel's function name, as FLA's `load_cached_config` looks for it."""
    files = {}
    for table in tables:
        entries = {}
        for row in table.rows:
            key = [value for _, value in row.problem]
            text = json.dumps(key, separators=(",", ":"), sort_keys=True)
            digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()  # FLA's own key
            entries[digest] = {"autotune_key": key, "config": _triton_config(row)}
        versions = {match[1] for row in table.rows if (match := re.match(r"triton ([\d.]+)", row.toolchain))}
        version = versions.pop() if len(versions) == 1 else None
        name = _function(table.kernel)
        content = {"kernel_name": name, "triton_version": version, "autotune_entries": entries}
        files[f"{table.device}/{name}.json"] = json.dumps(content, indent=2) + "\n"
    return files, []


def _result(result: Any, place: str) -> tuple[dict[str, Any], float | None]:  # noqa: ANN401
    """(configuration, milliseconds or None)."""
    if not isinstance(result, dict) or result.get("invalidity") not in (*INVALID, "correct"):
        raise UsageError(f"{place}: not a T4 result: invalidity must be correct or one of {', '.join(INVALID)}")
    config = scalars(result.get("configuration"), place)
    measurements = result.get("measurements") or []
    if not isinstance(measurements, list) or not all(isinstance(one, dict) for one in measurements):
        raise UsageError(f"{place}: measurements must be a list of objects")
    times = [m["value"] for m in measurements if m.get("name") == "time" and isinstance(m.get("value"), int | float)]
    return config, float(times[0]) if times and times[0] > 0 else None


def _t4_result(row: Row) -> dict[str, Any]:
    us = _us(row)
    measured = [] if us is None else [{"name": "time", "value": us / 1e3, "unit": "ms"}]
    return {
        "configuration": {**dict(row.problem), **dict(row.config)},
        "times": {"runtimes": [] if us is None else [us / 1e3]},
        "invalidity": "correct",
        "correctness": 1,
        "measurements": [*measured, {"name": "tier", "value": row.tier, "unit": ""}],
        "objectives": ["time"],
    }


def _us(row: Row) -> float | None:
    """Measured microseconds, ours or another tool's; a modelled range is no time."""
    for name in ("us", "foreign_us"):
        value = row.evidence.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _keyed(values: Any, hints: Hints, place: str) -> dict[str, Scalar]:  # noqa: ANN401
    """Triton appends the dtypes of tensors to the key: they are left out; an FP8 problem is the device's own."""
    if not isinstance(values, list) or len(values) < len(hints.key):
        raise UsageError(f"{place}: the key must be a list that gives {', '.join(hints.key)}, got {str(values)[:80]}")
    found = dict(zip(hints.key, values, strict=False))
    return dict(scalars(found, f"{place}: key"))


def _timing(pair: Any, place: str) -> tuple[float, dict[str, Scalar]]:  # noqa: ANN401
    if not isinstance(pair, list) or len(pair) != 2:
        raise UsageError(f"{place}: must be [config, times]")
    times = pair[1] if isinstance(pair[1], list) else [pair[1]]
    if not times or isinstance(times[0], bool) or not isinstance(times[0], int | float):
        raise UsageError(f"{place}: times must be numbers of milliseconds, got {str(pair[1])[:80]}")
    return float(times[0]), _options(pair[0], place)


def _options(config: Any, place: str) -> dict[str, Scalar]:  # noqa: ANN401
    """Of a `triton.Config`: constexprs in `kwargs`, launch options beside them."""
    if not isinstance(config, dict):
        raise UsageError(f"{place}: a config must be an object, got {type(config).__name__}")
    inner = scalars(config.get("kwargs", {}), place)
    outer = {name: config[name] for name in _LAUNCH if config.get(name) is not None}
    return {**inner, **scalars(outer, place)}


def _triton_config(row: Row) -> dict[str, Any]:
    config: Mapping[str, Scalar] = row.config
    outer = {name: config.get(name, NEUTRAL.get(name)) or None for name in _LAUNCH}  # FLA reads all four
    return {"kwargs": {name: value for name, value in config.items() if name not in _LAUNCH}, **outer}


def _problem_fields(kernel: str) -> Iterator[str]:
    from autotune.config import field_names

    problem_type: Any = registry.load(kernel).problem
    yield from field_names(problem_type)


def _function(kernel: str) -> str:
    jit = registry.load(kernel).jit
    return str(getattr(jit, "__name__", kernel.rpartition("/")[2]))


def _kernel_of(function: str) -> str:
    found = [name for name in registry.names() if _function(name) == function]
    return found[0] if len(found) == 1 else ""
