"""Triton's `*.autotune.json`, and FLA's config cache of the same configs.

Triton's file names configs and times but not the problem in our terms: the user says it with `--kernel`, `--device` and
`--key`, the names of the values that the file's key holds, in order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune import registry
from autotune.config import Scalar
from autotune.errors import UsageError
from autotune.files import read_json, scalars
from autotune.interchange.entries import NEUTRAL, Entry, Hints, Unmapped, keyed, measured_us, problem_fields
from autotune.table import Row, Table
from autotune.toolchain import recorded_triton

_LAUNCH = ("num_warps", "num_stages", "num_ctas", "maxnreg")


def read_triton(path: Path, hints: Hints) -> tuple[list[Entry], list[Unmapped]]:
    """The fastest config of one `<function>.autotune.json` of Triton's cache. Raises UsageError."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("configs_timings"), list):
        raise UsageError(f"{path}: not Triton's: it has no list configs_timings")
    if not (hints.kernel and hints.device and hints.key):
        return [], [Unmapped(str(path), "names no problem of ours: say it with --kernel, --device and --key")]
    problem = keyed(data.get("key"), hints, str(path))
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
            us = measured_us(row)
            if us is None:
                left.append(Unmapped(place, f"a {row.tier} row has no time, which Triton's file must give"))
                continue
            content = {"key": [v for _, v in row.problem], "configs_timings": [[_triton_config(row), [us / 1e3] * 3]]}
            folder = hashlib.sha256(place.encode()).hexdigest()[:16]
            files[f"{table.device}/{folder}/{function}.autotune.json"] = json.dumps(content, allow_nan=False) + "\n"
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
    hinted = Hints(hints.device, hints.model, kernel, hints.key or tuple(problem_fields(kernel)))
    toolchain = f"triton {data['triton_version']}" if isinstance(data.get("triton_version"), str) else "unknown"
    entries = []
    for digest, entry in found.items():
        place = f"{path}: {digest[:40]}"
        if not isinstance(entry, dict):
            raise UsageError(f"{place}: must be an object, got {type(entry).__name__}")
        problem = keyed(entry.get("autotune_key"), hinted, place)
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
            text = json.dumps(key, separators=(",", ":"), sort_keys=True, allow_nan=False)
            digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()  # FLA's own key
            entries[digest] = {"autotune_key": key, "config": _triton_config(row)}
        versions = {version for row in table.rows if (version := recorded_triton(row.toolchain))}
        version = versions.pop() if len(versions) == 1 else None
        name = _function(table.kernel)
        content = {"kernel_name": name, "triton_version": version, "autotune_entries": entries}
        files[f"{table.device}/{name}.json"] = json.dumps(content, indent=2, allow_nan=False) + "\n"
    return files, []


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


def _function(kernel: str) -> str:
    jit = registry.load(kernel).jit
    return str(getattr(jit, "__name__", kernel.rpartition("/")[2]))


def _kernel_of(function: str) -> str:
    found = [name for name in registry.names() if _function(name) == function]
    return found[0] if len(found) == 1 else ""
