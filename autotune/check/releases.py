"""Releases of compilers from PyPI, each in its own folder under the state root; fetched once, whole or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from autotune import files
from autotune.errors import UsageError
from autotune.toolchain import order
from autotune.tuning.compilation.npu import tools
from autotune.tuning.compilation.npu.tools import Tools

_PYTHON_OF_PROGRAMS = "3.11"
"""The newest Python that has a wheel of triton-ascend 3.2.0."""


def release(package: str, version: str, root: Path) -> Path:
    """The folder that holds `package`; `13.5` means its newest patch at the time of fetching. Raises UsageError."""
    requirement = f"{package}=={version}" + (".*" if version.count(".") < 2 else "")
    return _once(root / f"{package}-{version}", lambda whole: _install(requirement, whole))


def npu_programs(package: str, version: str, root: Path) -> Path:
    """The folder with the programs of `package` that plan for NPUs, out of its wheel. Raises UsageError."""
    return _once(tools.folder(root, package, version), lambda whole: _unpack(package, version, whole))


def npu_tools(version: str, root: Path) -> Tools:
    """The compilers of NPU plans with a release of ascendnpu-ir, fetched where they are absent. Raises UsageError."""
    npu_programs(*tools.ADAPTER, root)
    npu_programs(tools.COMPILER[0], version, root)
    return tools.managed(root, version)


def versions(package: str) -> list[str]:
    """Final releases on the package index, oldest first. Raises UsageError."""
    found = _pip("index", "versions", package, "--json")
    return sorted(json.loads(found)["versions"], key=order)


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, which `make` fills under another name where it is absent: it is there whole or not at all."""
    if not folder.exists():
        with files.locked(folder.with_name(f".{folder.name}.lock")):
            if not folder.exists():
                temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
                try:
                    make(temporary / "whole")
                    (temporary / "whole").rename(folder)
                finally:
                    shutil.rmtree(temporary)
    return folder


def _install(requirement: str, whole: Path) -> None:
    _pip("install", "-q", "--no-deps", "--no-compile", "--only-binary=:all:", "--target", str(whole), requirement)


def _unpack(package: str, version: str, whole: Path) -> None:
    """Programs depend on no Python, so the wheel of one Python serves every other."""
    whole.mkdir()
    wanted = ("--no-deps", "--only-binary=:all:", "--python-version", _PYTHON_OF_PROGRAMS)
    _pip("download", "-q", *wanted, "--dest", str(whole), f"{package}=={version}")
    (wheel,) = whole.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        for member in tools.PROGRAMS[package]:
            program = whole / Path(member).name
            with opened.open(member) as packed, program.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked)
            program.chmod(0o755)
    wheel.unlink()


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UsageError(f"pip {' '.join(arguments)}: {why}; name a release that `pip index versions` lists")
    return done.stdout
