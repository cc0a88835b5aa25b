"""The page of a model on devices: every step that a scenario has, from tables, cost model and links; nothing compiles.

A kernel that no row serves counts with its default config, as it would be served.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autotune import device as devices
from autotune import registry, runtime
from autotune.device import Device
from autotune.errors import AutotuneError, UsageError
from autotune.estimate.points import Point, WholeStep, points
from autotune.estimate.prices import USD_PER_HOUR
from autotune.estimate.throughput import Interval
from autotune.report.page_rows import CallRow, call_rows
from autotune.report.step_bars import BarRange, Segment, bar_ranges, segments
from autotune.workload.model import Model
from autotune.workload.scenario import Parallelism, Scenario


@dataclass(frozen=True)
class Workload:
    """A model as it is served: on how many GPUs, at which concurrencies."""

    model: Model
    scenario: Scenario
    parallelism: Parallelism
    concurrencies: tuple[int, ...]


@dataclass(frozen=True)
class DeviceFacts:
    """A device of the page, and what its tables have."""

    name: str
    arch: str
    vendor: str
    kernels_with_table: int
    rows: tuple[tuple[str, int], ...]
    """(tier, rows of that tier that may serve), of all models."""
    usd_per_hour: float | None
    weights_gb: float
    caches_gb: float
    """At the highest concurrency."""
    memory_gb: float


@dataclass(frozen=True)
class Figures:
    """Throughput and cost of one concurrency on one device, as (least, value, most)."""

    device: str
    step: str
    concurrency: int
    default_ms: tuple[float, float, float]
    tuned_ms: tuple[float, float, float]
    bound_ms: float
    prefill_share: float
    tokens_per_s_per_gpu: tuple[float, float, float]
    tokens_per_s_per_user: tuple[float, float, float]
    usd_per_million_tokens: tuple[float, float, float] | None
    """None where no price is known."""


@dataclass(frozen=True)
class DevicePart:
    """All that a page says of one device."""

    facts: DeviceFacts
    figures: tuple[Figures, ...]
    segments: tuple[Segment, ...]
    ranges: tuple[BarRange, ...]
    rows: tuple[CallRow, ...]


@dataclass(frozen=True)
class ModelPage:
    """The whole page."""

    workload: Workload
    steps: tuple[str, ...]
    parts: tuple[DevicePart, ...]
    left_out: tuple[tuple[str, str], ...]
    """(device, reason): its tables or links do not allow a page."""


def devices_with_tables(root: Path) -> list[str]:
    """Return the names of the devices that have a table under `root`; rehearsals, filed under no real device, aside."""
    folders = (folder for folder in sorted(root.glob("*/*")) if folder.is_dir() and "." not in folder.name)
    return [folder.name for folder in folders if next(folder.rglob("*.json"), None) is not None]


def model_page(asked: Workload, names: Sequence[str], progress: Callable[[int, int], None]) -> ModelPage:
    """Build the page of the devices called `names`; none: all that have tables, and one that fails is left out.

    `progress` is told of devices that are done, of all.
    Raises AutotuneError for a named device without a page, and where no device has one.
    """
    root = runtime.tables_root()
    wanted = list(dict.fromkeys(names)) or devices_with_tables(root)
    parts, left_out = [], []
    for done, name in enumerate(wanted, 1):
        try:
            parts.append(device_part(asked, devices.named(name)))
        except AutotuneError as error:
            if names:
                raise
            left_out.append((name, str(error)))
        progress(done, len(wanted))
    if not parts:
        why = "; ".join(f"{name}: {reason}" for name, reason in left_out) or f"no tables under {root}"
        raise UsageError(f"no device to report on: {why}; name one by --device, or tune first")
    return ModelPage(asked, step_names(asked), tuple(parts), tuple(left_out))


def step_names(asked: Workload) -> tuple[str, ...]:
    """Return the names of the steps: a decode step at each concurrency, and the prefill step."""
    return (*(f"decode, {count} request{'s' if count > 1 else ''}" for count in asked.concurrencies), "prefill")


def device_part(asked: Workload, device: Device) -> DevicePart:
    """Estimate every step on `device`. Raises UsageError and TableError as `estimate.points.points`."""
    found = points(asked.model, asked.scenario, asked.parallelism, device, asked.concurrencies, sample=0)
    steps: dict[str, WholeStep] = dict(
        zip(step_names(asked), [*(point.decode for point in found), found[-1].prefill], strict=True)
    )
    rows = [
        row for name, whole in steps.items() for row in call_rows(name, whole.kernels.calls, device, whole.tuned.us)
    ]
    return DevicePart(
        _facts(device, found[-1]),
        tuple(_figures(device, name, point) for name, point in zip(steps, found, strict=False)),
        tuple(segment for name, whole in steps.items() for segment in segments(name, whole, device)),
        tuple(bar for name, whole in steps.items() for bar in bar_ranges(name, whole, device)),
        tuple(rows),
    )


def _facts(device: Device, point: Point) -> DeviceFacts:
    tables = [runtime.lookup(kernel, device) for kernel in registry.load_all(registry.names())[0]]
    tiers = Counter(row.tier for table in tables for row in table.rows)
    memory = point.memory
    return DeviceFacts(
        device.name,
        device.arch,
        device.vendor,
        sum(table.exists for table in tables),
        tuple(tiers.most_common()),
        USD_PER_HOUR.get(device.name),
        round(memory.weights_gb, 1),
        round(memory.caches_gb, 1),
        memory.device_gb,
    )


def _figures(device: Device, step: str, point: Point) -> Figures:
    figures, price = point.throughput, USD_PER_HOUR.get(device.name)
    return Figures(
        device.name,
        step,
        point.load.concurrency,
        _milliseconds(point.decode.default.ends),
        _milliseconds(point.decode.tuned.ends),
        point.decode.bound_us / 1e3,
        figures.prefill_share,
        _ends(figures.tokens_per_s_per_gpu),
        _ends(figures.tokens_per_s_per_user),
        _ends(point.usd_per_million_tokens(price)) if price else None,
    )


def _milliseconds(ends: tuple[float, float, float]) -> tuple[float, float, float]:
    least, us, most = ends
    return least / 1e3, us / 1e3, most / 1e3


def _ends(interval: Interval) -> tuple[float, float, float]:
    return interval.least, interval.value, interval.most
