"""Python files and tables of an engine's release, taken out of its wheel on the package index: nothing is installed.

A wheel is a zip file: its directory and the files that are wanted are asked for by HTTP range requests, 7 MB of the
336 MB of vLLM 0.33.
"""

from __future__ import annotations

import importlib.util
import io
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from autotune import files
from autotune.errors import UsageError
from autotune.interchange.plugins import HOMES, SWITCHES

INDEX = "https://pypi.org/simple"
_JSON = "application/vnd.pypi.simple.v1+json"
_CHUNK = 1 << 20
"""Bytes of one request at least: wanted files lie close together."""
_PLUGINS = {
    "vllm": ("vllm/plugins/__init__.py",),
    "sglang": ("sglang/srt/plugins/__init__.py", "sglang/srt/environ.py"),
}


@dataclass(frozen=True)
class Release:
    """One engine and the folder that holds its package; `version` is empty for one that is installed here."""

    engine: str
    version: str
    folder: Path

    def text(self, module: str) -> str | None:
        """Source of a module; None where the release has none of that name."""
        path = self.folder / f"{module.replace('.', '/')}.py"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def tables(self) -> list[Path]:
        """Every JSON file in a folder called `configs`."""
        root = self.folder / self.engine
        return sorted(path for path in root.rglob("*.json") if "configs" in path.relative_to(root).parts)


def find(wanted: str, root: Path) -> Release:
    """Return `vllm==0.33.0` from the index, kept under `root`; or `vllm` as installed here. Raises UsageError."""
    engine, equals, version = wanted.partition("==")
    if engine not in HOMES:
        raise UsageError(f"--engine {wanted}: must be one of {', '.join(sorted(HOMES))}, perhaps with ==VERSION")
    if not equals:
        spec = importlib.util.find_spec(engine)
        if spec is None or spec.origin is None:
            raise UsageError(f"--engine {engine}: it is not installed here; name a release, such as {engine}==0.5.0")
        return Release(engine, "", Path(spec.origin).parents[1])
    folder = root / f"{engine}-{version}-source"
    with files.locked(root / f".{folder.name}.lock"):
        if not folder.exists():
            try:
                _fetch(engine, version, folder)
            except (URLError, zipfile.BadZipFile, OSError) as error:
                raise UsageError(
                    f"--engine {wanted}: cannot be read from {INDEX} ({error}); try again later"
                ) from error
    return Release(engine, version, folder)


def _fetch(engine: str, version: str, folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with zipfile.ZipFile(RangeFile(_wheel(engine, version))) as archive:
            chosen = [one for one in archive.infolist() if is_wanted(engine, one.filename)]
            for one in sorted(chosen, key=lambda one: one.header_offset):
                archive.extract(one, temporary / "whole")
        (temporary / "whole").rename(folder)
    finally:
        shutil.rmtree(temporary)


def is_wanted(engine: str, name: str) -> bool:
    """True for modules that hold a lookup or a switch, for the plugin loader, metadata and tables."""
    modules = [*(module for homes in HOMES[engine].values() for module in homes), *(m for m, _ in SWITCHES[engine])]
    paths = {*(f"{module.replace('.', '/')}.py" for module in modules), *_PLUGINS[engine]}
    return name in paths or name.endswith(".dist-info/METADATA") or ("/configs/" in name and name.endswith(".json"))


def _wheel(engine: str, version: str) -> str:
    """URL of a wheel for Linux on x86; of several Python versions the newest. Raises UsageError."""
    listed: Any = json.loads(_get(f"{INDEX}/{engine}/", {"Accept": _JSON}))
    pattern = re.compile(rf"{engine}-{re.escape(version)}-.*(?:x86_64|any)\.whl")
    found = [one["url"] for one in listed["files"] if pattern.fullmatch(one["filename"])]
    if not found:
        raise UsageError(
            f"{engine}=={version}: {INDEX} has no such wheel; `pip index versions {engine}` lists releases"
        )
    return str(sorted(found, key=lambda url: url.rpartition("/")[2])[-1])


def _get(url: str, headers: dict[str, str]) -> bytes:
    with urlopen(Request(url, headers=headers), timeout=60) as answer:
        content: bytes = answer.read()
    return content


class RangeFile(io.RawIOBase):
    """A file on a server, read piece by piece. Raises UsageError where the server knows no ranges."""

    def __init__(self, url: str) -> None:
        super().__init__()
        with urlopen(Request(url, method="HEAD"), timeout=60) as answer:
            self._size = int(answer.headers["Content-Length"])
        self._url, self._at, self._start, self._kept = url, 0, 0, b""

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        wanted = min(len(buffer), self._size - self._at)
        if not self._start <= self._at <= self._at + wanted <= self._start + len(self._kept):
            end = min(self._size, self._at + max(wanted, _CHUNK)) - 1
            self._kept = _get(self._url, {"Range": f"bytes={self._at}-{end}"})
            self._start = self._at
            if len(self._kept) != end - self._at + 1:
                raise UsageError(f"{self._url}: the server answers no range requests; name an engine that is installed")
        offset = self._at - self._start
        buffer[:wanted] = self._kept[offset : offset + wanted]
        self._at += wanted
        return wanted


def functions(source: str, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Parameters of the functions with these names at the top of a module."""
    import ast

    found = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name in names)
    return {node.name: tuple(argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)) for node in found}
