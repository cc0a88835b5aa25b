"""`autotune devices`: the GPUs that records describe."""

from __future__ import annotations

import argparse

from autotune import device as records
from autotune.cli.output import Commands, command, show_rows


def add(commands: Commands) -> None:
    parser = command(
        commands, "devices", "known GPUs, with source and confidence", "  autotune devices --json", extra=""
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    rows = []
    for device in map(records.named, records.names()):
        row = {"device": device.name, "arch": device.arch, "units": device.compute_units}
        row |= {"dense TFLOP/s": dict(device.tflops), "TB/s": device.dram_tb_s, "confidence": device.confidence}
        rows.append(row | ({"figures": dict(device.figures)} if arguments.json else {}))
    show_rows(rows, arguments.json)
    return 0
