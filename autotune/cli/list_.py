"""`autotune list`: the kernels with the parts of a model that they serve; or the hot paths with their kernels."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from autotune import registry, runtime
from autotune.cli.kernels import add_kernels, kernel_names, tell_broken
from autotune.cli.output import Commands, command, print_csv, print_json, show_rows
from autotune.errors import AutotuneError
from autotune.tuning import kernel_facts
from autotune.workload.hot_paths import HOT_PATHS


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "list",
        "the kernels, the parts of a model that they serve, and the GPUs that have a table",
        "  autotune list\n"
        "  autotune list --hot-paths        every hot path of a forward step, by name, with its kernels\n"
        "  autotune list --wide             also the fields of a problem, and what one row may serve",
    )
    add_kernels(parser, "all")
    parser.add_argument("--hot-paths", action="store_true", help="list hot paths instead of kernels")
    parser.add_argument("--wide", action="store_true", help="all columns, in lines as long as they must be")
    parser.add_argument("--csv", action="store_true", help="print all columns as CSV")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    complete = arguments.csv or arguments.wide
    names, errors = _readable(kernel_names(arguments.kernels))
    if arguments.json or (complete and not arguments.hot_paths):
        sound, more = registry.load_all(names)
        names, errors = [kernel.name for kernel in sound], errors + more
    tell_broken(errors)
    failed = int(bool(errors))
    if arguments.json:
        print_json({"kernels": _kernels(names), "hot_paths": _hot_paths(names)})
        return failed
    if arguments.hot_paths:
        rows = _hot_paths(names) if complete else [_brief_path(row) for row in _hot_paths(names)]
    else:
        rows = _kernels(names) if complete else [_brief_kernel(name) for name in names]
    if arguments.csv:
        print_csv(rows)
    else:
        show_rows(rows, False, width=1000 if arguments.wide else None, paged=True)
    return failed


def _readable(names: Sequence[str]) -> tuple[list[str], list[AutotuneError]]:
    """Return the kernels whose two files can be read, and what is wrong with the others. No kernel is imported."""
    readable: list[str] = []
    errors: list[AutotuneError] = []
    for name in names:
        try:
            registry.check_file(name)
            kernel_facts.read(name)
        except AutotuneError as error:
            errors.append(error)
        else:
            readable.append(name)
    return readable, errors


def _brief_kernel(name: str) -> dict[str, Any]:
    """Columns for which no kernel is imported."""
    titles = {path.number: path.title for path in HOT_PATHS}
    return {
        "kernel": name,
        "serves": "; ".join(titles[number] for number in kernel_facts.read(name).hot_paths),
        "tuned for": ", ".join(_tables(name)),
    }


def _brief_path(row: Mapping[str, Any]) -> dict[str, Any]:
    served = row["kernels"].replace(", ", "\n")
    return {"no.": row["hot path"], "hot path": row["what"], "kernels": served, "left to others": row["missing"]}


def _kernels(names: Sequence[str]) -> list[dict[str, Any]]:
    return [_kernel(name) for name in names]


def _kernel(name: str) -> dict[str, Any]:
    kernel = registry.load(name)
    return {
        "kernel": name,
        "serves": ", ".join(f"K{number}" for number in kernel_facts.read(name).hot_paths),
        "problem": ", ".join(field.name for field in dataclasses.fields(kernel.problem)),
        "one row serves any": ", ".join(kernel.problem.VARYING),
        "tables": ", ".join(_tables(name)) or "none",
    }


def _tables(name: str) -> list[str]:
    root = runtime.tables_root()
    return sorted(path.relative_to(root).parts[1] for path in root.glob(f"*/*/{name}.json"))


def _hot_paths(names: Sequence[str]) -> list[dict[str, Any]]:
    serving = kernel_facts.by_hot_path(names)
    return [
        {
            "hot path": f"K{path.number}",
            "what": path.title,
            "status": "out" if not serving[path.number] else "partly" if path.missing else "kernel",
            "kernels": ", ".join(serving[path.number]),
            "missing": path.missing,
        }
        for path in HOT_PATHS
    ]
