"""Exhaustively measured tuning spaces, as the data folder's `index.json` names them."""

from __future__ import annotations

import csv
import json
import lzma
import math
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Space:
    """Every config of one kernel on one device with its time, infinite where it failed."""

    name: str
    kernel: str
    names: tuple[str, ...]
    times: dict[tuple[Any, ...], float]

    @property
    def best(self) -> float:
        return min(self.times.values())

    @cached_property
    def lists(self) -> dict[str, list[Any]]:
        return {name: sorted({values[i] for values in self.times}) for i, name in enumerate(self.names)}

    def config(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(self.names, values, strict=True))


def names(data: Path) -> list[str]:
    return [entry["name"] for entry in json.loads((data / "index.json").read_text())]


@cache
def load(data: Path, name: str) -> Space:
    index = {entry["name"]: entry for entry in json.loads((data / "index.json").read_text())}[name]
    with lzma.open(data / f"{name}.csv.xz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    params = tuple(index["params"])
    times = {
        tuple(_number(row[param]) for param in params): float(row["time_ms"]) if row["status"] == "ok" else math.inf
        for row in rows
    }
    return Space(name, index["kernel"], params, times)


def _number(text: str) -> Any:  # noqa: ANN401
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
