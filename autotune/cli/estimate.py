"""`autotune estimate`: a serving step by hot path, and what throughput and cost it gives; nothing is measured."""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import workload
from autotune.cli.output import Commands, command, print_json, show_rows
from autotune.cli.workload_options import add_workload
from autotune.device import Device
from autotune.errors import UsageError
from autotune.workload.hot_paths import HOT_PATHS

if TYPE_CHECKING:
    from autotune.estimate.points import Point, WholeStep
    from autotune.estimate.throughput import Interval
    from autotune.estimate.time_range import TimeRange

NOTES = """\
Tuned from: tiers of the rows that serve, with calls a step; no row: the model's best of a sample.
Ranges: sums of the ranges of single calls; predictions of one model may err alike.
tok/s/GPU and $/Mtok count tokens of prompts and answers, as InferenceX does; tok/s/user, answers.
Assumed: one engine that prefills and decodes on the same GPUs, in graphs, back to back, with
uniform routing, without draft layers, host time, or kernels beside collectives. Collectives are
modeled from link figures; none was measured."""


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
    parser.add_argument("--concurrency", metavar="N,N", help="requests in flight (default: those of the scenario)")
    parser.add_argument("--compare", metavar="DEVICE,DEVICE", help="devices to estimate too, without hot paths")
    parser.add_argument("--price", type=float, metavar="USD", help="of an hour of one GPU of --device")
    parser.add_argument(
        "--published", type=float, metavar="TOKENS", help="tok/s/GPU of somebody: print what it would imply here"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    device = devices.named(arguments.device)
    others = [devices.named(name) for name in _parts(arguments.compare)]
    for name in ("price", "published"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"--{name} must be a positive number, got {value}")
    model = workload.models.named(arguments.model)
    scenario = workload.scenario.named(arguments.scenario)
    parallelism = workload.Parallelism(arguments.tp, arguments.ep, arguments.dp_attention)
    counts = _concurrencies(arguments.concurrency) or (
        scenario.data_concurrency if arguments.dp_attention else scenario.concurrency
    )
    from autotune.estimate.points import points

    found = {each: points(model, scenario, parallelism, each, counts) for each in (device, *others)}
    prices = {each: _price(each, arguments.price if each is device else None) for each in found}
    if arguments.json:
        print_json([_plain(each, point, prices[each], arguments.published) for each in found for point in found[each]])
        return 0
    title = f"{model.name}, {scenario.name}, {_split(parallelism)}"
    for point in found[device]:
        _show_step(device, point, title)
    rows = [_summary(each, point, prices[each]) for each in found for point in found[each]]
    show_rows(rows, as_json=False, title=f"{title}; modeled, not measured")
    if arguments.published:
        _show_published(device, found[device], arguments.published)
    _show_notes(found[device], prices)
    for each in found:
        _show_memory(each, found[each][-1])
    return 0


def _split(parallelism: workload.Parallelism) -> str:
    experts = f", ep {parallelism.expert}" if parallelism.expert > 1 else ""
    return f"tp {parallelism.tensor}{experts}{', data-parallel attention' if parallelism.data_attention else ''}"


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def _concurrencies(text: str | None) -> tuple[int, ...]:
    """Raises UsageError unless `text` lists positive integers."""
    parts = _parts(text)
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"--concurrency must list positive integers, such as 16,64; got {text!r}")
    return tuple(dict.fromkeys(map(int, parts)))


def _price(device: Device, given: float | None) -> float | None:
    from autotune.estimate.prices import USD_AN_HOUR

    return given or USD_AN_HOUR.get(device.name)


def _show_step(device: Device, point: Point, title: str) -> None:
    titles = {path.number: path.title for path in HOT_PATHS}
    step = point.decode.kernels.step
    rows: list[dict[str, Any]] = [
        {
            "hot path": titles[path.path],
            "launches": path.launches,
            "default us": _span(path.default),
            "tuned us": _span(path.tuned),
            "bound us": _short(path.bound_us),
            "tuned from": ", ".join(f"{tier} ({count})" for tier, count in path.tiers),
        }
        for path in point.decode.kernels.paths
    ]
    for each in point.decode.collectives:
        kind = f"{each.collective.kind}: {each.collective.place}"
        same = {"default us": _span(each.time), "tuned us": _span(each.time), "bound us": _short(each.bound_us)}
        rows.append({"hot path": kind, "launches": each.collective.per_step, **same, "tuned from": "links, modeled"})
    whole = point.decode
    rows.append(
        {
            "hot path": "decode step",
            "launches": whole.kernels.launches + sum(each.collective.per_step for each in whole.collectives),
            "default us": _span(whole.default),
            "tuned us": _span(whole.tuned),
            "bound us": _short(whole.bound_us),
            "tuned from": "",
        }
    )
    head = f"{device.name}: {title}; concurrency {point.load.concurrency}, {step.tokens} tokens a rank"
    show_rows(rows, as_json=False, title=head)
    print()


