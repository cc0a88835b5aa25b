"""Which config serves a problem: a row that covers it, the nearest allowed row, the default. Data never decide.

A deterministic table serves nothing in place of its rows: a default config may add in another order.
"""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import ranks, row_check, table
from autotune.config import Config, Key, Problem, Scalar, describe, describe_key, empty_fields, field_names, key, values
from autotune.device import Device
from autotune.errors import TableError
from autotune.row_check import Flaw
from autotune.table import Row, Table

if TYPE_CHECKING:
    from autotune.kernel import Kernel

MOST = 65536
"""Answers kept a kernel and device: prefill has a new length every call, and memory must not grow with traffic."""


@dataclass(frozen=True)
class Choice:
    """The config, and how it was found: `exact`, `interval`, `nearest`, `default`, or `empty` for a call without rows.

    `reason` is for people. `refused`: a deterministic table has no row for it; the config is empty, `choose` raises.
    """

    config: Config
    how: str
    reason: str
    row: Row | None = None

    @property
    def tier(self) -> str:
        """Tier of the row; `default` where none serves."""
        return self.row.tier if self.row else "default"

    @property
    def is_miss(self) -> bool:
        """Nothing was tuned for this problem."""
        return self.how in ("nearest", "default", "refused")


Hook = Callable[["Kernel[Any]", Problem, Device, Choice], None]
"""Told of each problem once, when its config is first chosen."""

hooks: list[Hook] = []


class Served:
    """The choice for one kind of call, and the number of calls; under a CUDA graph only captured ones are counted."""

    __slots__ = ("calls", "choice", "config", "device")

    def __init__(self, choice: Choice, device: Device) -> None:
        self.calls, self.choice, self.config, self.device = 0, choice, choice.config, device


PACKAGED = Path(__file__).parent / "tuned_configs"
"""The tables that came with this package."""


def tables_root() -> Path:
    """Where tables lie: $AUTOTUNE_TABLES, else the folder that came with this package."""
    return Path(os.environ.get("AUTOTUNE_TABLES") or PACKAGED)


