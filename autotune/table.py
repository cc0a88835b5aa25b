"""Tuned tables on disk: JSON, one row a line, ordered, replaced atomically, written under a lock."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autotune import files, table_format, table_format_1
from autotune.errors import TableError
from autotune.table_checks import Place
from autotune.table_format import FORMAT, dumps
from autotune.table_record import ANY_ORDER, TIERS, Row, Table

__all__ = ["ANY_ORDER", "FORMAT", "TIERS", "Row", "Table", "dumps"]

_READERS = {1: table_format_1.read, FORMAT: table_format.read}
"""Reader of each format; every writer writes the last."""


def path_of(root: Path, arch: str, device: str, kernel: str) -> Path:
    return root / arch / device / f"{kernel}.json"


def content_hash(table: Table) -> str:
    """16 hex digits that name the whole table: every rank of an engine can compare the one it loaded."""
    return hashlib.sha256(dumps(table).encode()).hexdigest()[:16]


def loads(text: str, place: str) -> Table:
    """Raises TableError with `place`, line, rule and remedy for anything that is not a whole table."""
    try:
        data = json.loads(text, object_pairs_hook=files.once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TableError(f"{place}: not JSON ({error}); restore the file or tune again") from error
    table = _reader(data, place)(data, Place(place, text))
    if len({row.problem for row in table.rows}) != len(table.rows):
        raise TableError(f"{place}: two rows have the same problem; delete one of them")
    if table.deterministic:
        for index, row in enumerate(table.rows):
            if row.order is None:
                raise TableError(f"{Place(place, text).row(index)}: was tuned freely, the table is deterministic")
    return table


def _reader(data: Any, place: str) -> Callable[[Any, Place], Table]:  # noqa: ANN401
    number = data.get("format") if isinstance(data, dict) else None
    if type(number) is int and number in _READERS:
        return _READERS[number]
    if not isinstance(data, dict):
        raise TableError(f"{place}: must be an object, got {type(data).__name__}; restore the file or tune again")
    if number is None:
        raise TableError(f"{place}: missing field 'format'; restore the file or tune again")
    known = " or ".join(map(str, _READERS))
    remedy = "read it with the release that wrote it, or tune again with this one"
    raise TableError(f"{place}: format must be {known}, got {number!r}; {remedy}")


def load(path: Path) -> Table:
    """The table at `path`. Raises TableError."""
    return loads(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: cannot be read ({error}); restore the file or tune again") from error


def save(table: Table, path: Path) -> None:
    """Atomic: a reader sees the old table or the new one, also when the writer is killed. Others' rows are lost in it:
    call `update` for a table that somebody else may write."""
    files.write(path, dumps(table), durable=True)


def update(path: Path, change: Callable[[Table | None], Table | None]) -> Table | None:
    """Replaces the table at `path` by what `change` makes of the one that is there then, and returns the new one.

    The only way in which tables are written: a lock keeps every other writer waiting between reading and replacing
    (`files.locked`; across machines as far as the file system's `flock` reaches), so that no row is lost. `change` gets
    None where there is no table yet, and returns None to leave everything as it is; it should take no time. A table of
    an older format is written anew though no row changes. Raises TableError for a table that is not whole, and OSError
    where it cannot be written.
    """
    path = Path(os.path.realpath(path))  # one lock for all links to one table
    with files.locked(path.parent / files.LOCK):
        text = _text(path) if path.exists() else None
        old = None if text is None else loads(text, str(path))
        new = change(old)
        if new is not None and (new != old or (text is not None and json.loads(text)["format"] != FORMAT)):
            save(new, path)
    return new


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
