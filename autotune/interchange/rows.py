"""Rows of tier `imported` from foreign entries: each checked by our kernel's rules, one row a problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import registry, row_check
from autotune.config import Config, Key, Problem, Scalar, build, key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.interchange.entries import Entry, LeftOut, neutral, reason_of
from autotune.table import Row

if TYPE_CHECKING:
    from autotune.kernel import Kernel

Home = tuple[str, str]
"""(kernel, device)"""


def rows(entries: Iterable[Entry]) -> tuple[dict[Home, list[Row]], list[LeftOut]]:
    """Rows by kernel and device, and the entries that our kernel's rules refuse or that another entry stands for."""
    made: dict[tuple[Home, Key], list[tuple[Entry, Row]]] = {}
    left: list[LeftOut] = []
    for entry in entries:
        kernel, device = registry.load(entry.kernel), devices.named(entry.device)
        result = _row(entry, kernel, device)
        if isinstance(result, str):
            left.append(entry.left_out(result))
        else:
            made.setdefault(((kernel.name, device.name), result.problem), []).append((entry, result))
    found: dict[Home, list[Row]] = {}
    for (home, _), rivals in made.items():
        row, losers = _settled(rivals)
        found.setdefault(home, []).append(row)
        left += losers
    return found, left


def _settled(rivals: Sequence[tuple[Entry, Row]]) -> tuple[Row, list[LeftOut]]:
    """The row of one problem: of the best rank, then the fastest, then the first.

    Files that call one GPU by several names are all kept: `also` holds the others, to be written again.
    """
    entry, row = min(rivals, key=lambda rival: (rival[0].rank, rival[1].evidence.get("foreign_us", 0.0)))
    left, also = [], []
    for other, beaten in rivals:
        if beaten is row:
            continue
        if "name" in other.origin and other.origin["name"] != entry.origin.get("name"):
            also.append({**beaten.evidence, "config": dict(beaten.config)})
        else:
            left.append(other.left_out(f"{entry.file}: {entry.name} is of the same problem, and was taken"))
    if not also:
        return row, left
    evidence = {**row.evidence, "also": also}
    return Row(row.problem, row.config, row.tier, evidence, row.toolchain, row.code, row.serves), left


def _row(entry: Entry, kernel: Kernel[Any], device: Device) -> Row | str:
    try:
        problem: Problem = build(kernel.problem, entry.problem, entry.name)
    except UsageError as error:
        return reason_of(error, entry.name)
    config = _config(entry, kernel.default(problem, device), neutral(device))
    if isinstance(config, str):
        return config
    unused = {name: value for name, value in entry.options.items() if name not in config}
    evidence = {**entry.origin, **({"kept": kept} if (kept := {**entry.kept, **unused}) else {})}
    row = Row(key(problem), config, "imported", evidence, entry.toolchain, "", entry.serves)
    _, flaws = row_check.whole([row], kernel, device)
    if flaws:
        return flaws[row].reason
    refusal = kernel.forbids(problem, config, device)
    if refusal is not None:
        return f"{kernel.name} refuses it on {device.name}: {refusal}"
    return row


def _config(entry: Entry, default: Config, absent: Mapping[str, Scalar]) -> Config | str:
    missing = [name for name in default if name not in entry.options and name not in absent]
    if missing:
        return f"the entry lacks {', '.join(missing)}"
    return Config({name: entry.options[name] if name in entry.options else absent[name] for name in default})
