"""A report as one HTML file that needs nothing else: a heatmap of kernels by archs, and a page for each row."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from autotune.check.compare import Report
from autotune.check.report import as_json, runs
from autotune.check.triage import FINE, NOTICES, REGRESSIONS
from autotune.report.embedding import script_json

_TEMPLATE = Path(__file__).with_name("page.html")
_LONGEST = 400
"""Lines of a diff that a page shows."""


def html(report: Report) -> str:
    """Return the page; its script writes the data as text only."""
    data = as_json(report) | {
        "severities": {
            **dict.fromkeys(REGRESSIONS, "regression"),
            **dict.fromkeys(NOTICES, "notice"),
            **dict.fromkeys(FINE, "fine"),
        },
        "diffs": _diffs(report),
    }
    for build in data["builds"]:
        del build["loop"]
    return _TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", script_json(data))


def _diffs(report: Report) -> dict[str, list[str] | None]:
    """`before after`, numbers of builds, to the unified diff of their hot loops; None where those were not read."""
    numbers: dict[Any, int] = {}
    found: dict[str, list[str] | None] = {}
    for comparison in report.comparisons:
        before = numbers.setdefault(comparison.before, len(numbers))
        after = numbers.setdefault(comparison.after, len(numbers))
        if comparison.before.loop is None or comparison.after.loop is None:
            found[f"{before} {after}"] = None
        elif before != after and f"{before} {after}" not in found:
            lines = difflib.unified_diff(
                runs(comparison.before), runs(comparison.after), "before", "after", lineterm="", n=2
            )
            found[f"{before} {after}"] = _cut(list(lines))
    return found


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - _LONGEST
    return lines if more <= 0 else [*lines[:_LONGEST], f"... and {more} more lines"]