class Lookup(dict[tuple[Scalar, ...], Choice]):
    """A kernel's choices on one device by the values of a problem's fields: `lookup[64, 2048, 7168, "e4m3fn"]`.

    A dictionary that fills itself, so that a hit costs what a dictionary's does. The table is read and its rows are
    checked once, when this is made; raises TableError where it is not whole.
    """

    def __init__(self, kernel: Kernel[Any], device: Device, root: Path) -> None:
        super().__init__()
        self._kernel, self._device = kernel, device
        self.path = table.path_of(root, device.arch, device.name, kernel.name)
        self._loaded = loaded = _read(self.path, kernel.name, device)
        self.exists = loaded is not None
        self.rows, self.flaws = row_check.whole(loaded.rows if loaded else (), kernel, device)
        self._left_out: dict[Key, Flaw] = {row.problem: flaw for row, flaw in self.flaws.items()}
        self._keeps_an_order = loaded is not None and loaded.keeps_an_order
        problem_type: Any = kernel.problem  # mypy holds type[Any] to be unhashable
        self._names = field_names(problem_type)
        self._alike: dict[tuple[Scalar, ...], list[Row]] = {}
        for row in self.rows:
            self._alike.setdefault(self._fixed(dict(row.problem)), []).append(row)
        if self._keeps_an_order:
            check_orders(kernel, self.rows, str(self.path))

    def __missing__(self, wanted: tuple[Scalar, ...]) -> Choice:
        problem = self._kernel.problem(*wanted)
        choice = self._choose(problem)
        if len(self) >= MOST:
            self.clear()
        self[wanted] = choice
        for hook in hooks:
            hook(self._kernel, problem, self._device, choice)
        return choice

    @property
    def lacks(self) -> str | None:
        """The lack of the table, or of rows that may not serve, in words; None where all rows may."""
        if not self.exists:
            return f"no table at {self.path}"
        if not self.rows and not self.flaws:
            return f"{self.path} has no rows"
        if not self.flaws:
            return None
        row, flaw = next(iter(self.flaws.items()))
        first = f"{describe_key(row.problem)}: {flaw.reason}"
        total = len(self.rows) + len(self.flaws)
        return f"{self.path}: {len(self.flaws)} of {total} rows cannot serve, such as {first}"

    def content_hash(self) -> str:
        """Hash of the whole table as it was read; `none` where there is no table."""
        return table.content_hash(self._loaded) if self._loaded else "none"

    def _choose(self, problem: Problem) -> Choice:
        choice = self._of_rows(problem)
        flaw = self._left_out.get(key(problem)) if self._left_out else None
        return (
            choice
            if flaw is None
            else replace(choice, reason=f"{choice.reason}; its own row cannot serve: {flaw.reason}")
        )

    def _of_rows(self, problem: Problem) -> Choice:
        kernel, device = self._kernel, self._device
        empty = empty_fields(problem)
        # Without rows nothing is added in any order; without keys in one list, those of another still are.
        if empty and (not self._keeps_an_order or problem.VARYING[0] in empty):
            return Choice(kernel.default(problem, device), "empty", f"{empty[0]} is 0: the default config")
        if not self.rows:
            return self._without(problem, str(self.lacks))
        wanted = dict(key(problem))
        alike = self._alike.get(self._fixed(wanted), [])
        for fit, row in sorted(((_fit(row, wanted, problem.VARYING), row) for row in alike), key=itemgetter(0)):
            # A winner that somebody measured serves its own sizes though our rules of speed dislike it.
            refusal = kernel.reject if fit.misses else kernel.forbids
            if refusal(problem, row.config, device) is None:
                return _answer(problem, row, fit)
        why = "no row agrees in every fixed field" if not alike else f"none of {len(alike)} near rows is allowed"
        return self._without(problem, why)

    def _without(self, problem: Problem, why: str) -> Choice:
        if not self._keeps_an_order:
            return Choice(self._kernel.default(problem, self._device), "default", why)
        remedy = (
            f"autotune tune {self._kernel.name} --device {self._device.name} --deterministic "
            f"--tables {self.path.parents[3]} --problem {describe(problem)}"
        )
        why = f"{self.path} is deterministic, {why}, and the default config may add in another order"
        return Choice(Config(), "refused", f"{why}; `{remedy}`, or --from-misses what misses.record wrote")

    def _fixed(self, fields: dict[str, Scalar]) -> tuple[Scalar, ...]:
        return tuple(fields[name] for name in self._names if name not in self._kernel.problem.VARYING)


@dataclass(frozen=True, order=True)
class _Fit:
    """How well a row suits a problem, best first: covering it, then the tier, then nearness, then smaller sizes."""

    misses: bool
    rank: int
    differs: bool
    octaves: float
    sizes: tuple[tuple[int, int], ...]


def _fit(row: Row, wanted: dict[str, Scalar], varying: tuple[str, ...]) -> _Fit:
    there, ends = dict(row.problem), row.intervals
    sizes = tuple((int(there[name]), int(wanted[name])) for name in varying)
    bounds = [ends.get(name, (size, size)) for name, (size, _) in zip(varying, sizes, strict=True)]
    covers = all(low <= size <= high for (low, high), (_, size) in zip(bounds, sizes, strict=True))
    octaves = sum(abs(math.log2(max(row_size, 1) / max(size, 1))) for row_size, size in sizes)
    return _Fit(not covers, row.rank, octaves > 0, octaves, sizes)


def _answer(problem: Problem, row: Row, fit: _Fit) -> Choice:
    if not fit.differs:
        return Choice(row.config, "exact", f"{row.tier} row for {describe(problem)}", row)
    there = ",".join(f"{name}={value}" for name, value in row.problem if name in problem.VARYING)
    if not fit.misses:
        ends = ", ".join(f"{name} {low} to {high}" for name, low, high in row.serves)
        return Choice(row.config, "interval", f"{row.tier} row of {there}, which serves {ends}", row)
    return Choice(row.config, "nearest", f"{row.tier} row of {there}, {fit.octaves:.2f} octaves away", row)


