"""Findings in tables that are whole but wrong: rows that serve no call, problems that no row serves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import registry, runtime, table
from autotune.config import Problem, build, describe, key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.misses import Miss
from autotune.table import Row
from autotune.tuning import space

if TYPE_CHECKING:
    from autotune.kernel import Kernel

KINDS = {
    "dead": "a row that the lookup can never reach",
    "shadowed": "a row whose own problem another row serves",
    "hole": "a problem that no row covers",
    "stale": "a table tuned for another code of its kernel",
    "unproved": "a table whose rows were proved against another reference",
    "outside": "a row outside its search space, which no session would find again",
    "alias": "a second name of one device",
}


@dataclass(frozen=True)
class Finding:
    """`kind` is one of KINDS."""

    kind: str
    place: str
    reason: str


def tables(root: Path) -> Iterator[Finding]:
    """Findings in every table under `root`. Raises TableError for a table that is not whole."""
    yield from _names(root)
    for path in sorted(root.glob("*/*/*/*.json")):
        loaded = table.load(path)
        arch, folder = path.parts[-4], path.parts[-3]
        if not _is_device(folder) or loaded.kernel not in registry.names():
            if loaded.kernel not in registry.names():
                yield Finding("dead", str(path), f"there is no kernel {loaded.kernel}")
            continue
        device = replace(devices.filed(folder), name=folder)  # a rehearsal is looked up under its own name
        if arch != device.arch:
            yield Finding("dead", str(path), f"{device.name} is {device.arch}: the lookup reads {device.arch}/")
            continue
        yield from _table(registry.load(loaded.kernel), device, root)


def holes(root: Path, device: Device, problems: Mapping[str, Sequence[Problem]]) -> Iterator[Finding]:
    """Problems, by kernel, that get another problem's row or the default."""
    for name, asked in problems.items():
        lookup = runtime.Lookup(registry.load(name), device, root)
        if asked and not lookup.rows:
            yield Finding("hole", f"{name} on {device.name}", f"no table: {len(asked)} problems get the default")
            continue
        for problem in asked:
            choice = lookup[tuple(value for _, value in key(problem))]
            if choice.is_miss:
                yield Finding("hole", f"{name} on {device.name}: {describe(problem)}", f"{choice.how}: {choice.reason}")


def missed(misses: Sequence[Miss]) -> dict[str, dict[str, list[Problem]]]:
    """Recorded misses as problems, by device and kernel. Raises UsageError for one that is no problem of its kernel."""
    found: dict[str, dict[str, list[Problem]]] = {}
    for miss in misses:
        kernel = registry.load(miss.kernel)
        problem: Problem = build(kernel.problem, dict(miss.problem), f"miss of {miss.kernel}")
        found.setdefault(miss.device, {}).setdefault(miss.kernel, []).append(problem)
    return found


def _table(kernel: Kernel[Any], device: Device, root: Path) -> Iterator[Finding]:
    lookup = runtime.Lookup(kernel, device, root)
    loaded = table.load(lookup.path)
    if loaded.source != kernel.identity.kernel:
        reason = f"tuned for source {loaded.source}, the kernel is {kernel.identity.kernel}; tune again"
        yield Finding("stale", str(lookup.path), reason)
    elif loaded.proof not in ("", kernel.identity.proof):
        reason = f"proved against reference {loaded.proof}, today's is {kernel.identity.proof}"
        yield Finding("unproved", str(lookup.path), f"{reason}; autotune validate {kernel.name} --device {device.name}")
    lists = space.load(kernel, device).lists
    for row in lookup.rows:
        place = f"{lookup.path}: " + ",".join(f"{name}={value}" for name, value in row.problem)
        dead, outside = _dead(kernel, device, row), _outside(row, lists)
        if outside:
            yield Finding("outside", place, outside)
        if dead:
            yield Finding("dead", place, dead)
        else:
            choice = lookup[tuple(value for _, value in row.problem)]
            if choice.row is not row:
                yield Finding("shadowed", place, f"its own problem gets the {choice.reason}")


def _dead(kernel: Kernel[Any], device: Device, row: Row) -> str | None:
    """Why no call ever gets the row."""
    try:
        problem: Problem = build(kernel.problem, dict(row.problem), "row")
    except UsageError as error:
        return f"no call makes this problem ({error})"
    if key(problem) != row.problem:
        return f"its fields are not those of the problem: {describe(problem)}"
    fields = kernel.problem.__dataclass_fields__
    for name in getattr(problem, "DRAWN", ()):
        if name != "dtype" and getattr(problem, name) != fields[name].default:
            return f"{name}={getattr(problem, name)}: a call cannot be told by it, and is {fields[name].default!r}"
    refusal = kernel.forbids(problem, row.config, device)
    return f"the kernel's rules refuse it: {refusal}" if refusal else None


def _outside(row: Row, lists: space.Lists) -> str | None:
    if row.tier == "imported":  # another project's space
        return None
    if row.config.keys() != lists.keys():
        return f"it sets {', '.join(row.config)}; the space has {', '.join(sorted(lists))}"
    off = [f"{name}={value}" for name, value in row.config.items() if value not in lists[name]]
    return f"the space has no {', '.join(off)}" if off else None


def _names(root: Path) -> Iterator[Finding]:
    """Folders that are no record: under another name of a device no lookup finds them."""
    plain = {re.sub(r"[^a-z0-9]", "", name): name for name in devices.names()}
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir() and not _is_device(path.name)):
        word = re.sub(r"[^a-z0-9]", "", folder.name.lower())
        device = plain.get(word) or devices.called(folder.name)
        if device:
            yield Finding("alias", str(folder), f"is {device}: move its tables to {device}/")
        else:
            yield Finding("dead", str(folder), "no device record has this name")


def _is_device(folder: str) -> bool:
    """True for the name of a device record, and for a rehearsal's folder: `mi355x` and `mi355x.simulated-7`."""
    return folder.partition(".simulated-")[0] in devices.names()
