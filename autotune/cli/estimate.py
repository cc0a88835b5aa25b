"""`autotune estimate`: a serving step by hot path, and what throughput and cost it gives; nothing is measured."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import workload
from autotune.cli.estimate_tables import implied, show_memory, show_notes, show_published, show_step, summary
from autotune.cli.output import Commands, command, print_json, show_rows
from autotune.cli.workload_options import add_concurrency, add_workload, concurrencies, listed
from autotune.device import Device
from autotune.errors import UsageError

if TYPE_CHECKING:
    from autotune.estimate.points import Point, WholeStep


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "estimate",
        "a serving step by hot path: default, tuned, roofline bound; and what throughput and cost that gives",
        "  autotune estimate --device mi355x\n"
        "  autotune estimate --device mi355x --dp-attention --concurrency 256 --published 2256\n"
        "  autotune estimate --device mi355x --compare b200,gb300 --concurrency 16,64",
    )
    parser.add_argument("--device", required=True, help="such as mi355x: see `autotune devices`")
    add_workload(parser)
    add_concurrency(parser)
    parser.add_argument("--compare", metavar="DEVICE,DEVICE", help="devices to estimate too, without hot paths")
    parser.add_argument("--price", type=float, metavar="USD", help="of an hour of one GPU of --device")
    parser.add_argument(
        "--published", type=float, metavar="TOKENS", help="tok/s/GPU of somebody: print what it would imply here"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    device = devices.named(arguments.device)
    others = [devices.named(name) for name in listed(arguments.compare)]
    for name in ("price", "published"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} must be a positive number, got {value}")
    model = workload.models.named(arguments.model)
    scenario = workload.scenario.named(arguments.scenario)
    parallelism = workload.Parallelism(arguments.tp, arguments.ep, arguments.dp_attention)
    counts = concurrencies(arguments, scenario, parallelism)
    from autotune.estimate.points import points

    estimates = {each: points(model, scenario, parallelism, each, counts) for each in (device, *others)}
    prices = {each: _price(each, arguments.price if each is device else None) for each in estimates}
    if arguments.json:
        print_json(
            [_plain(each, point, prices[each], arguments.published) for each in estimates for point in estimates[each]]
        )
        return 0
    title = f"{model.name}, {scenario.name}, {_split(parallelism)}"
    for point in estimates[device]:
        show_step(device, point, title)
    rows = [summary(each, point, prices[each]) for each in estimates for point in estimates[each]]
    show_rows(rows, as_json=False, title=f"{title}; modeled, not measured")
    if arguments.published:
        show_published(device, estimates[device], arguments.published)
    show_notes(estimates[device], prices)
    for each in estimates:
        show_memory(each, estimates[each][-1])
    return 0


def _split(parallelism: workload.Parallelism) -> str:
    experts = f", ep {parallelism.expert}" if parallelism.expert > 1 else ""
    return f"tp {parallelism.tensor}{experts}{', data-parallel attention' if parallelism.data_attention else ''}"


def _price(device: Device, given: float | None) -> float | None:
    from autotune.estimate.prices import USD_PER_HOUR

    return given or USD_PER_HOUR.get(device.name)


def _plain(device: Device, point: Point, price: float | None, published: float | None) -> dict[str, Any]:
    figures = point.throughput
    more = {"published": asdict(implied(point, published))} if published else {}
    return {
        "device": device.name,
        "tier": "modeled",
        **asdict(point.load),
        "decode": _plain_step(point.decode),
        "prefill": _plain_step(point.prefill),
        "throughput": asdict(figures),
        "memory": {**asdict(point.memory), "fits": point.memory.fits},
        "usd_per_gpu_hour": price,
        "usd_per_million_tokens": asdict(point.usd_per_million_tokens(price)) if price else None,
        **more,
    }


def _plain_step(whole: WholeStep) -> dict[str, Any]:
    return {
        "step": asdict(whole.kernels.step),
        "launches": whole.kernels.launches,
        "default": asdict(whole.default),
        "tuned": asdict(whole.tuned),
        "bound_us": whole.bound_us,
        "paths": [asdict(path) for path in whole.kernels.paths],
        "collectives": [asdict(each) for each in whole.collectives],
    }
