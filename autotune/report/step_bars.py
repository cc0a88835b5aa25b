"""Bars of whole steps: the time of each hot path with default configs, with tuned ones, and at the bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autotune.device import Device
from autotune.estimate.points import WholeStep
from autotune.report.path_groups import COLLECTIVES, GROUP_OF, GROUPS
from autotune.workload.hot_paths import HOT_PATHS

VERSIONS = ("default", "tuned", "bound")
_TITLES = {path.number: path.title for path in HOT_PATHS}
_ORDER = list(GROUPS)


@dataclass(frozen=True)
class Segment:
    """One hot path, or one kind of collective, of one bar."""

    device: str
    step: str
    version: str
    path: str
    group: str
    """The group that gives the colour, as `path_groups.GROUPS`."""
    order: int
    """Place in the bar: segments of one group stand together."""
    ms: float


@dataclass(frozen=True)
class BarRange:
    """The whole bar, with what the truth is expected to lie within; a bound is a definition and has no range."""

    device: str
    step: str
    version: str
    least_ms: float
    ms: float
    most_ms: float


def segments(step: str, whole: WholeStep, device: Device) -> Iterator[Segment]:
    """Yield the segments of the three bars of a step."""
    for path in whole.kernels.paths:
        group = GROUP_OF[path.number]
        place = _ORDER.index(group) * 100 + path.number
        times = (path.default.us, path.tuned.us, path.bound_us)
        for version, us in zip(VERSIONS, times, strict=True):
            yield Segment(device.name, step, version, _TITLES[path.number], group, place, us / 1e3)
    for at, each in enumerate(whole.collectives):
        name = f"{each.collective.kind}: {each.collective.place}"
        for version, us in zip(VERSIONS, (each.time.us, each.time.us, each.bound_us), strict=True):
            order = _ORDER.index(COLLECTIVES) * 100 + at
            yield Segment(device.name, step, version, name, COLLECTIVES, order, us / 1e3)


def bar_ranges(step: str, whole: WholeStep, device: Device) -> Iterator[BarRange]:
    """Yield the whole length of each of the three bars of a step."""
    ends = (whole.default.ends, whole.tuned.ends, (whole.bound_us,) * 3)
    for version, (least, us, most) in zip(VERSIONS, ends, strict=True):
        yield BarRange(device.name, step, version, least / 1e3, us / 1e3, most / 1e3)
