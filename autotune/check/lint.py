"""Findings in tables that are whole but wrong: rows that serve no call, problems that no row serves."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import registry, runtime, table
from autotune.config import Problem, build, describe, describe_key, key
from autotune.device import Device
from autotune.errors import DeviceError, KernelError, SpaceError, TableError, UsageError, did_you_mean
from autotune.misses import Miss
from autotune.table import Row, Table
from autotune.tuning import space

if TYPE_CHECKING:
    from autotune.kernel import Kernel

KINDS = {
    "damaged": "a table that cannot be read",
    "misnamed": "a file that no lookup reads",
    "misfiled": "a table of another kernel or device than its path says",
    "empty": "a table without rows, or a folder without tables",
    "invalid": "a row with a value that no launch takes",
    "dead": "a row that the lookup can never reach",
    "shadowed": "a row whose own problem another row serves",
    "hole": "a problem that no row covers",
    "broken": "a table of a kernel whose file or search space cannot be used",
    "stale": "a table, a row or a miss of another code of its kernel",
    "unproved": "a table whose rows were proved against another reference",
    "self-proved": "a table whose rows were proved against their own kernel, at its author's first config",
    "outside": "a row outside its search space, which no session would find again",
    "alias": "a second name of one device",
}

_DEPTH = 4
"""Parts of a table's path under the root: arch, device, family, kernel."""


@dataclass(frozen=True)
class Finding:
    """`kind` is one of KINDS."""

    kind: str
    place: str
    reason: str


def tables(root: Path, kernels: Collection[str] | None = None) -> Iterator[Finding]:
    """Findings in every table under `root`, by path; a table that cannot be read is one, and the next is looked at.

    With `kernels`: in their tables alone.
    """
    yield from _names(root)
    # rglob enters no linked folder, the lookup does.
    files = {*root.rglob("*"), *root.glob("*/" * (_DEPTH - 1) + "*")}
    paths = sorted(path for path in files if path.name.lower().endswith(".json"))
    if not paths:
        yield Finding("empty", str(root), "no table is here; tune, import, or name another folder")
    for path in paths:
        if kernels is not None and _kernel_of(path) not in kernels:
            continue
        try:
            yield from _file(path, root)
        except (KernelError, SpaceError) as error:
            yield Finding("broken", str(path), str(error))
        except (TableError, OSError) as error:
            yield Finding("damaged", str(path), str(error).removeprefix(f"{path}: "))


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


def missed(misses: Sequence[Miss]) -> tuple[dict[str, dict[str, list[Problem]]], list[Finding]]:
    """Recorded misses as problems, by device and kernel; and a finding for each that is no problem of a kernel here."""
    problems: dict[str, dict[str, list[Problem]]] = {}
    stale: list[Finding] = []
    for miss in misses:
        try:
            devices.filed(miss.device)
            problem: Problem = build(registry.load(miss.kernel).problem, dict(miss.problem), "problem")
        except (UsageError, DeviceError) as error:
            place = f"miss of {miss.kernel} on {miss.device}: {describe_key(miss.problem)}"
            stale.append(Finding("stale", place, f"it was recorded by another release ({error})"))
            continue
        problems.setdefault(miss.device, {}).setdefault(miss.kernel, []).append(problem)
    return problems, stale


def _file(path: Path, root: Path) -> Iterator[Finding]:
    """Findings in one file. Raises TableError where it is no whole table."""
    parts = path.relative_to(root).parts
    if len(parts) != _DEPTH or path.suffix != ".json" or path.name.startswith("."):
        yield Finding("misnamed", str(path), "the lookup reads ARCH/DEVICE/FAMILY/KERNEL.json alone; move or rename it")
        return
    loaded = table.load(path)
    arch, folder, kernel = parts[0], parts[1], _kernel_of(path)
    if not _is_device(folder):
        return  # said of the folder
    device = replace(devices.filed(folder), name=folder)  # a rehearsal is looked up under its own name
    if kernel not in registry.names():
        near = did_you_mean(kernel, registry.names())
        remedy = (
            near if near.startswith("; did you mean") else "; name its file too if it is your own: autotune lint FILE"
        )
        yield Finding("dead", str(path), f"no kernel {kernel} is known here{remedy}")
    elif arch != device.arch:
        yield Finding("dead", str(path), f"{device.name} is {device.arch}: the lookup reads {device.arch}/")
    elif (loaded.kernel, loaded.arch, loaded.device) != (kernel, arch, folder):
        reason = f"is a table of {loaded.kernel} for {loaded.arch}/{loaded.device}; move it to that folder"
        yield Finding("misfiled", str(path), reason)
    elif not loaded.rows:
        yield Finding("empty", str(path), "the table has no rows: every call gets the default; tune, or remove it")
    else:
        yield from _table(registry.load(kernel), device, loaded, root)


def _kernel_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name.removesuffix('.json')}"


def _table(kernel: Kernel[Any], device: Device, loaded: Table, root: Path) -> Iterator[Finding]:
    lookup = runtime.Lookup(kernel, device, root)
    if loaded.source != kernel.identity.kernel:
        reason = f"tuned for source {loaded.source}, the kernel is {kernel.identity.kernel}; tune again"
        yield Finding("stale", str(lookup.path), reason)
    elif loaded.proof not in ("", kernel.identity.proof):
        reason = f"proved against reference {loaded.proof}, today's is {kernel.identity.proof}"
        yield Finding("unproved", str(lookup.path), f"{reason}; autotune validate {kernel.name} --device {device.name}")
    if own := sum(row.evidence.get("proved_against") == "itself" for row in lookup.rows):
        reason = f"{own} of {len(lookup.rows)} rows are proved against their own kernel alone; give it a reference"
        yield Finding("self-proved", str(lookup.path), reason)
    for row, flaw in lookup.flaws.items():
        yield Finding(flaw.kind, f"{lookup.path}: {describe_key(row.problem)}", flaw.reason)
    lists = space.load(kernel, device).lists
    for row in lookup.rows:
        place = f"{lookup.path}: {describe_key(row.problem)}"
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
    """Why no call ever gets the row, which is whole."""
    problem: Problem = build(kernel.problem, dict(row.problem), "row")
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
