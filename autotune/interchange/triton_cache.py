"""Triton's `*.autotune.json`: the configs that `triton.autotune` timed for one key.

The file names configs and times but not the problem in our terms: the user says it with `--kernel`, `--device` and
`--key`, the names of the values that the file's key holds, in order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autotune import registry
from autotune.config import Scalar, describe_key
from autotune.errors import UsageError
from autotune.files import scalars
from autotune.foreign_text import plausible_us, read_loose_json
from autotune.interchange.entries import (
    NEUTRAL,
    Entry,
    File,
    Hints,
    LeftOut,
    Read,
    Written,
    keyed,
    measured_us,
    reason_of,
    row_left_out,
    table_name,
    tiers_of,
)
from autotune.table import Row, Table

_LAUNCH = ("num_warps", "num_stages", "num_ctas", "maxnreg")


def read(path: Path, hints: Hints) -> Read:
    """The fastest config of one `<function>.autotune.json` of Triton's cache. Raises UsageError."""
    data = read_loose_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("configs_timings"), list):
        raise UsageError(f"{path}: not Triton's: it has no list configs_timings")
    if not (hints.kernel and hints.device and hints.key):
        return [], [LeftOut(str(path), "", "names no problem of ours: say it with --kernel, --device and --key")]
    problem = keyed(data.get("key"), hints, str(path))
    timed: list[tuple[float, str, dict[str, Scalar]]] = []
    left: list[LeftOut] = []
    for number, pair in enumerate(data["configs_timings"], 1):
        name = f"config {number}"
        try:
            us, config = _timing(pair, name)
        except UsageError as error:
            left.append(LeftOut(str(path), name, reason_of(error, name)))
            continue
        if us is not None:
            timed.append((us, name, config))
    if not timed:
        return [], [*left, LeftOut(str(path), "", "no config has a time that a kernel can take")]
    us, name, config = min(timed, key=lambda one: one[0])
    origin = {"from": "triton", "file": path.name, "foreign_us": round(us, 4)}
    return [Entry(path, name, hints.kernel, hints.device, problem, config, {}, origin)], left


def write(tables: list[Table]) -> Written:
    """One file a measured row. Triton looks them up in a folder named by a hash of its environment: put them there."""
    files, left = {}, []
    for table in tables:
        for row in table.rows:
            us = measured_us(row)
            if us is None:
                left.append(row_left_out(table, row, f"a {row.tier} row has no time, which Triton's file must give"))
                continue
            content = {"key": [v for _, v in row.problem], "configs_timings": [[triton_config(row), [us / 1e3] * 3]]}
            place = f"{table_name(table)}: {describe_key(row.problem)}"
            folder = hashlib.sha256(place.encode()).hexdigest()[:16]
            name = f"{table.device}/{folder}/{function_of(table.kernel)}.autotune.json"
            files[name] = File(json.dumps(content, allow_nan=False) + "\n", tiers_of([row]))
    return files, left


def config_of(config: Any, place: str) -> dict[str, Scalar]:  # noqa: ANN401
    """A `triton.Config` as JSON: constexprs in `kwargs`, launch options beside them. Raises UsageError."""
    if not isinstance(config, dict):
        raise UsageError(f"{place}: a config must be an object, got {type(config).__name__}")
    inner = scalars(config.get("kwargs", {}), place)
    outer = {name: config[name] for name in _LAUNCH if config.get(name) is not None}
    return {**inner, **scalars(outer, place)}


def triton_config(row: Row) -> dict[str, Any]:
    """The row's config as the JSON of a `triton.Config`."""
    config: Mapping[str, Scalar] = row.config
    outer = {name: config.get(name, NEUTRAL.get(name)) or None for name in _LAUNCH}  # FLA reads all four
    return {"kwargs": {name: value for name, value in config.items() if name not in _LAUNCH}, **outer}


def function_of(kernel: str) -> str:
    """The name of the kernel's Triton function."""
    jit = registry.load(kernel).jit
    return str(getattr(jit, "__name__", kernel.rpartition("/")[2]))


def _timing(pair: Any, place: str) -> tuple[float | None, dict[str, Scalar]]:  # noqa: ANN401
    """(microseconds, config); None where the config did not run: Triton writes Infinity."""
    if not isinstance(pair, list) or len(pair) != 2:
        raise UsageError(f"{place}: must be [config, times]")
    times = pair[1] if isinstance(pair[1], list) else [pair[1]]
    if not times or isinstance(times[0], bool) or not isinstance(times[0], int | float):
        raise UsageError(f"{place}: times must be numbers of milliseconds, got {str(pair[1])[:80]}")
    return plausible_us(times[0], 1e3), config_of(pair[0], place)
