"""`autotune list`: the kernels that are here."""

from __future__ import annotations

import argparse
import dataclasses

from autotune import registry, runtime
from autotune.cli.output import Commands, command, show_rows


def add(commands: Commands) -> None:
    parser = command(commands, "list", "the kernels, their problems and their tables", "  autotune list --json")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    rows = []
    for name in registry.names():
        kernel = registry.load(name)
        tables = sorted(
            path.relative_to(runtime.tables_root()) for path in runtime.tables_root().glob(f"*/*/{name}.json")
        )
        rows.append(
            {
                "kernel": name,
                "problem": ", ".join(field.name for field in dataclasses.fields(kernel.problem)),
                "one row serves any": ", ".join(kernel.problem.VARYING),
                "tables": ", ".join(path.parts[1] for path in tables) or "none",
            }
        )
    show_rows(rows, arguments.json)
    return 0
