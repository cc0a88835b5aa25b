"""Our tables beside an engine's release: the rows that it would read, those that it never does, and dead files of its
own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from autotune import device as devices
from autotune import registry, row_check, table
from autotune.check.engine_source import Release, functions
from autotune.check.lint import Finding
from autotune.device import Device
from autotune.errors import DeviceError
from autotune.interchange import vllm_sglang_write
from autotune.interchange.engine_rows import REDUCTION
from autotune.interchange.plugins import ARGUMENTS, DENSE, EXPERTS, HOMES
from autotune.interchange.vllm_sglang import NAME
from autotune.table import Table

_FOLDERS = {DENSE: "quantization", EXPERTS: "moe"}
"""A part of the path of each lookup's tables, in both engines and in all releases seen."""


@dataclass(frozen=True)
class Read:
    """One file of the engine's form, and our rows in it by tier."""

    device: str
    name: str
    tiers: str


def read(root: Path, release: Release) -> tuple[list[Read], list[Finding]]:
    """Files of our rows under `root` that the release would read, and what is dead there or in the release itself.

    Raises TableError for a table that is not whole.
    """
    gone = list(moved(release))
    found, findings = [], [*gone, *_unread(release)]
    for device, tables in _tables(root).items():
        files, left = vllm_sglang_write.write(tables, release.engine)
        if not gone:
            found += [
                Read(device, name, ", ".join(f"{count} {tier}" for tier, count in file.tiers.items()))
                for name, file in sorted(files.items())
            ]
        findings += [Finding("dead", f"{entry.place}: {entry.entry}", entry.reason) for entry in left]
    return found, findings


def moved(release: Release) -> Iterator[Finding]:
    """Lookups that are not as the plugin knows them: no row of ours reaches that engine through it."""
    for name, homes in HOMES[release.engine].items():
        seen = [functions(source, [name]).get(name) for home in homes if (source := release.text(home))]
        parameters = next(filter(None, seen), None)
        if parameters is None:
            yield Finding("dead", f"{release.engine} {release.version}: {name}", f"it is in none of {', '.join(homes)}")
        elif parameters != ARGUMENTS[name][: len(parameters)]:
            reason = f"its parameters are {', '.join(parameters)}, which this release of autotune does not know"
            yield Finding("dead", f"{release.engine} {release.version}: {name}", reason)


def _tables(root: Path) -> dict[str, list[Table]]:
    """Tables of kernels for which the engines have a lookup, with the rows that may serve, by device."""
    found: dict[str, list[Table]] = {}
    for path in sorted(path for name in REDUCTION for path in root.glob(f"*/*/{name}.json")):
        loaded = table.load(path)
        try:
            device: Device = devices.named(loaded.device)
        except DeviceError:
            continue  # a rehearsal's, or another record's: lint names it
        rows, _ = row_check.whole(loaded.rows, registry.load(loaded.kernel), device)
        found.setdefault(device.name, []).append(replace(loaded, rows=rows))
    return found


def _unread(release: Release) -> Iterator[Finding]:
    """The release's own tables in folders of the two lookups whose names the lookups never build."""
    space = "" if release.engine == "vllm" else " "
    for path in release.tables():
        parts = path.relative_to(release.folder).parts
        if not any(folder in part for folder in _FOLDERS.values() for part in parts[:-1]):
            continue
        reason = _never_asked(path.name, release.engine, space)
        if reason:
            yield Finding("dead", "/".join(parts), reason)


def _never_asked(name: str, engine: str, space: str) -> str | None:
    match = NAME.fullmatch(name)
    if match is None:
        return None  # another lookup's
    block, device = match["block"], match["device"]
    if block and block.replace(" ", "").replace(",", f",{space}") != block:
        return f"{engine} writes the blocks of a name as [{block.replace(' ', '').replace(',', ',' + space)}]"
    if engine == "vllm" and match["e"] and "H200" in re.split("_", device) and device != "NVIDIA_H200":
        return "vllm asks for NVIDIA_H200 on every GPU of that family"
    return None
