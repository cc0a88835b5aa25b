"""`autotune explain`: which config the runtime would take, and why."""

from __future__ import annotations

import argparse

from autotune import device as devices
from autotune import registry, runtime
from autotune.cli.output import Commands, command, parse_problem, show_rows
from autotune.config import describe, values


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "explain",
        "which config serves a problem, and why",
        "  autotune explain gemm/fp8_block_scaled m=50,n=2048,k=7168 --device mi355x",
    )
    parser.add_argument("kernel")
    parser.add_argument("problem", help="name=value pairs joined by commas")
    parser.add_argument("--device", help="default: the GPU of this machine")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    kernel = registry.load(arguments.kernel)
    device = devices.named(arguments.device) if arguments.device else devices.current()
    problem = parse_problem(kernel, arguments.problem, device)
    if not arguments.json:
        print(runtime.explain(kernel, problem, device))
        return 0
    choice = runtime.lookup(kernel, device)[values(problem)]
    row = {"kernel": kernel.name, "problem": describe(problem), "device": device.name, "how": choice.how}
    show_rows([{**row, "reason": choice.reason, "config": dict(choice.config)}], as_json=True)
    return 0
