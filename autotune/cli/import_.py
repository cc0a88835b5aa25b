"""`autotune import`: rows of tier `imported` from other projects' tables."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from autotune import device as devices
from autotune import registry, runtime, table
from autotune.cli.output import Commands, command, show_rows
from autotune.errors import UsageError
from autotune.interchange.entries import Entry, Hints, Unmapped
from autotune.interchange.entries import rows as rows_of
from autotune.interchange.formats import FORMATS
from autotune.table import Row, Table

SUFFIXES = {"aiter-csv": (".csv",), "cachefile": (".json", ".json.gz")}


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
    parser.add_argument("--device", default="", help="the device, where the file names none")
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
    entries: list[Entry] = []
    left: list[Unmapped] = []
    for path in _files(arguments.paths, SUFFIXES.get(arguments.format, (".json",))):
        more, less = FORMATS[arguments.format].read(path, hints)
        entries, left = entries + more, left + less
    rows, refused = rows_of(entries)
    root = arguments.tables or runtime.tables_root()
    merged = {home: _merged(root, *home, found) for home, found in rows.items()}
    if not arguments.dry_run:  # only after every file was read and mapped: a bad one leaves all tables as they are
        for path, made in merged.values():
            table.save(made, path)
    imported = [
        {"what": f"{kernel} on {device}", "rows": len(found), "reason": str(merged[kernel, device][0])}
        for (kernel, device), found in sorted(rows.items())
    ]
    reasons = Counter(one.reason if arguments.json else re.sub(r"\d+", "#", one.reason) for one in (*left, *refused))
    unmapped = [{"what": "not mapped", "rows": count, "reason": reason} for reason, count in reasons.most_common()]
    show_rows([*imported, *unmapped], arguments.json, "dry run" if arguments.dry_run else "imported")
    return 0 if rows else 1


def _files(paths: list[Path], suffixes: tuple[str, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = [one for one in path.rglob("*") if one.name.endswith(suffixes)]
            # SGLang's `_down` files speak for the second expert GEMM, and so come after those that speak for both.
            yield from sorted(found, key=lambda one: (one.stem.endswith("_down"), str(one)))
        elif path.is_file():
            yield path
        else:
            raise UsageError(f"{path}: no such file or folder")


def _merged(root: Path, kernel: str, device: str, rows: list[Row]) -> tuple[Path, Table]:
    home = devices.named(device)
    path = table.path_of(root, home.arch, home.name, kernel)
    source = registry.load(kernel).identity.kernel
    old = table.load(path) if path.exists() else Table(kernel, home.arch, home.name, source, ())
    return path, old.merged(rows)
