"""Parts that all formats share: foreign entries in our names, entries left out with reasons, keys and times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune import registry
from autotune.config import Scalar, describe_key, field_names
from autotune.device import Device
from autotune.errors import UsageError
from autotune.files import scalars
from autotune.foreign_text import plausible_us
from autotune.table import Row, Table
from autotune.tuning.search.trials import Trials

NEUTRAL: dict[str, Scalar] = {
    "SPLIT_K": 1,
    "PERSISTENT": False,
    "NATIVE_SCALING": False,
    "GROUP_M": 1,
    "num_ctas": 1,
    "maxnreg": 0,
    "waves_per_eu": 0,
    "matrix_instr_nonkdim": 0,
}
"""Values that stand for parameters that a foreign kernel lacks; for options, Triton's own defaults."""


def neutral(device: Device) -> dict[str, Scalar]:
    """NEUTRAL with the defaults that differ by backend (CUDAOptions and HIPOptions of Triton 3.9)."""
    return {**NEUTRAL, "num_warps": 4, "num_stages": 2 if device.is_amd else 3}


@dataclass(frozen=True)
class LeftOut:
    """A file, or a table of ours, or one `entry` of it that was not taken over, and why."""

    place: str
    entry: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """One foreign config in our names. `kept` has no parameter here: it changes nothing, and is exported again."""

    file: Path
    name: str
    """Which entry of the file it is, as the file calls it."""
    kernel: str
    device: str
    problem: Mapping[str, Scalar]
    options: Mapping[str, Scalar]
    kept: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    """`from`, `file`, and what else the format needs to write the entry again."""
    serves: tuple[tuple[str, int, int], ...] = ()
    toolchain: str = "unknown"
    rank: int = 0
    """Where several entries speak of one problem, the lowest is taken."""

    def left_out(self, reason: str) -> LeftOut:
        return LeftOut(str(self.file), self.name, reason)


@dataclass(frozen=True)
class Hints:
    """Hints of the user where a file says nothing: the model of MoE files, the kernel and key of Triton's caches.

    `named`: the user named the file itself, it was not found by walking a folder.
    """

    device: str = ""
    model: str = ""
    kernel: str = ""
    key: tuple[str, ...] = ()
    named: bool = False


Read = tuple[list[Entry], list[LeftOut]]


@dataclass(frozen=True)
class File:
    """One file to write: its text, and the rows in it by tier."""

    text: str
    tiers: Mapping[str, int]

    @property
    def rows(self) -> int:
        return sum(self.tiers.values())


Written = tuple[dict[str, File], list[LeftOut]]
"""Files by relative name, and the rows that are not in them."""


def tiers_of(rows: list[Row]) -> Mapping[str, int]:
    return Counter(row.tier for row in rows)


def reason_of(error: UsageError, place: str) -> str:
    """The error's words without the place, which a LeftOut names itself."""
    return str(error).removeprefix(f"{place}: ")


def table_name(table: Table) -> str:
    return f"{table.kernel} on {table.device}"


def row_left_out(table: Table, row: Row, reason: str) -> LeftOut:
    return LeftOut(table_name(table), describe_key(row.problem), reason)


def keyed(values: Any, hints: Hints, place: str) -> dict[str, Scalar]:  # noqa: ANN401
    """The fields of a problem from a list of values, in the order of `hints.key`. Raises UsageError.

    Triton appends the dtypes of tensors to the list: they are left out; an FP8 problem is the device's own.
    """
    if not isinstance(values, list) or len(values) < len(hints.key):
        raise UsageError(f"{place}: the key must be a list that gives {', '.join(hints.key)}, got {str(values)[:80]}")
    found = dict(zip(hints.key, values, strict=False))
    return dict(scalars(found, place))


def measured_us(row: Row) -> float | None:
    """Measured microseconds, ours or another tool's; a modeled range is no time."""
    for name in ("us", "foreign_us"):
        value = row.evidence.get(name)
        us = plausible_us(value, 1.0)
        if us is not None:
            return us
    return None


def problem_fields(kernel: str) -> Iterator[str]:
    problem_type: Any = registry.load(kernel).problem
    yield from field_names(problem_type)


def of_a_rehearsal(bench: Any, file: Path) -> LeftOut | None:  # noqa: ANN401
    """A file that we wrote from a simulated GPU: its times are of no device."""
    if isinstance(bench, str) and bench.startswith("simulated"):
        return LeftOut(str(file), "", f"its times are of a {bench} bench, of no device")
    return None


def without_times(trials: Trials) -> LeftOut:
    """A session whose trials are times of the cost model."""
    reason = "the session ended at the model; a predicted time is no result"
    return LeftOut(f"{trials.kernel} on {trials.device}", trials.study.problem, reason)
