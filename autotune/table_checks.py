"""Checks of what a table's file holds. Each raises TableError with the rule and what came; callers add the place."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from autotune.config import Key, Scalar
from autotune.errors import TableError, did_you_mean
from autotune.table_record import TIERS

_SCALARS = frozenset({int, str, bool})

_HEAD = frozenset({"format", "kernel", "arch", "device", "source", "rows"})
_HEAD_KNOWN = _HEAD | {"deterministic", "proof"}


class Place(NamedTuple):
    """A table's file and its text, in which an error names the line where a row or an entry stands."""

    file: str
    text: str

    def row(self, index: int) -> str:
        """`FILE: row 3 (line 12)`, without the line where rows do not stand one a line."""
        lines = self._lines('{"problem"')
        return f"{self.file}: row {index + 1}" + (f" (line {lines[index]})" if index < len(lines) else "")

    def entry(self, section: str, name: str) -> str:
        """`FILE: proofs: 1a2b3c4d (line 80)`."""
        lines = self._lines(f'"{name}": ')
        return f"{self.file}: {section}: {name}" + (f" (line {lines[0]})" if lines else "")

    def _lines(self, beginning: str) -> list[int]:
        lines = enumerate(self.text.splitlines(), 1)
        return [number for number, line in lines if line.lstrip().startswith(beginning)]


def check_head(data: Any, sections: AbstractSet[str] = frozenset()) -> None:  # noqa: ANN401
    """Check all of a table but its rows and what they share; `sections` are the fields that hold what they share."""
    check_fields(data, _HEAD, _HEAD_KNOWN | sections)
    for name in ("kernel", "arch", "device", "source"):
        check_text(data[name], name)
    check_text(data.get("proof", ""), "proof")
    if not isinstance(data["rows"], list):
        raise TableError(f"rows must be a list, got {type(data['rows']).__name__}")
    if data.get("deterministic", True) is not True:
        raise TableError(f"deterministic must be true or absent, got {data['deterministic']!r}")


def check_fields(data: Any, wanted: AbstractSet[str], known: AbstractSet[str]) -> None:  # noqa: ANN401
    """Check that `data` is an object with all `wanted` fields and no others than `known` ones."""
    if not isinstance(data, dict):
        raise TableError(f"must be an object, got {type(data).__name__}")
    if wanted <= data.keys() <= known:
        return
    for name in sorted(data.keys() - known):
        raise TableError(f"unknown field {name!r}{did_you_mean(name, known)}")
    for name in sorted(wanted - data.keys()):
        raise TableError(f"missing field {name!r}; restore the file or tune again")


def check_scalars(data: Any, name: str) -> None:  # noqa: ANN401
    if not isinstance(data, dict) or not data:
        raise TableError(f"{name}: must be an object with at least one field, got {data!r}")
    for field, value in data.items():
        if type(value) not in _SCALARS:
            raise TableError(f"{name}: {field} must be an integer, a string or true/false, got {value!r}")


def check_text(value: Any, name: str) -> None:  # noqa: ANN401
    if not isinstance(value, str):
        raise TableError(f"{name}: must be a string, got {value!r}")


def check_object(value: Any, name: str) -> None:  # noqa: ANN401
    if not isinstance(value, dict):
        raise TableError(f"{name} must be an object, got {value!r}")


def check_tier(tier: Any) -> None:  # noqa: ANN401
    if tier not in TIERS:
        raise TableError(f"tier must be one of {', '.join(TIERS)}, got {tier!r}")


def intervals(data: Any, problem: Mapping[str, Scalar]) -> tuple[tuple[str, int, int], ...]:  # noqa: ANN401
    """Return `Row.serves` of what a file has under `serves`."""
    if not isinstance(data, dict):
        raise TableError(f"serves: must be an object of field: [low, high], got {data!r}")
    for name, ends in data.items():
        whole = isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)
        size = problem.get(name)
        if not whole or type(size) is not int or not ends[0] <= size <= ends[1]:
            raise TableError(f"serves: {name} must be [low, high] around the problem's {size!r}, got {ends!r}")
    return tuple((name, low, high) for name, (low, high) in data.items())


def sort_key(problem: Key) -> tuple[tuple[str, int, int, str], ...]:
    """Order of rows in a file: those of one shape together, by their number of tokens."""
    return tuple(
        (name, 0, value, "") if isinstance(value, int) else (name, 1, 0, value)
        for name, value in sorted(problem, key=lambda item: (item[0] in ("m", "tokens", "rows"), item[0]))
    )
