"""Which config serves a problem: exact row, nearest allowed row, default. Shapes and dtypes decide, never data."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import table
from autotune.config import Config, Key, Problem, describe, key
from autotune.device import Device
from autotune.errors import TableError
from autotune.table import Row

if TYPE_CHECKING:
    from autotune.kernel import Kernel


@dataclass(frozen=True)
class Choice:
    """The config, and how it was found: `exact`, `nearest` or `default`; `reason` is a sentence for people."""

    config: Config
    how: str
    reason: str
    row: Row | None = None


def tables_root() -> Path:
    """Where tables lie: $AUTOTUNE_TABLES, else the folder that came with this package."""
    return Path(os.environ.get("AUTOTUNE_TABLES") or Path(__file__).parent / "tuned_configs")


@lru_cache(maxsize=65536)
def choose(kernel: Kernel[Any], problem: Problem, device: Device) -> Choice:
    """The config for `problem`; same answer for same tables. Raises TableError for a table that is not whole."""
    known = _rows(kernel.name, device.arch, device.name, tables_root())
    if not known:
        where = table.path_of(tables_root(), device.arch, device.name, kernel.name)
        return Choice(kernel.default(problem, device), "default", f"no table at {where}")
    wanted = key(problem)
    row = known.get(wanted)
    if row is not None:
        refusal = kernel.reject(problem, row.config, device)
        if refusal is None:
            return Choice(row.config, "exact", f"{row.tier} row for {describe(problem)}", row)
    neighbours = _neighbours(known, problem)
    for distance, neighbour in neighbours:
        if kernel.reject(problem, neighbour.config, device) is None:
            there = ",".join(f"{n}={v}" for n, v in neighbour.problem if n in problem.VARYING)
            reason = f"{neighbour.tier} row of {there}, {distance:.2f} octaves away"
            return Choice(neighbour.config, "nearest", reason, neighbour)
    why = "no row agrees in every fixed field" if not neighbours else f"none of {len(neighbours)} near rows is allowed"
    return Choice(kernel.default(problem, device), "default", why)


def explain(kernel: Kernel[Any], problem: Problem, device: Device) -> str:
    """What `choose` answers, in words."""
    choice = choose(kernel, problem, device)
    return f"{kernel.name} {describe(problem)} on {device.name}: {choice.how} ({choice.reason}) -> {choice.config}"


def rows(kernel: str, device: Device) -> tuple[Row, ...]:
    """All rows that serve `kernel` on `device`. Raises TableError."""
    return tuple(_rows(kernel, device.arch, device.name, tables_root()).values())


@lru_cache(maxsize=4096)
def _rows(kernel: str, arch: str, device: str, root: Path) -> dict[Key, Row]:
    path = table.path_of(root, arch, device, kernel)
    if not path.exists():
        return {}
    loaded = table.load(path)
    if (loaded.kernel, loaded.arch, loaded.device) != (kernel, arch, device):
        raise TableError(
            f"{path}: is a table of {loaded.kernel} for {loaded.arch}/{loaded.device}; move it to that folder"
        )
    return {row.problem: row for row in loaded.rows}


def _neighbours(known: dict[Key, Row], problem: Problem) -> list[tuple[float, Row]]:
    """Rows equal in every fixed field, nearest first: better tier, then summed |log2 ratio|, then smaller sizes."""
    varying = problem.VARYING
    fixed = {name: value for name, value in key(problem) if name not in varying}
    found = []
    for row in known.values():
        fields = dict(row.problem)
        if all(fields.get(name) == value for name, value in fixed.items()):
            sizes = [(int(fields[name]), int(getattr(problem, name))) for name in varying]
            distance = sum(abs(math.log2(max(there, 1) / max(here, 1))) for there, here in sizes)
            found.append((row.rank, distance, sizes, row))
    found.sort(key=lambda entry: entry[:3])
    return [(distance, row) for _, distance, _, row in found]
