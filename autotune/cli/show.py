"""`autotune show`: the rows of the tables, with where each comes from."""

from __future__ import annotations

import argparse
import json

import pandas as pd

from autotune import device as devices
from autotune import runtime, table
from autotune.cli.output import Commands, command, kernel_names
from autotune.device import Device


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "show",
        "rows of tuned tables: problem, config, tier, evidence",
        "  autotune show gemm/fp8_block_scaled --device mi355x\n  autotune show --device b200 --json",
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    parser.add_argument("--device", required=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    device = devices.named(arguments.device)
    names = kernel_names(arguments.kernels)
    frame = _frame(names, device)
    if frame.empty:
        print(f"no table of {', '.join(names)} for {device.name} under {runtime.tables_root()}")
        return 1
    if arguments.json:
        print(json.dumps(frame.to_dict("records"), indent=1))
    else:
        print(frame.drop(columns=["proved_on"]).to_string(index=False, max_colwidth=110))
    return 0


def _frame(names: list[str], device: Device) -> pd.DataFrame:
    rows = []
    for name in names:
        path = table.path_of(runtime.tables_root(), device.arch, device.name, name)
        if path.exists():
            rows += [
                {
                    "kernel": name,
                    "problem": ",".join(f"{field}={value}" for field, value in row.problem),
                    "config": str(row.config),
                    "tier": row.tier,
                    **row.evidence,
                    "toolchain": row.toolchain,
                    "code": row.code,
                }
                for row in table.load(path).rows
            ]
    return pd.DataFrame(rows)
