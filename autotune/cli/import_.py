"""`autotune import`: rows of tier `imported` from other projects' tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry, row_check, runtime, table
from autotune.cli.output import Commands, command, show_rows
from autotune.config import describe_key
from autotune.device import Device
from autotune.interchange import importing
from autotune.interchange.entries import Hints, LeftOut
from autotune.interchange.formats import FORMATS
from autotune.table import Row, Table

SHOWN = 8
"""Entries of a file that are named for one reason; --json names all."""


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "import",
        "take rows from other projects' tables; their tier is `imported`, and they serve until better is known",
        "  autotune import vllm vllm/model_executor/layers/quantization/utils/configs\n"
        "  autotune import sglang configs/triton_3_6_0 --model deepseek-v3.2\n"
        "  autotune import aiter aiter/ops/triton/configs/gemm\n"
        "  autotune import t4 results.json --kernel gemm/fp8_block_scaled --device h100",
    )
    parser.add_argument("format", choices=sorted(FORMATS), help="whose files")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files, or folders to walk")
    parser.add_argument("--model", default="", help="whose experts the MoE files of vLLM and SGLang are")
    parser.add_argument("--device", default="", help="the device, where the file names none that is known")
    parser.add_argument("--kernel", default="", help="the kernel, where the file names none of ours")
    parser.add_argument("--key", default="", help="fields of the problem in the order of a Triton key: m,n,k")
    parser.add_argument("--tables", type=Path, help="where tables go (default: where the runtime reads them)")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be imported, and what not")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.device:
        arguments.device = devices.named(arguments.device).name
    if arguments.kernel:
        registry.load(arguments.kernel)
    key = tuple(name for name in arguments.key.split(",") if name)
    hints = Hints(arguments.device, arguments.model, arguments.kernel, key)
    report = importing.read(FORMATS[arguments.format], arguments.paths, hints)
    root = arguments.tables or runtime.tables_root()
    imported, left = [], report.left
    for (kernel, device), rows in sorted(report.rows.items()):
        path, beaten = _import(root, kernel, devices.named(device), rows, write=not arguments.dry_run)
        what = f"{kernel} on {device}"
        imported.append({"what": what, "rows": len(rows) - len(beaten), "reason": str(path)})
        left += [LeftOut(what, problem, "a row of a better tier serves it already") for problem in beaten]
    show(imported, left, arguments.json, "dry run" if arguments.dry_run else "imported")
    return 0 if report.rows else 1


def show(done: list[dict[str, Any]], left: Iterable[LeftOut], as_json: bool, title: str) -> None:
    """Return the rows of the report: what was imported, then each file and reason of what was left out."""
    groups = list(_grouped(left))
    if as_json:
        listed = [
            {"what": "left out", "file": place, "entries": entries, "reason": reason}
            for place, entries, reason in groups
        ]
        show_rows([*done, *listed], as_json)
        return
    show_rows(done, as_json, title)
    for place, entries, reason in groups:
        shown = ", ".join(entries[:SHOWN]) + (f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else "")
        print(f"left out: {place}{': ' if shown else ''}{shown}: {reason}")


def _grouped(left: Iterable[LeftOut]) -> Iterator[tuple[str, list[str], str]]:
    """(place, its entries, reason), in the order in which they came."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in left:
        entries = groups.setdefault((one.place, one.reason), [])
        if one.entry:
            entries.append(one.entry)
    for (place, reason), entries in groups.items():
        yield place, list(dict.fromkeys(entries)), reason


def _import(root: Path, kernel: str, home: Device, rows: list[Row], *, write: bool) -> tuple[Path, list[str]]:
    """Puts `rows` into the table of `kernel` on `home`; its path, and the problems that a better row serves already.

    A table of an older code of the kernel takes them and stays what it is, which `autotune lint` names: its rows go
    with the next session, the imported ones are proved and stay. One of imported rows alone is of no code, and becomes
    today's. Raises TableError where the table is not whole, or takes no such rows.
    """
    path = table.path_of(root, home.arch, home.name, kernel)
    beaten: list[str] = []

    def join(old: Table | None) -> Table | None:
        made = _without_flawed(old, rows, home).merged(rows) if old else _table(kernel, home).merged(rows)
        if all(row.tier == "imported" for row in made.rows):
            made = replace(made, source=_table(kernel, home).source)
        now = {row.problem: row for row in made.rows}
        beaten[:] = [describe_key(row.problem) for row in rows if now[row.problem] is not row]
        # Nobody has proved these rows, so the table is none of which all are proved.
        return replace(made, proof="") if len(beaten) < len(rows) else None

    if write:
        table.update(path, join)
    else:
        join(table.load(path) if path.exists() else None)
    return path, beaten


def _table(kernel: str, home: Device) -> Table:
    return Table(kernel, home.arch, home.name, registry.load(kernel).identity.kernel, ())


def _without_flawed(old: Table, rows: Iterable[Row], home: Device) -> Table:
    """The table without rows that serve nothing, where one of `rows` has their problem."""
    wanted = {row.problem for row in rows}
    _, flaws = row_check.whole(old.rows, registry.load(old.kernel), home)
    return replace(old, rows=tuple(row for row in old.rows if row not in flaws or row.problem not in wanted))
