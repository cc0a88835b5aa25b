"""`autotune explain`: which config the runtime would take, and why."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from autotune import device as devices
from autotune import runtime
from autotune.cli.kernels import add_kernel, the_kernel
from autotune.cli.output import WIDTH, Commands, command, parse_problem, show_rows
from autotune.config import describe, values

_WHOLE_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}  # paths and commands are for copying


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "explain",
        "which config serves a problem, and why",
        "  autotune explain gemm/fp8_block_scaled m=50,n=2048,k=7168,ue8m0=true --device mi355x",
        extra="",
    )
    add_kernel(parser)
    parser.add_argument("problem", help="name=value pairs joined by commas")
    parser.add_argument("--device", help="default: the GPU of this machine")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    kernel = the_kernel(arguments.kernel)
    device = devices.named(arguments.device) if arguments.device else devices.current()
    problem = parse_problem(kernel, arguments.problem, device)
    choice = runtime.lookup(kernel, device)[values(problem)]
    row = {"kernel": kernel.name, "problem": describe(problem), "device": device.name, "how": choice.how}
    if arguments.json:
        show_rows([{**row, "reason": choice.reason, "config": dict(choice.config)}], as_json=True)
        return 0
    print(f"{kernel.name} {describe(problem)} on {device.name}")
    config = str(choice.config).replace(",", ", ")
    for name, text in (("how", choice.how), ("why", choice.reason), ("config", config or "none")):
        print(textwrap.fill(text, WIDTH, initial_indent=f"  {name:8}", subsequent_indent=" " * 10, **_WHOLE_WORDS))
    return 0
