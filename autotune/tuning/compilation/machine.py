"""Check that this machine can compile at all, when a compilation fails and before its config is blamed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from autotune.errors import MachineError

_ROOM_BYTES = 1 << 20
"""The largest binaries of these kernels have 0.3 MB."""
_EMPTY = ".version 8.0\n.target sm_80\n.address_size 64\n"
_PATHS = ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH")


def check(arch: str) -> None:
    """Raises MachineError where temporary files or the compiler's cache cannot be written, or where the assembler
    for `arch` cannot assemble an empty module."""
    for folder in (tempfile.gettempdir(), os.environ.get("TRITON_CACHE_DIR")):
        if folder is not None:
            check_room(Path(folder))
    if arch.startswith("sm_"):
        check_named_assemblers()
        _check_assembler(arch)


def check_room(folder: Path) -> None:
    """Raises MachineError where 1 MiB cannot be written into `folder`, which is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\1" * _ROOM_BYTES)
            file.flush()
    except OSError as error:
        raise MachineError.of(error, folder) from error


@cache
def check_named_assemblers() -> None:
    """Raises MachineError where the environment names an assembler that does not run: Triton silently takes its own
    instead. Once a process."""
    for name in _PATHS:
        if path := os.environ.get(name):
            _run([path, "--version"], f"{name}={path}", f"correct or unset {name}")


def _check_assembler(arch: str) -> None:
    from triton.backends.nvidia.compiler import get_ptxas, sm_arch_from_capability

    capability = int(arch.removeprefix("sm_"))
    try:
        path = get_ptxas(capability).path
    except RuntimeError as error:
        raise MachineError(f"ptxas for {arch}: {error}; install Triton again") from error
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.ptx")
        source.write_text(_EMPTY, encoding="utf-8")
        command = [path, f"--gpu-name={sm_arch_from_capability(capability)}", str(source), "-o", f"{source}.o"]
        remedy = f"install Triton again, or correct {' and '.join(_PATHS)} where they are set"
        _run(command, f"{path}, given an empty module,", remedy)
        if not Path(f"{source}.o").exists():
            raise MachineError(f"{path} wrote nothing for an empty module; install Triton again")


def _run(command: list[str], name: str, remedy: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MachineError(f"{name} does not run ({error}); {remedy}, then run the same command again") from error
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()[:1]
        ended = f"ends with code {done.returncode}" + (f" ({said[0][:200]})" if said else "")
        raise MachineError(f"{name} {ended}; {remedy}, then run the same command again")
