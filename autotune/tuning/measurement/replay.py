"""Spaces that somebody measured whole: a surface for the simulated GPU. Two formats, told apart by their names.

CSV (perhaps .xz): a column a parameter, then `time_ms`, then others, among them `status` (`ok`, or why it failed).
JSON (perhaps .gz): Kernel Tuner's cache file, which its simulation mode replays.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autotune.config import Config
from autotune.errors import UsageError
from autotune.files import parse_json, read_text, scalars
from autotune.tuning.measurement.bench import NoLibrary
from autotune.tuning.workers.worker import Job

FAILURES = ("ErrorConfig", "InvalidConfig", "CompilationFailedConfig", "RuntimeFailedConfig")
"""What Kernel Tuner writes in place of a time."""


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
    """Kernel Tuner's cache file: its header, and microseconds by config, or the failure's name."""

    header: Mapping[str, Any]
    outcomes: Mapping[Config, float | str]


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
    """A session of theirs that was cut short leaves the last brackets open, which is no error. Raises UsageError."""
    data = parse_json(_closed(read_text(path)), str(path))
    if not isinstance(data, dict) or not isinstance(data.get("cache"), dict):
        raise UsageError(f"{path}: not a cache file of Kernel Tuner: it has no object cache")
    names = data.get("tune_params_keys")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{path}: tune_params_keys must be the list of the parameters' names, got {str(names)[:80]}")
    found = (_outcome(entry, names, f"{path}: cache entry {key!r}") for key, entry in data["cache"].items())
    return CacheFile({name: value for name, value in data.items() if name != "cache"}, dict(found))


def _closed(text: str) -> str:
    end = text.rstrip()
    return end.removesuffix(",") + "}}" if end.endswith(",") else text


def _outcome(entry: Any, names: list[str], place: str) -> tuple[Config, float | str]:  # noqa: ANN401
    if not isinstance(entry, dict) or not set(names) <= entry.keys():
        raise UsageError(f"{place}: must be an object with {', '.join(names)}, got {str(entry)[:80]}")
    config = Config(scalars({name: entry[name] for name in names}, place))
    failures = [value for value in entry.values() if isinstance(value, str) and value in FAILURES]
    if failures:
        return config, failures[0]
    ms = entry.get("time")
    if isinstance(ms, bool) or not isinstance(ms, int | float) or not (0 < ms < math.inf):
        raise UsageError(f"{place}: time must be a positive number of milliseconds, got {str(ms)[:80]}")
    return config, 1e3 * float(ms)
