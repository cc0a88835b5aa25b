"""Binaries made beforehand: `use(folder)` lets Triton load what `autotune bundle` compiled; serving compiles nothing.

A bundle is a Triton cache and a manifest. Triton's own cache manager stores absolute paths and makes a folder for every
key; the one here finds files by name and writes nothing into the bundle, so that it may be moved, shared and read-only.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import triton
from triton.runtime.cache import FileCacheManager

from autotune import files, runtime, table
from autotune.config import Config, Key
from autotune.errors import TableError, UsageError
from autotune.toolchain import compiler_environment

FORMAT = 1
MANIFEST = "bundle.json"
CACHE = "triton"


@dataclass(frozen=True)
class Specialisation:
    """One call's binaries by Triton's keys; the problem stands for all that Triton does not tell apart."""

    kernel: str
    problem: Key
    config: Config
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """`tables` are content hashes of the tables that the binaries were made for, by kernel; "" where there is none."""

    arch: str
    device: str
    triton: str
    tables: dict[str, str]
    specialisations: tuple[Specialisation, ...]


class BundleCache(FileCacheManager):  # type: ignore[misc]
    """Reads from the bundle in use; what is not in it is Triton's ordinary cache, wherever that lies."""

    root: ClassVar[Path]

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        folder = self.root / key
        self._bundled = not override and not dump and folder.is_dir()
        if self._bundled:
            self.key, self.lock_path, self.cache_dir = key, None, str(folder)
        else:
            super().__init__(key, override, dump)

    def get_group(self, filename: str) -> dict[str, str] | None:
        if not self._bundled:
            found: dict[str, str] | None = super().get_group(filename)
            return found
        group = Path(self.cache_dir, f"__grp__{filename}")
        try:
            names = json.loads(group.read_text())["child_paths"]
        except (OSError, ValueError, KeyError):
            return None
        paths = {name: Path(self.cache_dir, Path(name).name) for name in names}
        return {name: str(path) for name, path in paths.items()} if all(p.is_file() for p in paths.values()) else None

    def put(self, data: Any, filename: str, binary: bool = True) -> str:  # noqa: ANN401
        if self._bundled:
            raise UsageError(f"{self.cache_dir}: the bundle is damaged: {filename} is missing; make it again")
        path: str = super().put(data, filename, binary)
        return path


def use(folder: Path) -> Manifest:
    """Loads from the bundle in `folder` from now on, in this process.

    Raises UsageError where it was made by another Triton, or for tables other than those that are here.
    """
    manifest = read(folder)
    if manifest.triton != triton.__version__:
        raise UsageError(f"{folder}: made by Triton {manifest.triton}, here is {triton.__version__}; make it again")
    stale = [kernel for kernel, made_for in manifest.tables.items() if table_hash(manifest, kernel) != made_for]
    if stale:
        raise UsageError(f"{folder}: made for other tables of {', '.join(stale)}; make it again")
    os.environ.update(compiler_environment())  # part of each binary's key, and set where bundles are made
    BundleCache.root = folder.resolve() / CACHE
    triton.knobs.cache.manager_class = BundleCache
    return manifest


def table_hash(manifest: Manifest, kernel: str) -> str:
    """The content hash of the table that is here now; "" where there is none. Raises TableError."""
    path = table.path_of(runtime.tables_root(), manifest.arch, manifest.device, kernel)
    return table.content_hash(table.load(path)) if path.exists() else ""


def read(folder: Path) -> Manifest:
    """Raises UsageError for a folder that holds no whole manifest."""
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError(f"format must be {FORMAT}, got {data['format']!r}")
        made = tuple(
            Specialisation(s["kernel"], tuple(s["problem"].items()), Config(s["config"]), tuple(s["keys"]))
            for s in data["specialisations"]
        )
        return Manifest(data["arch"], data["device"], data["triton"], dict(data["tables"]), made)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, TableError) as error:
        raise UsageError(f"{path}: not a bundle's manifest ({error!r}); make it with `autotune bundle`") from error


def write(manifest: Manifest, folder: Path) -> None:
    """Atomic; the binaries must be there already, so that a manifest never promises what is not."""
    rows = [
        {"kernel": s.kernel, "problem": dict(s.problem), "config": dict(s.config), "keys": list(s.keys)}
        for s in manifest.specialisations
    ]
    head = {"format": FORMAT, "arch": manifest.arch, "device": manifest.device, "triton": manifest.triton}
    text = json.dumps({**head, "tables": manifest.tables, "specialisations": rows}, indent=1, allow_nan=False) + "\n"
    files.write(folder / MANIFEST, text)
