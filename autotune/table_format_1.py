"""Format 1 of a tuned table, which repeated what rows share in each; read, and written anew in the present format."""

from __future__ import annotations

from typing import Any

from autotune.config import Config
from autotune.errors import TableError
from autotune.table_checks import (
    Place,
    check_fields,
    check_head,
    check_object,
    check_scalars,
    check_text,
    check_tier,
    intervals,
)
from autotune.table_record import Row, Table

_ROW = frozenset({"problem", "config", "tier", "evidence", "toolchain", "code"})
_ROW_KNOWN = _ROW | {"serves"}


def read(data: Any, place: Place) -> Table:  # noqa: ANN401
    """Return the table of a file of this format, parsed. Raises TableError."""
    try:
        check_head(data)
    except TableError as error:
        raise TableError(f"{place.file}: {error}") from None
    rows = []
    for index, row in enumerate(data["rows"]):
        try:
            rows.append(_row(row))
        except TableError as error:
            raise TableError(f"{place.row(index)}: {error}") from None
    names = (data["kernel"], data["arch"], data["device"], data["source"])
    return Table(*names, tuple(rows), "deterministic" in data, data.get("proof", ""))


def _row(data: Any) -> Row:  # noqa: ANN401
    check_fields(data, _ROW, _ROW_KNOWN)
    check_tier(data["tier"])
    check_object(data["evidence"], "evidence")
    check_scalars(data["problem"], "problem")
    check_scalars(data["config"], "config")
    for name in ("toolchain", "code"):
        check_text(data[name], name)
    problem, config = tuple(data["problem"].items()), Config(data["config"])
    serves = intervals(data.get("serves", {}), dict(problem))
    return Row(problem, config, data["tier"], data["evidence"], data["toolchain"], data["code"], serves)
