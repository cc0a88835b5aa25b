"""`autotune list`: the kernels that are here, and which hot path each serves."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from autotune import registry, runtime
from autotune.cli.output import Commands, command, print_json, show_rows
from autotune.tuning import kernel_facts
from autotune.workload.hot_paths import HOT_PATHS


def add(commands: Commands) -> None:
    parser = command(commands, "list", "the kernels, and the hot paths that they serve", "  autotune list --json")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    serving = kernel_facts.by_hot_path()
    kernels = [_kernel(name) for name in registry.names()]
    paths = [
        {
            "hot path": f"K{path.number}",
            "what": path.title,
            "status": "out" if not serving[path.number] else "partly" if path.missing else "kernel",
            "kernels": ", ".join(serving[path.number]),
            "missing": path.missing,
        }
        for path in HOT_PATHS
    ]
    if arguments.json:
        print_json({"kernels": kernels, "hot_paths": paths})
        return 0
    show_rows(kernels, False, "kernels")
    show_rows(paths, False, "hot paths of DeepSeek V4 and V3.2")
    return 0


def _kernel(name: str) -> dict[str, Any]:
    kernel = registry.load(name)
    root = runtime.tables_root()
    tables = sorted(path.relative_to(root).parts[1] for path in root.glob(f"*/*/{name}.json"))
    return {
        "kernel": name,
        "serves": ", ".join(f"K{number}" for number in kernel_facts.read(name).hot_paths),
        "problem": ", ".join(field.name for field in dataclasses.fields(kernel.problem)),
        "one row serves any": ", ".join(kernel.problem.VARYING),
        "tables": ", ".join(tables) or "none",
    }
