"""`autotune import`: rows of tier `imported` from other projects' tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry, runtime, table
from autotune.cli.output import Commands, command, show_rows
from autotune.config import describe_key
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
        "rows of tier `imported` from other projects' tables; they serve until something better is known",
        "  autotune import vllm vllm/model_executor/layers/quantization/utils/configs\n"
        "  autotune import sglang configs/triton_3_6_0 --model deepseek-v3.2\n"
        "  autotune import aiter aiter/ops/triton/configs/gemm\n"
        "  autotune import t4 results.json --kernel gemm/fp8_block_scaled --device h100",
    )
    parser.add_argument("format", choices=sorted(FORMATS))
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
        devices.named(arguments.device)
    if arguments.kernel:
        registry.load(arguments.kernel)
    key = tuple(name for name in arguments.key.split(",") if name)
    hints = Hints(arguments.device, arguments.model, arguments.kernel, key)
    report = importing.read(FORMATS[arguments.format], arguments.paths, hints)
    root = arguments.tables or runtime.tables_root()
    imported, left = [], report.left
    merged = [_merged(root, *home, rows) for home, rows in sorted(report.rows.items())]
    for path, made, taken, beaten in merged:
        what = f"{made.kernel} on {made.device}"
        imported.append({"what": what, "rows": taken, "reason": str(path)})
        left += [LeftOut(what, one, "a row of a better tier serves it already") for one in beaten]
    if not arguments.dry_run:
        for path, made, taken, _ in merged:
            if taken:
                table.save(made, path)
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


def _merged(root: Path, kernel: str, device: str, rows: list[Row]) -> tuple[Path, Table, int, list[str]]:
    """(path, table, rows that were taken into it, problems that a better row serves already)."""
    home = devices.named(device)
    path = table.path_of(root, home.arch, home.name, kernel)
    source = registry.load(kernel).identity.kernel
    old = table.load(path) if path.exists() else Table(kernel, home.arch, home.name, source, ())
    made = old.merged(rows)
    now = {row.problem: row for row in made.rows}
    beaten = [describe_key(row.problem) for row in rows if now[row.problem] is not row]
    return path, made, len(rows) - len(beaten), beaten
