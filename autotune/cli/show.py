"""`autotune show`: the rows of the tables, with where each comes from."""

from __future__ import annotations

import argparse
import json
from typing import Any

from autotune import device as devices
from autotune import runtime, table
from autotune.cli.output import Commands, command, kernel_names, print_json, show_rows
from autotune.config import describe_key
from autotune.device import Device
from autotune.table import Row


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "show",
        "rows of tuned tables: problem, config, tier, time; with --json or --csv all evidence",
        "  autotune show gemm/fp8_block_scaled --device mi355x\n"
        "  autotune show --device b200 --json\n"
        "  autotune show --device b200 --csv > b200.csv",
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    parser.add_argument("--device", required=True)
    parser.add_argument("--csv", action="store_true", help="print CSV, one column for each kind of evidence")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    device = devices.named(arguments.device)
    names = kernel_names(arguments.kernels)
    rows = [(name, row) for name in names for row in _rows(name, device)]
    if not rows:
        print(f"no table of {', '.join(names)} for {device.name} under {runtime.tables_root()}")
        return 1
    if arguments.json:
        print_json([_record(name, row) for name, row in rows])
    elif arguments.csv:
        print(_csv([_record(name, row) for name, row in rows]), end="")
    else:
        show_rows([_line(name, row) for name, row in rows], False, f"rows for {device.name}")
    return 0


def _rows(kernel: str, device: Device) -> tuple[Row, ...]:
    path = table.path_of(runtime.tables_root(), device.arch, device.name, kernel)
    return table.load(path).rows if path.exists() else ()


def _record(kernel: str, row: Row) -> dict[str, Any]:
    """Everything that the table says of a row; rows of different tiers have different evidence."""
    return {
        "kernel": kernel,
        "problem": describe_key(row.problem),
        "config": str(row.config),
        "tier": row.tier,
        **row.evidence,
        "toolchain": row.toolchain,
        "code": row.code,
    }


def _line(kernel: str, row: Row) -> dict[str, Any]:
    """Columns that people look for first."""
    record = _record(kernel, row)
    return {name: record[name] for name in ("kernel", "problem", "config", "tier")} | {
        "us": _time(row),
        "toolchain": row.toolchain,
        "code": row.code,
    }


def _time(row: Row) -> str:
    """The measured time, or the range that the model gives, named as such."""
    match row.evidence:
        case {"us": int() | float() as us}:
            return f"{us:.4g}"
        case {"modeled_us_range": [int() | float() as low, int() | float() as high]}:
            return f"modeled {low:.4g} to {high:.4g}"
    return "unknown"


def _csv(records: list[dict[str, Any]]) -> str:
    import pandas as pd

    flat = [{name: _cell(value) for name, value in record.items()} for record in records]
    return str(pd.DataFrame(flat).to_csv(index=False))


def _cell(value: Any) -> Any:  # noqa: ANN401
    return json.dumps(value, allow_nan=False) if isinstance(value, list | dict) else value
