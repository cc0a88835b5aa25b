"""Rows of a page: the calls of one kernel on one problem in one step, and cells that sum them over a kernel."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autotune import registry
from autotune.config import Problem, describe, field_names
from autotune.device import Device
from autotune.estimate.step_times import CallEstimate, StepCall
from autotune.report import matrix_use

NO_ROW = "no row"
"""The tier of a call that no row serves: its default config counts as tuned."""


@dataclass(frozen=True)
class CallRow:
    """All calls of one kernel on one problem in one step on one device; times are of one call, in microseconds."""

    device: str
    step: str
    kernel: str
    path: int
    """Number of the hot path."""
    places: str
    """The weights or places of the model that call it."""
    size: int
    """The problem's first field: its number of tokens."""
    shape: str
    """The problem's other fields."""
    calls: int
    default_us: float
    us: float
    least_us: float
    most_us: float
    """The truth is expected between `least_us` and `most_us`; equal to `us` where it was measured."""
    bound_us: float
    tier: str
    how: str
    """How the config was found: exact, interval, nearest, default (no row)."""
    why: str
    toolchain: str
    """Compilers of the row's proof; empty where no row serves."""
    config: str
    matrix: str
    matrix_why: str
    spills: int | None
    """None: unknown."""
    resources: tuple[str, ...]
    """Names of the terms of the cost model."""
    terms_us: tuple[float, ...]
    """Time of each term under the config, modeled as if it alone bound the call."""
    share: float
    """Part of the step's tuned time that these calls take."""
    gap: float
    """Part of the step's tuned time that these calls spend above their bound: the share times the distance."""


@dataclass(frozen=True)
class Cell:
    """All calls of one kernel in one step on one device; times are sums over the step, in microseconds."""

    device: str
    step: str
    kernel: str
    calls: int
    default_us: float
    us: float
    least_us: float
    most_us: float
    bound_us: float
    distance: float
    """Tuned time over the bound."""
    gain: float
    """Default over tuned time."""
    tier: str
    """Tiers of the calls, the most frequent first."""
    matrix: str
    spills: int | None


def call_rows(step: str, calls: Sequence[StepCall], device: Device, step_us: float) -> list[CallRow]:
    """Return a row for each kernel and problem of `calls`, one step of `step_us` tuned microseconds, in their order."""
    groups: dict[tuple[str, Problem], list[StepCall]] = defaultdict(list)
    for call in calls:
        groups[call.call.kernel, call.problem].append(call)
    return [_row(step, same, device, step_us) for same in groups.values()]


def _row(step: str, same: Sequence[StepCall], device: Device, step_us: float) -> CallRow:
    first = same[0]
    kernel, problem, estimate = registry.load(first.call.kernel), first.problem, first.estimate
    count = sum(each.call.per_step for each in same)
    served = estimate.choice.row
    evidence = served.evidence if served else {}
    use = matrix_use.matrix_use(kernel.work(problem, estimate.config, device), estimate.config, device, evidence)
    size, *_ = field_names(type(problem))
    share = count * estimate.tuned.us / step_us
    return CallRow(
        device=device.name,
        step=step,
        kernel=kernel.name,
        path=first.call.path,
        places=", ".join(dict.fromkeys(each.call.op for each in same)),
        size=int(getattr(problem, size)),
        shape=describe(problem).partition(",")[2],
        calls=count,
        default_us=_short(estimate.default.us),
        us=_short(estimate.tuned.us),
        least_us=_short(estimate.tuned.least_us),
        most_us=_short(estimate.tuned.most_us),
        bound_us=_short(estimate.bound_us),
        tier=_tier(estimate),
        how=estimate.choice.how,
        why=estimate.choice.reason if served else NO_ROW,
        toolchain=served.toolchain if served else "",
        config=str(estimate.config).replace(",", ", "),
        matrix=use.kind,
        matrix_why=use.reason,
        spills=matrix_use.spills(evidence),
        resources=tuple(name for name, _ in estimate.terms),
        terms_us=tuple(_short(us) for _, us in estimate.terms),
        share=_short(share),
        gap=_short(share * max(0.0, 1 - estimate.bound_us / estimate.tuned.us)),
    )


def _tier(estimate: CallEstimate) -> str:
    """Return the tier of the time: that of a measured row which serves a neighbour of its problem is modeled."""
    served = estimate.choice.row
    if served is None:
        return NO_ROW
    is_modeled = estimate.tuned.least_us < estimate.tuned.most_us
    return "modeled" if served.tier == "measured" and is_modeled else served.tier


def cells(rows: Iterable[CallRow]) -> list[Cell]:
    """Sum rows over the problems of each device, step and kernel."""
    groups: dict[tuple[str, str, str], list[CallRow]] = defaultdict(list)
    for row in rows:
        groups[row.device, row.step, row.kernel].append(row)
    return [_cell(same) for same in groups.values()]


def _cell(rows: Sequence[CallRow]) -> Cell:
    first = rows[0]
    default, us, least, most, bound = (
        sum(row.calls * getattr(row, name) for row in rows)
        for name in ("default_us", "us", "least_us", "most_us", "bound_us")
    )
    spilled = [row.spills for row in rows if row.spills is not None]
    return Cell(
        device=first.device,
        step=first.step,
        kernel=first.kernel,
        calls=sum(row.calls for row in rows),
        default_us=_short(default),
        us=_short(us),
        least_us=_short(least),
        most_us=_short(most),
        bound_us=_short(bound),
        distance=_short(us / bound),
        gain=_short(default / us),
        tier=_frequent(rows, "tier"),
        matrix=_frequent(rows, "matrix"),
        spills=max(spilled) if len(spilled) == len(rows) else None,
    )


def _frequent(rows: Sequence[CallRow], field: str) -> str:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[getattr(row, field)] += row.calls
    return ", ".join(name for name, _ in counts.most_common())


def _short(number: float) -> float:
    """Return four digits that count: a page holds thousands of figures, which no reader can tell apart beyond them."""
    return float(f"{number:.4g}")