_lookups: dict[tuple[str, str, str], Lookup] = {}
_served: dict[str, dict[Any, Served]] = {}
_warned: set[str] = set()


def check_orders(kernel: Kernel[Any], rows: Iterable[Row], place: str) -> None:
    """Raises TableError where deterministic `rows` that may serve one another's problems add in different orders."""
    families: dict[Key, list[Row]] = {}
    for row in rows:
        fixed = tuple(item for item in row.problem if item[0] not in kernel.problem.VARYING)
        families.setdefault(fixed, []).append(row)
    for family in families.values():
        orders = sorted({str(row.order) for row in family})
        if len(orders) > 1:
            raise TableError(
                f"{place}: is deterministic, and rows that serve one another's problems, such as "
                f"{dict(family[0].problem)}, add in {len(orders)} orders ({'; '.join(orders)}); restore the file or "
                f"tune again"
            )


def lookup(kernel: Kernel[Any], device: Device) -> Lookup:
    """The choices of `kernel` on `device`; its table is read at the first call. Raises TableError."""
    name = (kernel.name, device.arch, device.name)
    found = _lookups.get(name)
    if found is None:
        root = tables_root()
        if not root.is_dir():
            _warn(f"AUTOTUNE_TABLES names {root}, where no folder is: default configs serve")
        found = _lookups[name] = Lookup(kernel, device, root)
        if found.exists and found.lacks:
            _warn(f"{found.lacks}; `autotune lint` names all that is wrong")
    ranks.compare(f"{kernel.name} on {device.name}", found.content_hash)
    return found


def choose(kernel: Kernel[Any], problem: Problem, device: Device) -> Choice:
    """The config for `problem`; same answer for same tables.

    Raises TableError for a table that is not whole, or that is deterministic and has no row for `problem`.
    """
    choice = lookup(kernel, device)[values(problem)]
    if choice.how == "refused":
        raise TableError(f"{kernel.name} {describe(problem)} on {device.name}: {choice.reason}")
    return choice


def explain(kernel: Kernel[Any], problem: Problem, device: Device) -> str:
    """Explain the answer of `choose` in words, also a refusal."""
    choice = lookup(kernel, device)[values(problem)]
    config = "no config" if choice.how == "refused" else choice.config
    return f"{kernel.name} {describe(problem)} on {device.name}: {choice.how} ({choice.reason}) -> {config}"


def rows(kernel: Kernel[Any], device: Device) -> tuple[Row, ...]:
    """All rows that may serve `kernel` on `device`, as the table is now. Raises TableError."""
    return Lookup(kernel, device, tables_root()).rows


def served(kernel: str) -> dict[Any, Served]:
    """Return the choices that calls of `kernel` got so far, by the key of a call."""
    return _served.setdefault(kernel, {})


def counts() -> Counter[tuple[str, str, str]]:
    """Calls so far by (kernel, how, tier); how and tier as in Choice."""
    total: Counter[tuple[str, str, str]] = Counter()
    for kernel, known in _served.items():
        for served in list(known.values()):
            total[kernel, served.choice.how, served.choice.tier] += served.calls
    return total


def forget() -> None:
    """Drops every table and answer: the next call reads the tables again. Counts start anew."""
    _lookups.clear()
    _warned.clear()
    ranks.forget()
    for known in _served.values():
        known.clear()


def _warn(words: str) -> None:
    """Logs a warning, the same one once."""
    if words not in _warned:
        _warned.add(words)
        logging.getLogger(__name__).warning("%s", words)


def _read(path: Path, kernel: str, device: Device) -> Table | None:
    if not path.exists():
        return None
    loaded = table.load(path)
    if (loaded.kernel, loaded.arch, loaded.device) != (kernel, device.arch, device.name):
        raise TableError(
            f"{path}: is a table of {loaded.kernel} for {loaded.arch}/{loaded.device}; move it to that folder"
        )
    return loaded
