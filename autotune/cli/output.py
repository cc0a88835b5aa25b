"""How every command prints: a table for people, or JSON with `--json`."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotune import registry
from autotune.config import Problem, parse
from autotune.device import Device

if TYPE_CHECKING:
    from autotune.kernel import Kernel

Commands = Any  # argparse's subparsers action is private


def command(commands: Commands, name: str, about: str, examples: str) -> argparse.ArgumentParser:
    """A subcommand with `--json` and examples in its help."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def show_rows(rows: Sequence[dict[str, Any]], as_json: bool, title: str = "", width: int = 160) -> None:
    """Prints dicts with the same keys, one a line; a table is at most `width` columns wide where no terminal is."""
    if as_json:
        print_json(rows)
        return
    if not rows:
        print("nothing to show")
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title or None)
    for name in rows[0]:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row.values()))
    console = Console()
    if not console.is_terminal:
        console = Console(width=width)
    console.print(drawn)


def print_json(value: Any) -> None:  # noqa: ANN401
    """Prints JSON that every reader takes: NaN and infinity, which JSON lacks, become null."""
    print(json.dumps(_finite(value), indent=1, allow_nan=False))


def parse_problem(kernel: Kernel[Any], text: str, device: Device) -> Problem:
    """The problem that `text` names, in the device's own FP8 where it names none. Raises UsageError."""
    if "dtype" in kernel.problem.__dataclass_fields__ and "dtype=" not in text:
        text += f",dtype={device.fp8}"
    problem: Problem = parse(kernel.problem, text)
    return problem


def kernel_names(given: Sequence[str]) -> list[str]:
    """All kernels where none is named. Raises UsageError for an unknown one."""
    for name in given:
        registry.check(name)
    return list(given) or registry.names()


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
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return "" if value is None else str(value)
