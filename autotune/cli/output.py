"""How every command prints: a table for people, JSON with `--json`, CSV where a command has `--csv`."""

from __future__ import annotations

import argparse
import csv
import json
import math
import pydoc
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import packages
from autotune.config import Problem, parse
from autotune.device import Device
from autotune.errors import UsageError

if TYPE_CHECKING:
    from autotune.kernel import Kernel

Commands = Any  # argparse's subparsers action is private

WIDTH = 100
"""Columns of a table where no terminal says how wide it is."""


def command(commands: Commands, name: str, about: str, examples: str, extra: str = "tune") -> argparse.ArgumentParser:
    """Add a subcommand with the options of every command, and examples in its help; `extra` has its packages."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=re.split("[;:]", about)[0],
        description=about,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(extra=extra)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--devices", type=Path, metavar="FOLDER", help="own device records, read beside those in AUTOTUNE_STATE/devices"
    )
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="show no progress")
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="show all progress, all reasons, and where an error was raised"
    )
    return parser


def show_rows(
    rows: Sequence[Mapping[str, Any]], as_json: bool, title: str = "", width: int | None = None, paged: bool = False
) -> None:
    """Print mappings with the same keys, one a line; columns that are empty in every row are left out.

    The table is as wide as the terminal, or `WIDTH` columns where there is none; `width` sets it. `paged`: on a
    terminal that it does not fit, it is shown by the user's pager.
    """
    if as_json:
        print_json(rows)
        return
    if not rows:
        print("nothing to show")
        return
    shown = [name for name in rows[0] if any(row[name] not in (None, "", {}) for row in rows)]
    if packages.absent(["rich"]):
        print("\n".join(_aligned([shown, *([_cell(row[name]) for name in shown] for row in rows)])))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for name in shown:
        right = all(isinstance(row[name], int | float) for row in rows)
        drawn.add_column(name, overflow="fold", justify="right" if right else "left")
    for row in rows:
        drawn.add_row(*(Text(_cell(row[name])) for name in shown))
    console = Console(width=width) if width else Console()
    if not console.is_terminal and not width:
        console = Console(width=WIDTH)
    with console.capture() as capture:
        if title:
            console.print(Text(title))
        console.print(drawn)
    text = "\n".join(line.rstrip() for line in capture.get().splitlines() if line.strip())
    if paged and console.is_terminal and text.count("\n") > console.height:
        pydoc.pager(text)
    else:
        print(text)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table for an environment that only serves, without rich."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def print_json(value: Any) -> None:  # noqa: ANN401
    """Print JSON that every reader takes: NaN and infinity, which JSON lacks, become null."""
    print(json.dumps(_finite(value), indent=1, allow_nan=False))


def print_csv(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print CSV with a column for every key of any row; lists and mappings become JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _flat(item) for name, item in row.items()})


def _flat(value: Any) -> Any:  # noqa: ANN401
    return json.dumps(value, allow_nan=False) if isinstance(value, list | dict) else value


def check_output(path: Path, option: str) -> None:
    """Raises UsageError where `path` cannot be a file to write."""
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a folder; name a file, such as {path / 'page.html'}")


def parse_problem(kernel: Kernel[Any], text: str, device: Device) -> Problem:
    """The problem that `text` names, in the device's own FP8 where it names none. Raises UsageError."""
    if "dtype" in kernel.problem.__dataclass_fields__ and "dtype=" not in text:
        text += f",dtype={device.fp8}"
    problem: Problem = parse(kernel.problem, text)
    return problem


def _finite(value: Any) -> Any:  # noqa: ANN401
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: _finite(item) for name, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value


def _cell(value: Any) -> str:  # noqa: ANN401
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3g}"
        case Mapping():
            return ", ".join(f"{name} {count}" for name, count in value.items())
    text = str(value)
    return text if " " in text else text.replace(",", ", ")  # so that configs and problems are cut between items
