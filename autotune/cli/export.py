"""`autotune export`: our rows as files that other projects' own lookups find, and our trials as one table."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import files, registry, row_check, runtime, table
from autotune.cli.import_ import show
from autotune.cli.kernels import add_kernels, kernel_names, sound_kernels
from autotune.cli.output import Commands, command, show_rows
from autotune.cli.storage_option import add_storage, database
from autotune.config import describe_key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.foreign_text import parse_loose_json
from autotune.interchange.entries import File, LeftOut
from autotune.interchange.formats import FORMATS
from autotune.state import state_root
from autotune.table import Table
from autotune.tuning.search import trials
from autotune.tuning.search.trials import Trials


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "export",
        "write our rows as other projects' files: vLLM, SGLang, AITER, FLA, Triton, Inductor, Kernel Tuner, "
        "source for @triton.autotune; or our trials as a table",
        "  autotune export vllm --device h200 -o configs/\n"
        "  autotune export t4 gemm/fp8_block_scaled --device mi355x -o results/\n"
        "  autotune export cachefile --trials --device h100 -o spaces/        # for Kernel Tuner's simulation mode\n"
        "  autotune export configs adopted/softmax.py --device h100 -o configs/      # for @triton.autotune\n"
        "  autotune export trials --device h100 -o trials.csv                 # one row a trial; or .parquet",
    )
    parser.add_argument("format", choices=[*sorted(FORMATS), "trials"], help="whose files; or one table of trials")
    add_kernels(parser, "all that have a table")
    parser.add_argument("--device", required=True, help="such as mi355x: see `autotune devices`")
    parser.add_argument("--tables", type=Path, help="where tables lie (default: where the runtime reads them)")
    parser.add_argument("--trials", action="store_true", help="all that sessions here tried (t4, cachefile)")
    add_storage(parser)
    parser.add_argument("--overwrite", action="store_true", help="also files that are there with other content")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="of `trials`: one file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.format == "trials":
        return _table_of_trials(arguments)
    form = FORMATS[arguments.format]
    if not arguments.trials:
        made, left = form.write(_tables(arguments))
    elif form.write_trials is not None:
        made, left = form.write_trials(_trials(arguments))
    else:
        raise UsageError(f"--trials: {arguments.format} holds winners only; t4 and cachefile hold what was tried")
    written, left = [], list(left)
    for name, file in made.items():
        path, tiers = arguments.output / name, ", ".join(f"{count} {tier}" for tier, count in file.tiers.items())
        there = None if arguments.overwrite else _other(path, file)
        if there is not None:
            reason = f"there is a file {there}; ours has {tiers}: --overwrite puts it in its place"
            left.append(LeftOut(str(path), "", reason))
            continue
        _save(path, file.text)
        written.append({"what": str(path), "rows": file.rows, "reason": f"written: {tiers}"})
    show(written, left, arguments.json, "exported")
    return 0 if written else 1


def _other(path: Path, file: File) -> str | None:
    """How large a file of other content is that is there already; None where there is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error}); name another folder with -o") from error
    if text == file.text:
        return None
    try:
        there: Any = parse_loose_json(text, str(path))
    except UsageError:
        there = None
    return f"of {len(there)} entries" if isinstance(there, dict) else "of other content"


def _table_of_trials(arguments: argparse.Namespace) -> int:
    from autotune.interchange import trial_table  # pandas takes 0.5 s to import

    found = _trials(arguments)
    _save(arguments.output, trial_table.written(found, arguments.output))
    count = sum(len(one.outcomes) for one in found)
    show_rows([{"what": str(arguments.output), "rows": count, "reason": "written"}], arguments.json)
    return 0


def _tables(arguments: argparse.Namespace) -> list[Table]:
    device = devices.named(arguments.device)
    root = arguments.tables or runtime.tables_root()
    paths = [table.path_of(root, device.arch, device.name, name) for name in kernel_names(arguments.kernels)]
    loaded = [table.load(path) for path in paths if path.exists()]
    tables = [_whole(table_read, device) for table_read in loaded]
    if not tables:
        raise UsageError(f"no table of {device.name} under {root}; tune or import first")
    return tables


def _whole(loaded: Table, device: Device) -> Table:
    """The table without rows that our own lookup would not serve, which are told on stderr."""
    rows, flaws = row_check.whole(loaded.rows, registry.load(loaded.kernel), device)
    for row, flaw in flaws.items():
        print(f"left out: {loaded.kernel} {describe_key(row.problem)}: {flaw.reason}", file=sys.stderr)
    return replace(loaded, rows=rows)


def _trials(arguments: argparse.Namespace) -> list[Trials]:
    name, *rehearsal = arguments.device.split(".", 1)  # a rehearsal's trials are filed under mi355x.simulated-7
    filed = ".".join([devices.named(name).name, *rehearsal])
    (kernels, _), held = sound_kernels(kernel_names(arguments.kernels)), database(arguments)
    found = [one for kernel in kernels for one in trials.read(state_root(), filed, kernel, held)]
    if not found:
        rehearsed = sorted(path.name for path in (state_root() / "journal").glob(f"{filed}.*"))
        remedy = (
            f"name --device {rehearsed[0]}, which has some" if rehearsed else "tune first, or name its AUTOTUNE_STATE"
        )
        raise UsageError(f"no trials of {filed} under {state_root()} for the present kernels; {remedy}")
    return found


def _save(path: Path, content: str | bytes) -> None:
    try:
        files.write(path, content)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error})") from error
