"""Tuned tables: read, write, merge. JSON, one row a line, ordered, replaced atomically."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autotune import files
from autotune.config import Config, Key, Scalar
from autotune.errors import TableError, did_you_mean

FORMAT = 1
TIERS = ("measured", "imported", "modeled", "simulated")
"""Where a row comes from, best first; a simulated one is a rehearsal, filed under no real device."""

ANY_ORDER = "any"
"""The order of a config whose kernel adds nothing up."""

_ROW_FIELDS = {"problem", "config", "tier", "evidence", "toolchain", "code"}
_OPTIONAL = {"serves"}
_HEAD_FIELDS = {"format", "kernel", "arch", "device", "source", "rows"}
_HEAD_OPTIONAL = {"deterministic", "proof"}


@dataclass(frozen=True)
class Row:
    """One problem's config with its provenance. `code` is the hash of the machine code that was proved."""

    problem: Key
    config: Config
    tier: str
    evidence: Mapping[str, Any] = field(hash=False)
    toolchain: str
    code: str
    serves: tuple[tuple[str, int, int], ...] = ()
    """(field, low, high), ends included: neighbours that the config was chosen and proved for too."""

    @property
    def intervals(self) -> dict[str, tuple[int, int]]:
        """`serves` by field: (low, high), ends included."""
        return {name: (low, high) for name, low, high in self.serves}

    @property
    def rank(self) -> int:
        return TIERS.index(self.tier)

    @property
    def order(self) -> str | None:
        """In which its config adds up, as a deterministic session proved; None of a row tuned freely."""
        proved = self.evidence.get("deterministic")
        order = proved.get("order") if isinstance(proved, Mapping) else None
        return order if isinstance(order, str) else None


@dataclass(frozen=True)
class Table:
    """All rows of one kernel on one device."""

    kernel: str
    arch: str
    device: str
    source: str
    """`Identity.kernel` of the kernel that the rows were tuned for."""
    rows: tuple[Row, ...]
    deterministic: bool = False
    """All rows that may serve one another's problems add in one order, proved bit for bit: batches change no row."""
    proof: str = ""
    """`Identity.proof` under which every row was proved; empty where some row never was."""

    @property
    def keeps_an_order(self) -> bool:
        """True if a config of none of its rows may reduce in another order than they do."""
        return self.deterministic and {row.order for row in self.rows} != {ANY_ORDER}

    def merged(self, rows: Iterable[Row]) -> Table:
        """With `rows` put in; a row gives way only to one of its own tier or a better one.

        Raises TableError for a row tuned freely that would join a deterministic table.
        """
        kept = {row.problem: row for row in self.rows}
        for row in rows:
            if self.deterministic and row.order is None:
                raise TableError(
                    f"{self.kernel} on {self.device}: the table is deterministic, a {row.tier} row of "
                    f"{dict(row.problem)} is not; tune it with --deterministic, or name other tables"
                )
            if row.problem not in kept or row.rank <= kept[row.problem].rank:
                kept[row.problem] = row
        return replace(self, rows=tuple(kept.values()))


def path_of(root: Path, arch: str, device: str, kernel: str) -> Path:
    return root / arch / device / f"{kernel}.json"


def dumps(table: Table) -> str:
    head = {"format": FORMAT, "kernel": table.kernel, "arch": table.arch, "device": table.device}
    head["source"] = table.source
    if table.proof:
        head["proof"] = table.proof
    if table.deterministic:
        head["deterministic"] = True
    lines = [f"  {json.dumps(name)}: {json.dumps(value, allow_nan=False)}," for name, value in head.items()]
    ordered = sorted(table.rows, key=lambda row: _order(row.problem))
    rows = ",\n".join("    " + json.dumps(_plain(row), allow_nan=False) for row in ordered)
    return "{\n" + "\n".join(lines) + '\n  "rows": [\n' + rows + "\n  ]\n}\n"


def content_hash(table: Table) -> str:
    """16 hex digits that name the whole table: every rank of an engine can compare the one it loaded."""
    return hashlib.sha256(dumps(table).encode()).hexdigest()[:16]


