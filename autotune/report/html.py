"""One HTML file from data and charts: styles, scripts, Vega and the data stand in it, and nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from autotune import packages
from autotune.report import charts
from autotune.report.embedding import script_json

_HERE = Path(__file__).parent


def html(data: Mapping[str, Any]) -> str:
    """Return the page of `data`, as `page_data` makes it. Raises PackageError where the extra `report` is absent."""
    packages.require("report")
    parts = {
        "style": _text("page.css"),
        "vega": _vega(),
        "script": "\n".join(map(_text, ("elements.js", "session.js", "page.js"))),
        "data": script_json({**data, "charts": charts.by_name()}),
    }
    # In one pass: what a part contains is not looked through for marks.
    return re.sub(r"\{\{(\w+)\}\}", lambda mark: parts[mark[1]], _text("page.html"))


def columns(rows: Sequence[Any]) -> dict[str, Any]:
    """Return instances of one dataclass by column, which takes a fifth of the room.

    A column of numbers is a list; any other has its distinct values in `words`, and in `at` which of them each row has.
    """
    return (
        {field.name: _column([getattr(row, field.name) for row in rows]) for field in fields(rows[0])} if rows else {}
    )


def _column(values: list[Any]) -> Any:  # noqa: ANN401
    if all(type(value) in (int, float) for value in values):
        return values
    words: dict[Any, int] = {}
    at = [words.setdefault(value, len(words)) for value in values]
    return {"words": list(words), "at": at}


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script of 0.9 MB, which defines `vegaEmbed`."""
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return script.replace("</script", "<\\/script")
