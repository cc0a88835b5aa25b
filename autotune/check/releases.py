"""Releases of compilers from PyPI, each in its own folder under the state root; fetched once, whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from autotune import files
from autotune.errors import UsageError
from autotune.toolchain import order


def release(package: str, version: str, root: Path) -> Path:
    """The folder that holds `package`; `13.5` means its newest patch at the time of fetching. Raises UsageError."""
    folder = root / f"{package}-{version}"
    if not folder.exists():
        with files.locked(root / f".{folder.name}.lock"):
            if not folder.exists():
                _fetch(f"{package}=={version}" + (".*" if version.count(".") < 2 else ""), folder)
    return folder


def versions(package: str) -> list[str]:
    """Final releases on the package index, oldest first. Raises UsageError."""
    found = _pip("index", "versions", package, "--json")
    return sorted(json.loads(found)["versions"], key=order)


def _fetch(requirement: str, folder: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        target = str(temporary / "whole")
        _pip("install", "-q", "--no-deps", "--no-compile", "--only-binary=:all:", "--target", target, requirement)
        (temporary / "whole").rename(folder)
    finally:
        shutil.rmtree(temporary)


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UsageError(f"pip {' '.join(arguments)}: {why}; name a release that `pip index versions` lists")
    return done.stdout