def loads(text: str, place: str) -> Table:
    """Raises TableError with `place`, line, rule and remedy for anything that is not a whole table."""
    try:
        data = json.loads(text, object_pairs_hook=files.once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{place}: not JSON ({error}); restore the file or tune again") from error
    _fields(data, _HEAD_FIELDS, place, _HEAD_OPTIONAL)
    if data["format"] != FORMAT:
        raise TableError(f"{place}: format must be {FORMAT}, got {data['format']!r}; tune again with this release")
    for name in ("kernel", "arch", "device", "source"):
        _text(data[name], f"{place}: {name}")
    if not isinstance(data["rows"], list):
        raise TableError(f"{place}: rows must be a list, got {type(data['rows']).__name__}")
    if data.get("deterministic", True) is not True:
        raise TableError(f"{place}: deterministic must be true or absent, got {data['deterministic']!r}")
    _text(data.get("proof", ""), f"{place}: proof")
    # One row a line after the head: row i stands on line i + 8 of a file that we wrote, or further down.
    first = 8 + len(data.keys() & _HEAD_OPTIONAL)
    rows = tuple(_row(row, f"{place}: row {i + 1} (line {i + first})") for i, row in enumerate(data["rows"]))
    if len({row.problem for row in rows}) != len(rows):
        raise TableError(f"{place}: two rows have the same problem; delete one of them")
    for i, row in enumerate(rows):
        if "deterministic" in data and row.order is None:
            raise TableError(f"{place}: row {i + 1} (line {i + first}): was tuned freely, the table is deterministic")
    names = (data["kernel"], data["arch"], data["device"], data["source"])
    return Table(*names, rows, "deterministic" in data, data.get("proof", ""))


def load(path: Path) -> Table:
    """The table at `path`. Raises TableError."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read ({error}); restore the file or tune again") from error
    return loads(text, str(path))


def save(table: Table, path: Path) -> None:
    """Atomic: a reader sees the old table or the new one, also when the writer is killed. Others' rows are lost in it:
    call `update` for a table that somebody else may write."""
    files.write(path, dumps(table), durable=True)


def update(path: Path, change: Callable[[Table | None], Table | None]) -> Table | None:
    """Replaces the table at `path` by what `change` makes of the one that is there then, and returns the new one.

    The only way in which tables are written: a lock keeps every other writer waiting between reading and replacing
    (`files.locked`; across machines as far as the file system's `flock` reaches), so that no row is lost. `change` gets
    None where there is no table yet, and returns None to leave everything as it is; it should take no time. Raises
    TableError for a table that is not whole, and OSError where it cannot be written.
    """
    path = Path(os.path.realpath(path))  # one lock for all links to one table
    with files.locked(path.parent / files.LOCK):
        old = load(path) if path.exists() else None
        new = change(old)
        if new is not None and new != old:
            save(new, path)
    return new


def _plain(row: Row) -> dict[str, Any]:
    return {
        "problem": dict(row.problem),
        **({"serves": {name: [low, high] for name, low, high in row.serves}} if row.serves else {}),
        "config": dict(row.config),
        "tier": row.tier,
        "evidence": dict(row.evidence),
        "toolchain": row.toolchain,
        "code": row.code,
    }


def _row(data: Any, place: str) -> Row:  # noqa: ANN401
    _fields(data, _ROW_FIELDS, place, _OPTIONAL)
    if data["tier"] not in TIERS:
        raise TableError(f"{place}: tier must be one of {', '.join(TIERS)}, got {data['tier']!r}")
    if not isinstance(data["evidence"], dict):
        raise TableError(f"{place}: evidence must be an object, got {data['evidence']!r}")
    problem = tuple(_scalars(data["problem"], f"{place}: problem").items())
    config = Config(_scalars(data["config"], f"{place}: config"))
    for name in ("toolchain", "code"):
        _text(data[name], f"{place}: {name}")
    serves = _intervals(data.get("serves", {}), dict(problem), f"{place}: serves")
    return Row(problem, config, data["tier"], data["evidence"], data["toolchain"], data["code"], serves)


def _intervals(data: Any, problem: dict[str, Scalar], place: str) -> tuple[tuple[str, int, int], ...]:  # noqa: ANN401
    if not isinstance(data, dict):
        raise TableError(f"{place}: must be an object of field: [low, high], got {data!r}")
    for name, ends in data.items():
        whole = isinstance(ends, list) and len(ends) == 2 and all(type(end) is int for end in ends)
        here = problem.get(name)
        if not whole or type(here) is not int or not ends[0] <= here <= ends[1]:
            raise TableError(f"{place}: {name} must be [low, high] around the problem's {here!r}, got {ends!r}")
    return tuple((name, low, high) for name, (low, high) in data.items())


def _fields(data: Any, wanted: set[str], place: str, optional: AbstractSet[str] = frozenset()) -> None:  # noqa: ANN401
    if not isinstance(data, dict):
        raise TableError(f"{place}: must be an object, got {type(data).__name__}")
    for name in sorted(data.keys() - wanted - optional):
        raise TableError(f"{place}: unknown field {name!r}{did_you_mean(name, wanted | optional)}")
    for name in sorted(wanted - data.keys()):
        raise TableError(f"{place}: missing field {name!r}; restore the file or tune again")


def _scalars(data: Any, place: str) -> dict[str, Scalar]:  # noqa: ANN401
    if not isinstance(data, dict) or not data:
        raise TableError(f"{place}: must be an object with at least one field, got {data!r}")
    for name, value in data.items():
        if not isinstance(value, int | str | bool):
            raise TableError(f"{place}: {name} must be an integer, a string or true/false, got {value!r}")
    return data


def _text(value: Any, place: str) -> None:  # noqa: ANN401
    if not isinstance(value, str):
        raise TableError(f"{place}: must be a string, got {value!r}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _order(problem: Key) -> tuple[tuple[str, int, int, str], ...]:
    return tuple(
        (name, 0, value, "") if isinstance(value, int) else (name, 1, 0, value)
        for name, value in sorted(problem, key=lambda item: (item[0] in ("m", "tokens", "rows"), item[0]))
    )
