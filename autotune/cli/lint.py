"""`autotune lint`: rows that serve nobody, and problems that nobody serves."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from autotune import device as devices
from autotune import misses, registry, runtime, workload
from autotune.check import lint
from autotune.cli.output import Commands, command, show_rows
from autotune.errors import UsageError


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "lint",
        "dead and shadowed rows, stale tables, rows outside their space, second names of a device, holes",
        "  autotune lint\n"
        "  autotune lint --device mi355x --model deepseek-v4-pro --scenario 8k1k   # and holes of a workload\n"
        "  autotune lint --from-misses misses.jsonl                               # and problems that serving met",
    )
    parser.add_argument("--tables", type=Path, help="where tables lie (default: where the runtime reads them)")
    parser.add_argument("--device", help="with --model: the device whose holes are asked for")
    parser.add_argument("--model")
    parser.add_argument("--scenario", default="8k1k")
    parser.add_argument("--tp", type=int, default=8)
    parser.add_argument("--ep", type=int, default=1)
    parser.add_argument("--dp-attention", action="store_true")
    parser.add_argument("--from-misses", type=Path, metavar="FILE", help="what autotune.misses.record wrote")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    root = arguments.tables or runtime.tables_root()
    if not root.is_dir():
        raise UsageError(f"{root}: no folder of tables")
    found = list(lint.tables(root))
    if arguments.model:
        if not arguments.device:
            raise UsageError("--model needs --device, whose holes are asked for")
        device = devices.named(arguments.device)
        model, scenario = workload.models.named(arguments.model), workload.scenario.named(arguments.scenario)
        served = workload.Parallelism(arguments.tp, arguments.ep, arguments.dp_attention)
        problems = {
            name: list(workload.problems(registry.load(name), model, scenario, served, device))
            for name in registry.names()
        }
        found += lint.holes(root, device, problems)
    if arguments.from_misses:
        for name, asked in lint.missed(misses.read(arguments.from_misses)).items():
            found += lint.holes(root, devices.named(name), asked)
    if arguments.json or found:
        show_rows([{"kind": one.kind, "place": one.place, "reason": one.reason} for one in found], arguments.json)
    if not arguments.json:
        counts = Counter(one.kind for one in found)
        print(", ".join(f"{kind} {count}" for kind, count in counts.items()) or f"nothing wrong under {root}")
    return 1 if found else 0
