"""One table of several machines' or ranks' tables: each problem's best-founded row, and nothing that contradicts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from autotune import device as devices
from autotune import registry, row_check, runtime
from autotune.config import Key, describe_key
from autotune.errors import TableError
from autotune.interchange.entries import measured_us
from autotune.row_check import Flaw
from autotune.table import Row, Table
from autotune.toolchain import order, recorded_triton


class Source(NamedTuple):
    """A table and the file that it came from."""

    place: str
    table: Table


@dataclass(frozen=True)
class Decision:
    """A problem for which the sources have different rows: the place of the one that was taken, and the reason."""

    problem: Key
    place: str
    reason: str


@dataclass(frozen=True)
class Merged:
    table: Table
    places: Mapping[str, int]
    """Number of rows by the place that each was taken from; a row that several have counts for the first."""
    decisions: tuple[Decision, ...]
    flaws: Mapping[tuple[str, Row], Flaw]
    """Rows that no call could take, by place: they join nothing."""


def merge(sources: Sequence[Source]) -> Merged:
    """Join tables of one kernel on one device; where nothing decides between two rows, the first source's stays.

    Raises TableError that names every contradiction: another kernel, device or code of the kernel, rows tuned freely
    beside deterministic ones, or deterministic rows that would serve one another and add in different orders.
    """
    if contradictions := list(_contradictions(sources)):
        raise TableError("; ".join(contradictions))
    head = sources[0].table
    kernel, device = registry.load(head.kernel), devices.filed(head.device)
    taken: dict[Key, tuple[Row, str]] = {}
    decisions: dict[Key, Decision] = {}
    flaws: dict[tuple[str, Row], Flaw] = {}
    for place, table in sources:
        rows, bad = row_check.whole(table.rows, kernel, device)
        flaws |= {(place, row): flaw for row, flaw in bad.items()}
        for row in rows:
            if row.problem not in taken:
                taken[row.problem] = (row, place)
            elif (stays := taken[row.problem])[0] != row:
                replaces, reason = _compare(stays[0], row)
                taken[row.problem] = (row, place) if replaces else stays
                decisions[row.problem] = Decision(row.problem, taken[row.problem][1], reason)
    proofs = {table.proof for _, table in sources}
    proof = proofs.pop() if len(proofs) == 1 else ""
    table = replace(head, rows=tuple(row for row, _ in taken.values()), proof=proof)
    if table.keeps_an_order:
        runtime.check_orders(kernel, table.rows, " and ".join(place for place, _ in sources))
    places = Counter(place for _, place in taken.values())
    return Merged(table, places, tuple(decisions.values()), flaws)


def _contradictions(sources: Sequence[Source]) -> Iterator[str]:
    first, head = sources[0]
    for place, table in sources[1:]:
        if (table.kernel, table.arch, table.device) != (head.kernel, head.arch, head.device):
            here, there = (f"{named.kernel} on {named.arch}/{named.device}" for named in (table, head))
            yield f"{place}: is a table of {here}, {first} of {there}; merge tables of one kernel and device"
        elif table.source != head.source:
            today = registry.load(table.kernel).identity.kernel
            stale = [name for name, tuned in ((first, head), (place, table)) if tuned.source != today]
            yield (
                f"{place}: was tuned for code {table.source} of {table.kernel}, {first} for {head.source}; today's is "
                f"{today}: tune {' and '.join(stale)} again, or leave it out"
            )
        elif table.deterministic != head.deterministic:
            free = place if head.deterministic else first
            yield f"{place} and {first}: one is deterministic, {free} is not; keep them in folders of their own"


def _compare(stays: Row, row: Row) -> tuple[bool, str]:
    """Return True if `row` replaces `stays`, which has the same problem, and the reason for whichever is taken."""
    if stays.rank != row.rank:
        best, other = sorted((stays, row), key=lambda tiered: tiered.rank)
        return best is row, f"{best.tier} before {other.tier}"
    releases = [order(recorded_triton(each.toolchain) or "") for each in (stays, row)]
    if all(releases) and releases[0] != releases[1]:
        newer, older = (row, stays) if releases[1] > releases[0] else (stays, row)
        return newer is row, f"{newer.toolchain} after {older.toolchain}"
    times = [_us(each) for each in (stays, row)]
    if times[0] and times[1] and abs(math.log(times[1] / times[0])) > (noise := _noise(stays, row)):
        fast, slow = sorted(times)
        within = f", noise {noise:.1%}" if noise else ""
        return times[1] == fast, f"{row.tier}: {fast:.4g} us before {slow:.4g} us{within}"
    dates = [str(each.evidence.get("date", "")) for each in (stays, row)]
    if dates[0] != dates[1]:
        return dates[1] > dates[0], f"no time decides: {max(dates)} after {min(dates) or 'a row without a date'}"
    return False, "neither tier, evidence nor date decides: the first stays"


def _us(row: Row) -> float:
    """Microseconds of the row, the middle of a modeled range among modeled rows; 0 where it has none."""
    span = row.evidence.get("modeled_us_range")
    if row.tier == "modeled" and isinstance(span, list) and len(span) == 2:
        low, high = (end if isinstance(end, int | float) and end > 0 else 0.0 for end in span)
        return math.sqrt(low * high)
    return measured_us(row) or 0.0


def _noise(*rows: Row) -> float:
    """Largest relative spread or noise floor that the rows record."""
    found = [row.evidence.get(name) for row in rows for name in ("spread", "noise_floor")]
    return max((value for value in found if isinstance(value, float) and 0 < value < 1), default=0.0)


def describe_flaws(flaws: Mapping[tuple[str, Row], Flaw]) -> Iterator[tuple[str, str, str]]:
    """Yield (place, problem, reason) of each row that was left out."""
    for (place, row), flaw in flaws.items():
        yield place, describe_key(row.problem), flaw.reason
