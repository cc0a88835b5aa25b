"""Compilers as objects: a release of Triton, ptxas or ascendnpu-ir, an environment, or what is installed here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import triton

from autotune.check import releases
from autotune.errors import UsageError
from autotune.toolchain import NEWEST, PROVE, TUNE, compiler_environment, remedy, require, supports
from autotune.tuning.compilation.npu.tools import COMPILER

SPELLINGS = f"`installed`, `triton=={NEWEST}`, `ptxas==13.5` or `ascendnpu-ir=={COMPILER[1]}`"
"""Forms of a toolchain's name, in words."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler and how to run it; equal identities make equal binaries."""

    name: str
    python: str
    version: str
    triton: Path
    """The folder of the package `triton` that the process imports."""
    path: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    npu_release: str = COMPILER[1]
    """Version of ascendnpu-ir, which plans for NPUs."""

    @property
    def identity(self) -> str:
        """Name and a stamp of the files that compile, so that a nightly build of the same name is another compiler."""
        files = [*sorted((self.triton / "_C").glob("*.so")), *self._assemblers()]
        stamps = [f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files]
        own = [f"{name}={value}" for name, value in self.environment if not name.startswith("TRITON_PTXAS")]
        return " ".join([self.name, f"ascendnpu-ir {self.npu_release}", *own, *stamps])

    @property
    def can_interpret(self) -> bool:
        return supports(PROVE, self.version)

    def process_environment(self) -> dict[str, str]:
        """Variables of a process of this toolchain; PYTHONPATH holds its own Triton and nothing of ours."""
        inherited = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("TRITON_")}
        return {
            **inherited,
            "PYTHONPATH": os.pathsep.join(self.path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            **compiler_environment(),
            **dict(self.environment),
        }

    def _assemblers(self) -> list[Path]:
        chosen = [Path(value) for name, value in self.environment if name.startswith("TRITON_PTXAS")]
        return sorted(set(chosen)) or sorted((self.triton / "backends/nvidia/bin").glob("ptxas*"))


def installed() -> Toolchain:
    """The Triton that this process imports."""
    return Toolchain(
        f"triton {triton.__version__}",
        sys.executable,
        triton.__version__,
        Path(triton.__file__).parent,
        (str(Path(triton.__file__).parents[1]),),
    )


def named(spec: str, state: Path) -> Toolchain:
    """`installed`, or a release of one of PACKAGES, fetched where it is not there yet. Raises UsageError."""
    package, equals, version = spec.partition("==")
    if spec == "installed":
        return installed()
    if package not in PACKAGES or not equals or not re.fullmatch(r"\d+\.\d+(\.\d+)?(rc\d+|\.post\d+)?", version):
        raise UsageError(f"toolchain {spec!r}: write {SPELLINGS}")
    return PACKAGES[package](version, state / "toolchains")


def of_environment(folder: Path) -> Toolchain:
    """Whatever Triton the virtual environment `folder` holds. Raises UsageError."""
    python = folder / "bin/python"
    probe = "import importlib.util as u, sys; print(sys.version_info[:2] >= (3, 11)); "
    probe += "print(*(s.origin if (s := u.find_spec(n)) else 'None' for n in ('triton', 'torch')), sep='\\n')"
    try:
        done = subprocess.run([python, "-P", "-c", probe], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"{folder}: no environment with Python 3.11 or newer ({error}); name one") from error
    fresh, triton_file, torch_file = done.stdout.split("\n")[:3]
    if fresh != "True" or "None" in (triton_file, torch_file):
        raise UsageError(f"{folder}: needs Python 3.11 or newer, triton and torch; install them there")
    package = Path(triton_file).parent
    version = _version_of(package)
    return Toolchain(f"triton {version} ({folder})", str(python), version, package)


def _triton(version: str, root: Path) -> Toolchain:
    require(TUNE, version)
    if version == triton.__version__:
        return installed()
    folder = releases.release("triton", version, root)
    found = _version_of(folder / "triton")
    return Toolchain(f"triton {found}", sys.executable, found, folder / "triton", (str(folder),))


def _ptxas(version: str, root: Path) -> Toolchain:
    package = "nvidia-cuda-nvcc" if int(version.split(".")[0]) >= 13 else "nvidia-cuda-nvcc-cu12"
    folder = releases.release(package, version, root)
    binary = next(iter(sorted(folder.glob("nvidia/*/bin/ptxas"))), None)
    if binary is None:
        raise UsageError(f"{folder}: {package} {version} holds no ptxas; name another release")
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"V([\d.]+)", text)
    name = f"triton {triton.__version__}, ptxas {number[1] if number else version}"
    both = tuple((variable, str(binary)) for variable in ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH"))
    here = installed()
    return Toolchain(name, here.python, here.version, here.triton, here.path, both)


def _ascend(version: str, root: Path) -> Toolchain:
    releases.npu_tools(version, root)
    here = installed()
    return replace(here, name=f"{here.name}, ascendnpu-ir {version}", npu_release=version)


PACKAGES: dict[str, Callable[[str, Path], Toolchain]] = {"triton": _triton, "ptxas": _ptxas, "ascendnpu-ir": _ascend}


def _version_of(package: Path) -> str:
    found = re.search(r"__version__ = ['\"]([^'\"]+)", (package / "__init__.py").read_text(encoding="utf-8"))
    if not found:
        raise UsageError(f"{package}: its __init__.py names no __version__; {remedy()}")
    return found[1]
