"""`autotune report`: one HTML file on a model's steps, for one or many devices; nothing is compiled or measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from autotune import packages, workload
from autotune.cli.output import Commands, check_output, command, print_json
from autotune.cli.progress import progress_bar
from autotune.cli.workload_options import add_concurrency, add_workload, concurrencies


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "report",
        "one HTML page: where a model's step goes on each device, how near the bound, what tuning gives",
        "  autotune report -o day0.html\n"
        "  autotune report -o mi355x.html --device mi355x --concurrency 16,64\n"
        "  autotune report -o wide.html --device gb300 --tp 8 --ep 8 --dp-attention",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the page to write")
    parser.add_argument(
        "--device", action="append", help="name of a device record; may be repeated (default: all that have tables)"
    )
    add_workload(parser)
    add_concurrency(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    packages.require("report")
    check_output(arguments.output, "-o")
    model = workload.models.named(arguments.model)
    scenario = workload.scenario.named(arguments.scenario)
    parallelism = workload.Parallelism(arguments.tp, arguments.ep, arguments.dp_attention)
    counts = concurrencies(arguments, scenario, parallelism)
    from autotune import files
    from autotune.report.html import html
    from autotune.report.model_page import Workload, model_page
    from autotune.report.page_data import model_page_data

    with progress_bar(arguments) as bar:
        page = model_page(
            Workload(model, scenario, parallelism, counts),
            arguments.device or (),
            lambda done, of: bar("devices", done, of),
        )
    text = html(model_page_data(page))
    files.write(arguments.output, text)
    names = [part.facts.name for part in page.parts]
    if arguments.json:
        left_out = dict(page.left_out)
        print_json({"file": str(arguments.output), "bytes": len(text.encode()), "devices": names, "left out": left_out})
        return 0
    print(f"{arguments.output}: {model.name} on {', '.join(names)}, {len(text.encode()) / 1e6:.1f} MB")
    for name, reason in page.left_out:
        print(f"left out  {name}: {reason}")
    return 0