def _summary(device: Device, point: Point, price: float | None) -> dict[str, Any]:
    figures = point.throughput
    return {
        "device": device.name,
        "conc.": point.load.concurrency,
        "step ms\ndefault": _span(point.decode.default, 1e-3),
        "step ms\ntuned": _span(point.decode.tuned, 1e-3),
        "step ms\nbound": _short(point.decode.bound_us / 1e3),
        "pre-\nfill": f"{figures.prefill_share:.0%}",
        "tok/s/GPU": _figure(figures.tokens_a_gpu),
        "tok/s/user": _figure(figures.tokens_a_user),
        "$/Mtok": _figure(point.usd_a_million_tokens(price)) if price else "",
    }


def _show_published(device: Device, found: list[Point], tokens: float) -> None:
    rows = []
    for point in found:
        held = _implied(point, tokens)
        rows.append(
            {
                "conc.": point.load.concurrency,
                "step ms left": f"{held.decode_ms:.1f}" if held.decode_ms > 0 else "none: prefill is too slow",
                "tuned step ms": _span(point.decode.tuned, 1e-3),
                "tuned / left": "" if held.of_tuned is None else f"{held.of_tuned:.2f}",
                "bound / left": "" if held.of_bound is None else f"{held.of_bound:.1%}",
                "launches beside ours": "" if held.more_launches is None else f"{held.more_launches:.0f}",
            }
        )
    print()
    show_rows(rows, as_json=False, title=f"what would have to be true of {tokens:g} tok/s/GPU on {device.name}")


def _implied(point: Point, tokens: float) -> Any:  # noqa: ANN401 - imported where it is used
    from autotune.estimate.published import implied

    kernels = point.decode.kernels
    return implied(
        tokens,
        point.load,
        tuned_us=point.decode.tuned.us,
        bound_us=point.decode.bound_us,
        prefill_us=point.prefill.tuned.us,
        launch_us=kernels.launching_us / kernels.launches,
    )


def _show_notes(found: list[Point], prices: dict[Device, float | None]) -> None:
    from autotune.estimate.prices import SOURCE, USD_AN_HOUR

    prefill = found[0].prefill
    step = prefill.kernels.step
    print()
    print(NOTES)
    print(f"A prefill step of {step.tokens} tokens a rank takes {_span(prefill.tuned, 1e-3)} ms tuned.")
    for device, price in prices.items():
        own = price != USD_AN_HOUR.get(device.name)
        print(
            f"An hour of {device.name}: {f'${price:g}' if price else 'unknown'}{', as given' if own and price else ''}"
        )
    print(f"Prices that were not given: {SOURCE}")


def _show_memory(device: Device, point: Point) -> None:
    held, needed = point.memory, f"weights {point.memory.weights_gb:.0f} GB, caches {point.memory.caches_gb:.1f} GB"
    print(f"Memory of {device.name} at concurrency {point.load.concurrency}: {needed}, of {held.device_gb:.0f} GB")
    if not held.fits:
        print(f"This DOES NOT FIT into {device.name}: none of its figures can be had so.")


def _span(time: TimeRange, scale: float = 1.0) -> str:
    if time.least_us == time.most_us:
        return _short(time.us * scale)
    return f"{_short(time.least_us * scale)}-{_short(time.most_us * scale)}"


def _figure(interval: Interval) -> str:
    return f"{_short(interval.value)} ({_short(interval.least)}-{_short(interval.most)})"


def _short(number: float) -> str:
    """Return two digits that count, and never an exponent of ten."""
    return f"{number:.0f}" if number >= 99.5 else f"{number:.2g}" if number >= 0.01 else f"{number:.3f}"


def _plain(device: Device, point: Point, price: float | None, published: float | None) -> dict[str, Any]:
    figures = point.throughput
    more = {"published": asdict(_implied(point, published))} if published else {}
    return {
        "device": device.name,
        "tier": "modeled",
        **asdict(point.load),
        "decode": _plain_step(point.decode),
        "prefill": _plain_step(point.prefill),
        "throughput": asdict(figures),
        "memory": {**asdict(point.memory), "fits": point.memory.fits},
        "usd_a_gpu_hour": price,
        "usd_a_million_tokens": asdict(point.usd_a_million_tokens(price)) if price else None,
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
