"""The compilers of NPU plans: programs of two wheels on PyPI, run one at a time under a limit of processor time.

TTIR -> `triton-adapter-opt` (wheel triton-ascend) -> Linalg -> `bishengir-compile` (wheel ascendnpu-ir) -> planned
HIVM. The last step to machine code, `hivmc`, is part of Huawei's CANN alone; a stand-in answers for it and makes none.
"""

from __future__ import annotations

import os
import re
import resource
import shlex
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autotune.errors import ToolchainError

ADAPTER = ("triton-ascend", "3.2.0")
COMPILER = ("ascendnpu-ir", "1.2.0")
"""Package and release that plans are made with where no other is named."""

PROGRAMS = {
    "triton-ascend": ("triton/backends/ascend/triton-adapter-opt",),
    "ascendnpu-ir": ("ascendnpuir/bin/bishengir-compile", "ascendnpuir/bin/bishengir-compile-a5"),
}
"""Paths of the programs in each package's wheel."""

HOW_TO_FETCH = "`autotune compile --fetch --target ascend910b` brings them (215 MB from PyPI)"

_CPU_S = 60
"""Healthy runs take 0.1 to 1.3 s, the slowest that ended 46 s; sorting on the 910B has not ended within minutes."""
_STAND_IN = """#!/bin/sh
[ "$1" = --version ] && echo "hivmc {release}"
for word; do case $word in *.mlir) cp "$word" {kept};; esac; done
exit 0
"""
"""Keeps the module that it is given to assemble; releases before 1.2.0 have no option that saves it."""
_ERRORS = re.compile(r"error: (?!External hivmc|Failed to run)(.*)(?:\n(.*))?")
_ABORTS = re.compile(r"(Assertion .*|LLVM ERROR: .*|UNREACHABLE .*|.*: not implemented.*)", re.IGNORECASE)


class Stopped(Exception):
    """A launch that a program does not take further; `at` names the stage, adapter or planner. Data, not an error."""

    def __init__(self, at: str, why: str) -> None:
        super().__init__(f"{at}: {why}")
        self.at, self.why = at, why


@dataclass(frozen=True)
class Tools:
    """Where the programs lie."""

    adapter: Path
    compilers: Path
    """Folder of `bishengir-compile` and `bishengir-compile-a5`."""
    release: str
    """Version of ascendnpu-ir."""

    @property
    def name(self) -> str:
        return f"triton-adapter-opt {ADAPTER[1]}, bishengir {self.release}"


def folder(root: Path, package: str, release: str) -> Path:
    """The folder of a package's programs under `root`, present or not."""
    return root / f"{package}-{release}"


def managed(root: Path, release: str = COMPILER[1]) -> Tools:
    """The programs under `root`, the managed toolchains. Raises ToolchainError, with the command that brings them."""
    adapter = folder(root, *ADAPTER) / "triton-adapter-opt"
    compilers = folder(root, COMPILER[0], release)
    for program in (adapter, compilers / "bishengir-compile"):
        if not program.exists():
            raise ToolchainError(f"{program}: the compilers for NPUs are not there; {HOW_TO_FETCH}")
    return Tools(adapter, compilers, release)


def to_linalg(ttir: str, chip: str, tools: Tools) -> str:
    """Return the Linalg that `triton-adapter-opt` makes of TTIR. Raises Stopped.

    Options: compiler.py of triton-ascend 3.2.0.
    """
    a5 = _is_950(chip)
    form = f"compile-on-910-95={a5} force-simt-template=False"
    passes = [
        f"--discrete-mask-access-conversion={form}",
        "--triton-to-annotation",
        f"--triton-to-unstructure={form}",
        *("--triton-to-hivm", "--triton-to-hfusion", "--triton-to-llvm", "--bubble-up-operation"),
        "--triton-to-linalg=global-kernel=false named-ops=True enable-nd2nz-on-vector=False "
        f"enable-select-analysis={a5} compile-on-910-95={a5}",
    ]
    with tempfile.TemporaryDirectory() as place:
        source, target = Path(place, "kernel.ttir.mlir"), Path(place, "kernel.linalg.mlir")
        source.write_text(ttir, encoding="utf-8")
        _run("adapter", [str(tools.adapter), str(source), *passes, "-o", str(target)], Path(place))
        # triton-ascend reads the mode and removes it before the next program, which does not know it.
        return re.sub(r', mix_mode\s*=\s*"[^"]*"', "", target.read_text(encoding="utf-8"))


def to_hivm(linalg: str, chip: str, tools: Tools) -> str:
    """The planned HIVM that `bishengir-compile` makes of Linalg for a chip, such as Ascend910B2. Raises Stopped.

    Buffers are doubled and vector work is bound to both vector cores on the 910 and not on the 950, as triton-ascend
    3.2.0 does.
    """
    a5 = _is_950(chip)
    program = "bishengir-compile-a5" if a5 else "bishengir-compile"
    with tempfile.TemporaryDirectory() as place:
        source, kept = Path(place, "kernel.linalg.mlir"), Path(place, "planned.hivm")
        source.write_text(linalg, encoding="utf-8")
        for name in ("hivmc", "hivmc-a5"):
            stand_in = Path(place, name)
            script = _STAND_IN.format(release=tools.release, kept=shlex.quote(str(kept)))
            stand_in.write_text(script, encoding="utf-8")
            stand_in.chmod(0o755)
        command = [
            *(str(tools.compilers / program), str(source), f"--target={chip}"),
            *("--enable-hfusion-compile=true", "--enable-triton-kernel-compile=true"),
            *(() if a5 else ("--enable-hivm-compile=true",)),
            f"--enable-auto-multi-buffer={not a5}",
            f"--enable-auto-bind-sub-block={not a5}",
            *("-o", str(Path(place, "kernel"))),
        ]
        _run("planner", command, Path(place))
        if not kept.exists():
            raise Stopped("planner", f"{program} gave no planned module to its assembler")
        return kept.read_text(encoding="utf-8")


def _is_950(chip: str) -> bool:
    return chip.startswith("Ascend950")


def _run(stage: str, command: list[str], place: Path) -> None:
    """Raises Stopped for a program that fails, crashes, or takes longer than its processor time."""
    environment = {**os.environ, "PATH": f"{place}{os.pathsep}{os.environ.get('PATH', '')}"}
    with Path(place, "said").open("w+b") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment, cwd=place
        )
        with suppress(ProcessLookupError):  # it has ended already
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
        code = process.wait()
        said.seek(0)
        text = said.read().decode(errors="replace")
    if code in (-signal.SIGKILL, -signal.SIGXCPU):
        raise Stopped(stage, f"took longer than {_CPU_S} s of processor time and was killed")
    if code:
        raise Stopped(stage, complaint(text) or f"ended with code {code} and said nothing")


def complaint(text: str) -> str:
    """Return the words of a program about its failure: its errors and assertions, each once, 300 characters of all.

    A syntax error names what was expected, so the line that it stands in follows.
    """
    found = [
        f"{said.strip()} in {line.strip()}" if said.startswith("expected") and line else said.strip()
        for said, line in _ERRORS.findall(text)
    ]
    found += [said.strip() for said in _ABORTS.findall(text)]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(found or lines[-1:]))[:300]
