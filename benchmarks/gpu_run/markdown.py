"""Tables of a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Empty without rows."""
    body = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join([f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *body, ""]) if body else ""


def cell(value: Any) -> str:  # noqa: ANN401
    """Four significant digits; problems and configs as `k=v,...`."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "NO"
        case float():
            return f"{value:.4g}"
        case Mapping():
            return ",".join(f"{name}={cell(item)}" for name, item in value.items())
    return " ".join(str(value).split()).replace("|", "\\|")
