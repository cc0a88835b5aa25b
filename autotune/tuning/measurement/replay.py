"""Spaces that somebody measured whole: a surface for the simulated GPU. Two formats, told apart by their names.

CSV (perhaps .xz): a column a parameter, then `time_ms`, then others, among them `status` (`ok`, or why it failed).
JSON (perhaps .gz): Kernel Tuner's cache file, which its simulation mode replays.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autotune.config import Config
from autotune.errors import UsageError
from autotune.files import read_text, scalars
from autotune.foreign_text import closed, parse_loose_json, plausible_us
from autotune.tuning.measurement.bench import NoLibrary
from autotune.tuning.workers.worker import Job

FAILURES = ("ErrorConfig", "InvalidConfig", "CompilationFailedConfig", "RuntimeFailedConfig")
"""Words that Kernel Tuner writes in place of a time."""

_NO_TIME = "has no time that a kernel can take"

_DEPTH_OF_ENTRIES = 2
"""An entry of `cache` lies two brackets deep."""


@dataclass(frozen=True)
class Replay:
    """The recorded space at `path` as a surface."""

    path: Path

    def us(self, job: Job) -> float | None:
        if job.library:
            raise NoLibrary(f"{self.path}: a recorded space holds no library's time")
        try:
            return recorded(self.path)[job.config]
        except KeyError:
            raise UsageError(
                f"{self.path}: no row for {job.config}; a replayed job needs a config of that space"
            ) from None


@dataclass(frozen=True)
class CacheFile:
    """Kernel Tuner's cache file: its header, and microseconds by config, or the failure's name.

    `damaged`: the names of entries that say neither, and why.
    """

    header: Mapping[str, Any]
    outcomes: Mapping[Config, float | str]
    damaged: tuple[tuple[str, str], ...] = ()


@cache
def recorded(path: Path) -> Mapping[Config, float | None]:
    """Microseconds by config, None where the run failed. Raises UsageError."""
    if ".json" in path.suffixes:
        outcomes = read_cache_file(path).outcomes
        return MappingProxyType({c: us if isinstance(us, float) else None for c, us in outcomes.items()})
    try:
        rows = list(csv.reader(read_text(path).splitlines()))
        end, status = rows[0].index("time_ms"), rows[0].index("status")
        names = rows[0][:end]
        return MappingProxyType(
            {
                Config({name: int(value) for name, value in zip(names, row, strict=False)}): (
                    1e3 * float(row[end]) if row[status] == "ok" else None
                )
                for row in rows[1:]
            }
        )
    except (ValueError, IndexError, csv.Error) as error:
        raise UsageError(f"{path}: not a recorded space ({error!r}); needs columns time_ms and status") from error


def read_cache_file(path: Path) -> CacheFile:
    """A session of theirs that was cut short leaves the last entry torn, or its brackets open. Raises UsageError."""
    text = read_text(path)
    try:
        data = parse_loose_json(text, str(path))
    except UsageError:
        data = parse_loose_json(closed(text, _DEPTH_OF_ENTRIES), str(path))
    if not isinstance(data, dict) or not isinstance(data.get("cache"), dict):
        raise UsageError(f"{path}: not a cache file of Kernel Tuner: it has no object cache")
    names = data.get("tune_params_keys")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{path}: tune_params_keys must be the list of the parameters' names, got {str(names)[:80]}")
    outcomes: dict[Config, float | str] = {}
    damaged = []
    for name, entry in data["cache"].items():
        config, result = _outcome(entry, names)
        if config is not None:
            outcomes[config] = result
        if config is None or result == _NO_TIME:
            damaged.append((name, str(result)))
    header = {name: value for name, value in data.items() if name != "cache"}
    return CacheFile(header, outcomes, tuple(damaged))


def _outcome(entry: Any, names: list[str]) -> tuple[Config | None, float | str]:  # noqa: ANN401
    """(config, microseconds or how it failed); no config, and why, of an entry that names none."""
    if not isinstance(entry, dict) or not set(names) <= entry.keys():
        return None, f"must be an object with {', '.join(names)}, got {str(entry)[:80]}"
    try:
        config = Config(scalars({name: entry[name] for name in names}, "parameters"))
    except UsageError as error:
        return None, str(error)
    failures = [value for value in entry.values() if isinstance(value, str) and value in FAILURES]
    if failures:
        return config, failures[0]
    ms = entry.get("time")
    if isinstance(ms, str):  # a later release's name of a failure
        return config, ms
    us = plausible_us(ms, 1e3)
    return config, _NO_TIME if us is None else us
