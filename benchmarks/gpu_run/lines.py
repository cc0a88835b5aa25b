"""Results as JSON lines, one file a step, each line on disk before the next unit of work begins."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Line = dict[str, Any]


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Writes `line` and waits until the disk has it; what a kill left of an earlier line stays a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(line), default=str)
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            text = text if file.read(1) == b"\n" else f"\n{text}"
        file.write(f"{text}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> dict[str, Line]:
    """The last whole line of each `unit`, in the order in which units first came; empty where there is no file."""
    found: dict[str, Line] = {}
    for text in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # torn by a kill: its unit is asked again
        if isinstance(line, dict) and isinstance(line.get("unit"), str):
            found[line["unit"]] = line
    return found


def _finite(value: Any) -> Any:  # noqa: ANN401
    """JSON has neither NaN nor infinity: null stands for them."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(name): _finite(item) for name, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value
