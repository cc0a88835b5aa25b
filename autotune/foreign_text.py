"""Text as other projects and their users write it: loose JSON, JSON that was cut short, CSV, and times."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from autotune.errors import UsageError
from autotune.files import once, read_text

FASTEST_US, SLOWEST_US = 0.1, 1e9
"""The times that a kernel may have: an empty launch takes about 1 us on any GPU, tuners stop runs after minutes, and
Kernel Tuner writes 1e20 where a config failed."""

_COMMENTS = re.compile(r'("(?:[^"\\]|\\.)*+"?)|//[^\n]*|/\*.*?(?:\*/|\Z)|\#[^\n]*', re.S)
_TRAILING_COMMAS = re.compile(r'("(?:[^"\\]|\\.)*+"?)|,(?=\s*[}\]])', re.S)
_DEEPEST = 100
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.S)


def read_loose_json(path: Path) -> Any:  # noqa: ANN401
    """JSON as other projects and their users write it: see `parse_loose_json`. Raises UsageError."""
    return parse_loose_json(read_text(path), str(path))


def parse_loose_json(text: str, place: str) -> Any:  # noqa: ANN401
    """JSON that may hold NaN and Infinity, and, where it is read no other way, comments and trailing commas.

    Raises UsageError for anything else, with the place that strict JSON complains of.
    """
    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as strict:
        plain = _TRAILING_COMMAS.sub(r"\1", _COMMENTS.sub(r"\1", text))
        try:
            return json.loads(plain, object_pairs_hook=once)
        except (ValueError, RecursionError):
            raise UsageError(f"{place}: not JSON ({strict})") from strict


def closed(text: str, depth: int) -> str:
    """Repair JSON of a killed writer: cut it after the last whole value `depth` brackets deep, and close them."""
    stack: list[str] = []
    end, owed = 0, ""
    for match in _BRACKETS.finditer(text):
        bracket = match[0]
        if bracket in "{[":
            stack.append("}" if bracket == "{" else "]")
            if len(stack) > _DEEPEST:
                break
        elif bracket in "}]":
            if not stack or stack.pop() != bracket:
                break
        else:
            continue
        if len(stack) <= depth:
            end, owed = match.end(), "".join(reversed(stack))
    return text[:end] + owed


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """(the names in line 1, the lines after it by name). Raises UsageError for what is not CSV, or names no column.

    A line that is shorter has "" in its last columns; what a longer one has beyond them stands under the name "".
    """
    try:
        lines = list(csv.reader(io.StringIO(read_text(path), newline=""), strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}: not CSV ({error})") from error
    names = [name.strip() for name in lines[0]] if lines else []
    if not any(names):
        raise UsageError(f"{path}: line 1: names no column")
    rows = []
    for line in lines[1:]:
        if line:
            beyond = {"": ",".join(line[len(names) :])} if len(line) > len(names) else {}
            padded = line + [""] * (len(names) - len(line))
            rows.append({**dict(zip(names, padded, strict=False)), **beyond})
    return names, rows


def plausible_us(value: Any, unit_us: float) -> float | None:  # noqa: ANN401
    """Microseconds of a time in units of `unit_us`; None where it is no number, or none that a kernel can take."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        us = float(value) * unit_us
    except OverflowError:  # an integer of hundreds of digits
        return None
    return us if FASTEST_US <= us <= SLOWEST_US else None
