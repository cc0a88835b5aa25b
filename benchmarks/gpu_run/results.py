"""Contents of a folder of results, read for a page."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autotune.errors import UsageError
from autotune.files import read_json
from benchmarks.gpu_run import lines, stand_in
from benchmarks.gpu_run.lines import Line
from benchmarks.gpu_run.plan import STEPS
from benchmarks.gpu_run.runner import CLOCKS, CLOCKS_FILE

_NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Results:
    """The lines of each step by unit, and how each step ended."""

    bench: str
    device: str
    ended: dict[str, Line]
    steps: dict[str, dict[str, Line]]
    clocks: dict[str, list[float]]
    """Readings of nvidia-smi by name and unit; empty where it is not installed."""

    @property
    def is_measured(self) -> bool:
        """True if a GPU took these times; else a bench that stands for one made them up."""
        return self.bench == "gpu"

    @property
    def has_times(self) -> bool:
        """True if the bench has times; the stand-in has none."""
        return self.bench != stand_in.NAME

    @property
    def us(self) -> str:
        """The heading of a column of times."""
        return "measured us" if self.is_measured else f"us ({self.bench})"

    def of(self, step: str) -> dict[str, Line]:
        return self.steps[step]

    def value(self, step: str, unit: str, field: str) -> float | None:
        found = self.steps[step].get(unit, {}).get(field)
        return float(found) if isinstance(found, int | float) and math.isfinite(found) else None

    def failures(self) -> Iterator[tuple[str, str, str]]:
        """(step, unit, reason) of what failed."""
        for step, told in self.steps.items():
            for unit, line in told.items():
                if "failed" in line:
                    yield step, unit, str(line.get("reason") or line["failed"])


def load(folder: Path) -> Results:
    """Raises UsageError where `folder` holds no run."""
    path = folder / "run.json"
    if not path.is_file():
        raise UsageError(f"{folder}: holds no run (no run.json); make one: python -m benchmarks.gpu_run --out {folder}")
    run = read_json(path)
    steps = {step.name: lines.read(folder / f"{step.name}.jsonl") for step in STEPS}
    return Results(run["bench"], run["device"], lines.read(folder / "steps.jsonl"), steps, _clocks(folder))


def _clocks(folder: Path) -> dict[str, list[float]]:
    path = folder / CLOCKS_FILE
    rows = [line.split(", ") for line in path.read_text().splitlines()] if path.is_file() else []
    whole = [row for row in rows if len(row) == len(CLOCKS)]  # the last may be torn by the end of the run
    columns = {name: [row[at] for row in whole] for at, name in enumerate(CLOCKS)}
    numbers = {name: [float(text) for text in texts if _NUMBER.fullmatch(text)] for name, texts in columns.items()}
    return {name: told for name, told in numbers.items() if told}
