"""`autotune bisect`: the first release that makes one row worse."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from autotune import device as devices
from autotune import runtime
from autotune.cli.kernels import add_kernel, the_kernel
from autotune.cli.output import Commands, command, parse_problem, print_json, show_rows
from autotune.cli.progress import progress_bar
from autotune.state import state_root
from autotune.tuning.workers.worker import Limits

if TYPE_CHECKING:
    from autotune.check.bisect import Bisection


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "bisect",
        "the first release that makes one row worse; exit 1 where there is one",
        "  autotune bisect gemm/fp8_block_scaled --row m=64,n=2048,k=7168 --device mi355x \\\n"
        "      --good triton==3.7.1 --bad triton==3.9.0\n"
        "  autotune bisect moe/mxfp4_grouped_gemm --row ... --device b200 --good ptxas==13.0 --bad ptxas==13.5",
    )
    add_kernel(parser)
    parser.add_argument("--row", required=True, help="the problem, as name=value pairs; its config is what is served")
    parser.add_argument("--device", required=True, help="such as mi355x: see `autotune devices`")
    parser.add_argument("--good", required=True, metavar="SPEC", help="a release as `triton==3.7.1` or `ptxas==13.0`")
    parser.add_argument("--bad", required=True, metavar="SPEC", help="a later release of the same compiler")
    parser.add_argument("--reproducer", type=Path, metavar="FILE", help="also write one file that needs only Triton")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from autotune.check import reproduce
    from autotune.check.bisect import bisect, comparing, releases_between
    from autotune.check.builder import Builder
    from autotune.check.call import CheckedCall

    kernel, device = the_kernel(arguments.kernel), devices.named(arguments.device)
    problem = parse_problem(kernel, arguments.row, device)
    call = CheckedCall(kernel, problem, runtime.choose(kernel, problem, device).config, device)
    releases = releases_between(arguments.good, arguments.bad)
    with progress_bar(arguments) as update:
        builder = Builder(state_root(), Limits(processes=1, timeout_s=300), update)
        found = bisect(releases, comparing(call, builder))
    _show(found, arguments.json)
    if found.first_bad and arguments.reproducer:
        about = f"{kernel.name} for {device.arch}: {found.last_good} is better than {found.first_bad}"
        text = reproduce.script(call, arguments.reproducer.name, about)
        arguments.reproducer.write_text(text, encoding="utf-8")
    return 1 if found.first_bad else 0


def _show(found: Bisection, as_json: bool) -> None:
    steps = [
        {"release": s.release, "bad": s.verdict.is_regression, "kind": s.verdict.kind, "what": str(s.verdict)}
        for s in found.steps
    ]
    if as_json:
        print_json({"first_bad": found.first_bad, "last_good": found.last_good, "steps": steps})
        return
    show_rows(steps, False)
    if found.first_bad:
        print(f"{found.first_bad} is the first bad release; {found.last_good} is good")
    else:
        print(f"{found.last_good} is no worse: nothing to bisect")
