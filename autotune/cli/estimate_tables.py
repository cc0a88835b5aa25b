"""The tables and notes of `autotune estimate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotune.cli.output import show_rows
from autotune.device import Device
from autotune.workload.hot_paths import HOT_PATHS

if TYPE_CHECKING:
    from autotune.estimate.points import Point
    from autotune.estimate.published import Implied
    from autotune.estimate.throughput import Interval
    from autotune.estimate.time_range import TimeRange

NOTES = """\
Tuned from: tiers of the rows that serve, with calls a step; no row: the model's best of a sample.
Ranges: sums of the ranges of single calls; predictions of one model may err alike.
tok/s/GPU and $/Mtok count tokens of prompts and answers, as InferenceX does; tok/s/user, answers.
Assumed: one engine that prefills and decodes on the same GPUs, in graphs, back to back, with
uniform routing, without draft layers, host time, or kernels beside collectives. Collectives are
modeled from link figures; none was measured."""


def show_step(device: Device, point: Point, title: str) -> None:
    """Print a decode step by hot path, its collectives, and the sum."""
    titles = {path.number: path.title for path in HOT_PATHS}
    step = point.decode.kernels.step
    rows: list[dict[str, Any]] = [
        {
            "hot path": titles[path.number],
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


def summary(device: Device, point: Point, price: float | None) -> dict[str, Any]:
    """Return the line of one concurrency on one device."""
    figures = point.throughput
    return {
        "device": device.name,
        "conc.": point.load.concurrency,
        "step ms\ndefault": _span(point.decode.default, 1e-3),
        "step ms\ntuned": _span(point.decode.tuned, 1e-3),
        "step ms\nbound": _short(point.decode.bound_us / 1e3),
        "pre-\nfill": f"{figures.prefill_share:.0%}",
        "tok/s/GPU": _figure(figures.tokens_per_s_per_gpu),
        "tok/s/user": _figure(figures.tokens_per_s_per_user),
        "$/Mtok": _figure(point.usd_per_million_tokens(price)) if price else "",
    }


def show_published(device: Device, points: list[Point], tokens: float) -> None:
    """Print the decode step that `tokens` a second and GPU leaves time for, at each concurrency."""
    rows = []
    for point in points:
        held = implied(point, tokens)
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


def implied(point: Point, tokens: float) -> Implied:
    from autotune.estimate import published

    kernels = point.decode.kernels
    return published.implied(
        tokens,
        point.load,
        tuned_us=point.decode.tuned.us,
        bound_us=point.decode.bound_us,
        prefill_us=point.prefill.tuned.us,
        launch_us=kernels.launching_us / kernels.launches,
    )


def show_notes(points: list[Point], prices: dict[Device, float | None]) -> None:
    from autotune.estimate.prices import SOURCE, USD_PER_HOUR

    prefill = points[0].prefill
    step = prefill.kernels.step
    print()
    print(NOTES)
    print(f"A prefill step of {step.tokens} tokens a rank takes {_span(prefill.tuned, 1e-3)} ms tuned.")
    for device, price in prices.items():
        own = price != USD_PER_HOUR.get(device.name)
        print(
            f"An hour of {device.name}: {f'${price:g}' if price else 'unknown'}{', as given' if own and price else ''}"
        )
    print(f"Prices that were not given: {SOURCE}")


def show_memory(device: Device, point: Point) -> None:
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
