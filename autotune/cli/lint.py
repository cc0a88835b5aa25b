"""`autotune lint`: rows that serve nobody, and problems that nobody serves."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from autotune import device as devices
from autotune import misses, runtime
from autotune.check import lint
from autotune.cli.kernels import add_kernels, kernel_names, sound_kernels
from autotune.cli.output import Commands, command, show_rows
from autotune.cli.workload_options import add_workload, workload_problems
from autotune.errors import UsageError
from autotune.state import state_root


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "lint",
        "rows that serve nothing, and problems that no row serves; also files that are no whole table or lie where no "
        "lookup reads, stale and empty tables, rows outside their space, second names of a device",
        "  autotune lint\n"
        "  autotune lint --device mi355x --model deepseek-v4-pro --scenario 8k1k   # and holes of a workload\n"
        "  autotune lint --from-misses misses.jsonl                               # and problems that serving met\n"
        "  autotune lint --engine vllm==0.33.0                                    # and what that engine would read",
    )
    add_kernels(parser, "the tables of all that are known")
    parser.add_argument("--tables", type=Path, help="where tables lie (default: where the runtime reads them)")
    parser.add_argument("--device", help="with --model: the device whose holes are asked for")
    add_workload(parser, model=None)
    parser.add_argument("--from-misses", type=Path, metavar="FILE", help="what autotune.misses.record wrote")
    parser.add_argument(
        "--engine", metavar="ENGINE==VERSION", help="also what a release of vllm or sglang reads; without ==: installed"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    root = arguments.tables or runtime.tables_root()
    if not root.is_dir():
        raise UsageError(f"{root}: no folder of tables")
    names = kernel_names(arguments.kernels)
    found = list(lint.tables(root, names if arguments.kernels else None))
    if arguments.model:
        if not arguments.device:
            raise UsageError("--model needs --device, whose holes are asked for")
        device = devices.named(arguments.device)
        kernels, _ = sound_kernels(names, device)
        problems = {kernel.name: list(workload_problems(arguments, kernel, device)) for kernel in kernels}
        found += lint.holes(root, device, problems)
    if arguments.from_misses:
        problems_by_device, stale = lint.missed(misses.read(arguments.from_misses))
        found += stale
        for name, asked in problems_by_device.items():
            found += lint.holes(root, devices.named(name), asked)
    if arguments.engine:
        found += _beside_engine(root, arguments.engine, quiet=arguments.json)
    if arguments.json or found:
        show_rows([{"kind": one.kind, "place": one.place, "reason": one.reason} for one in found], arguments.json)
    if not arguments.json:
        counts = Counter(one.kind for one in found)
        print(", ".join(f"{kind} {count}" for kind, count in counts.items()) or f"nothing wrong under {root}")
    return 1 if found else 0


def _beside_engine(root: Path, wanted: str, *, quiet: bool) -> list[lint.Finding]:
    """Show the files of our rows that the engine's release reads, and return what is dead in either."""
    from autotune.check import engine_lint, engine_source  # they import torch

    release = engine_source.find(wanted, state_root() / "engines")
    files, findings = engine_lint.read(root, release)
    if not quiet:
        show_rows([vars(file) for file in files], as_json=False, title=f"read by {wanted}")
    return findings
