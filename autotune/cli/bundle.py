"""`autotune bundle`: every binary that serving can ask for, compiled here; `bundle verify`: whether it finds them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from autotune import device as devices
from autotune import registry, runtime
from autotune.cli.kernels import FORMS, kernel_names, sound_kernels
from autotune.cli.output import Commands, command, show_rows
from autotune.cli.progress import progress_bar
from autotune.cli.workload_options import add_workload, workload_problems
from autotune.errors import UsageError
from autotune.tuning.workers.worker import Limits


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "bundle",
        "compile ahead what the tables can ask for; serving then compiles nothing; `bundle verify FOLDER` checks it",
        "  autotune bundle --device mi355x --model deepseek-v4-pro --scenario 8k1k -o bundle/\n"
        "  autotune bundle verify bundle/",
    )
    more = "(default: what the model calls); or: verify FOLDER, with those outside this package after it"
    parser.add_argument("words", nargs="*", metavar="KERNEL", help=f"{FORMS} {more}")
    parser.add_argument("--device", help="name of a device record")
    add_workload(parser)
    parser.add_argument("--jobs", type=int, default=Limits.processes, help="processes (default: all cores)")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="folder of the bundle")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from autotune.tuning.compilation import bundle_builder

    if arguments.words[:1] == ["verify"]:
        if len(arguments.words) < 2:
            raise UsageError("bundle verify needs a FOLDER; kernels outside this package that it holds follow it")
        for word in arguments.words[2:]:
            registry.named(word)
        return _verify(Path(arguments.words[1]), arguments.json)
    if not arguments.device or not arguments.output:
        raise UsageError("bundle needs --device and -o FOLDER")
    device = devices.named(arguments.device)
    problems = {}
    kernels, broken = sound_kernels(kernel_names(arguments.words))
    for kernel in kernels:
        called = list(workload_problems(arguments, kernel, device))
        if called or runtime.rows(kernel, device):
            problems[kernel.name] = called

    limits = Limits(processes=arguments.jobs)
    with progress_bar(arguments) as update:

        def progress(done: int, total: int) -> None:
            update(f"compile for {device.name}", done, total)

        manifest, failed = bundle_builder.make(arguments.output, device, problems, limits, progress)
    rows = [
        {
            "kernel": name,
            "specialisations": sum(one.kernel == name for one in manifest.specialisations),
            "failed": sum(place.startswith(f"{name} ") for place in failed),
            "table": manifest.tables[name] or "none: defaults",
        }
        for name in problems
    ]
    show_rows(rows, arguments.json, str(arguments.output))
    for place, why in failed.items():
        print(f"{place}: {why}", file=sys.stderr)
    return 1 if failed or broken else 0


def _verify(folder: Path, as_json: bool) -> int:
    from autotune.tuning.compilation import bundle_builder

    wrong = bundle_builder.verify(folder)
    if as_json or wrong:
        show_rows([{"wrong": one} for one in wrong], as_json)
    else:
        print(f"{folder}: every launch finds its binary")
    return 1 if wrong else 0
