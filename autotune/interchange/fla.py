"""FLA's config cache: a file a Triton function, an entry a key of its autotuner.

`load_cached_config` looks in FLA_CONFIG_DIR for a file named as the function. Where several kernels here have a
function of one name, each has a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import MISSING, replace
from functools import cache
from pathlib import Path
from typing import Any

from autotune import registry
from autotune.errors import UsageError
from autotune.foreign_text import read_loose_json
from autotune.interchange.entries import (
    Entry,
    File,
    Hints,
    LeftOut,
    Read,
    Written,
    keyed,
    problem_fields,
    reason_of,
    tiers_of,
)
from autotune.interchange.triton_cache import config_of, function_of, triton_config
from autotune.table import Table
from autotune.toolchain import recorded_triton


def read(path: Path, hints: Hints) -> Read:
    """The entries of one FLA config file. Raises UsageError."""
    data = read_loose_json(path)
    if not isinstance(data, dict) or "kernel_name" not in data:
        raise UsageError(f"{path}: not FLA's: it has no kernel_name")
    found = data.get("autotune_entries", {})
    if not isinstance(found, dict):
        raise UsageError(f"{path}: autotune_entries must be an object, got {type(found).__name__}")
    left: list[LeftOut] = []
    if "default_config" in data:
        left.append(LeftOut(str(path), "default_config", "is for every problem, and names none"))
    name = data["kernel_name"]
    kernel = hints.kernel or _kernel_of(str(name), path)
    if not kernel or not hints.device:
        reason = f"{name}: no kernel here, or no --device (FLA's folder has a marketing name)"
        return [], [*left, LeftOut(str(path), "", reason)]
    version = data.get("triton_version")
    known = isinstance(version, str) and re.fullmatch(r"[\w.+-]{1,40}", version)
    toolchain = f"triton {version}" if known else "unknown"
    entries = []
    for digest, entry in found.items():
        try:
            if not isinstance(entry, dict):
                raise UsageError(f"{digest}: must be an object, got {type(entry).__name__}")
            names = hints.key or _fields_of(entry.get("autotune_key"), kernel)
            problem = keyed(entry.get("autotune_key"), replace(hints, key=names), digest)
            config = config_of(entry.get("config"), digest)
        except UsageError as error:
            left.append(LeftOut(str(path), digest[:40], reason_of(error, digest)))
            continue
        origin = {"from": "fla", "file": path.name, "entry": digest}
        entries.append(Entry(path, digest[:40], kernel, hints.device, problem, config, {}, origin, (), toolchain))
    return entries, left


def write(tables: list[Table]) -> Written:
    """One file a table, under the name of the kernel's function."""
    files = {}
    for table in tables:
        entries = {}
        for row in table.rows:
            key = [value for _, value in row.problem]
            text = json.dumps(key, separators=(",", ":"), sort_keys=True, allow_nan=False)
            digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()  # FLA's own key
            entries[digest] = {"autotune_key": key, "config": triton_config(row)}
        versions = {version for row in table.rows if (version := recorded_triton(row.toolchain))}
        version = versions.pop() if len(versions) == 1 else None
        name = function_of(table.kernel)
        content = {"kernel_name": name, "triton_version": version, "autotune_entries": entries}
        folder = f"{table.device}/" if _functions()[name] == 1 else f"{table.device}/{table.kernel}/"
        files[f"{folder}{name}.json"] = File(
            json.dumps(content, indent=2, allow_nan=False) + "\n", tiers_of(list(table.rows))
        )
    return files, []


def _fields_of(values: Any, kernel: str) -> tuple[str, ...]:  # noqa: ANN401
    """Names of the problem's fields that a key gives: one written before the last ones were means their defaults."""
    names, declared = tuple(problem_fields(kernel)), registry.load(kernel).problem.__dataclass_fields__
    needed = sum(declared[name].default is MISSING for name in names)
    return names[: max(needed, len(values))] if isinstance(values, list) else names


@cache
def _functions() -> Counter[str]:
    """How many kernels have a function of each name."""
    return Counter(map(function_of, registry.names()))


def _kernel_of(function: str, path: Path) -> str:
    """The kernel whose function it is; of several, the one that the folders name."""
    found = [name for name in registry.names() if function_of(name) == function]
    named = [name for name in found if "/".join(path.parts[-3:-1]) == name]
    return (named or found)[0] if len(named or found) == 1 else ""
