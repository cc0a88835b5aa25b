"""An environment of the exam's own: unpacked wheels beside what they import, on a machine without a GPU.

Wheels whose kernels are examined are unpacked, never edited and never installed. What they require is installed by
name, in releases that agree with one another, without what only runs on CUDA or would replace torch and Triton.
"""

from __future__ import annotations

import re
import subprocess
import venv
import zipfile
from collections.abc import Iterable, Iterator
from email.parser import Parser
from pathlib import Path

from benchmarks.adopt.packages import WHEELS

TORCH = ("torch==2.13.0", "triton==3.9.0")
"""Installed first, and held. A CPU build of torch is found by PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS."""

_TORCHVISION = "torchvision==0.28.0"
"""The release for this torch, without what it requires; `_declare_operators` makes up for its library."""

_OWN = ("optuna>=5,<6", "pandas", "numpy", "pyyaml", "rich", "argcomplete", "pyelftools", "scipy", "threadpoolctl")
"""Packages that Autotune needs to adopt, prove and compile; it is itself run from its checkout."""

_ON_CUDA_ALONE = re.compile(
    r"torch|triton|cuda|nvidia|nvtx|nvshmem|pynvvideo|cutlass|flashinfer|flash-attn|tilelang|quack|tokenspeed|humming"
    r"|deep|sgl-|sglang|instanttensor|fastsafetensors|mathdx|decord|tml-|smg-|modelscope|datasets|av$"
)
"""Requirements that are left out: they bring CUDA or another torch, or serve tokens and pictures, not kernels."""


def prepare(folder: Path) -> None:
    """Make `folder/env` and `folder/site`; what is there already is kept. Raises CalledProcessError where pip fails."""
    wheels, site = folder / "wheels", folder / "site"
    python = folder / "env" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "env", with_pip=True)
    missing = [name for name, module in WHEELS.items() if not (site / module).is_dir()]
    if missing:
        wheels.mkdir(parents=True, exist_ok=True)
        _pip(python, "download", "--no-deps", "--only-binary", ":all:", "-d", str(wheels), *missing)
        for path in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(site)
    _pip(python, "install", *TORCH, *_OWN)
    _pip(python, "install", "--no-deps", _TORCHVISION)
    _declare_operators(folder / "env")
    _pip(python, "install", *TORCH, *sorted(required(site)))


def required(site: Path) -> Iterator[str]:
    """Yield names of what the unpacked wheels in `site` require, without extras and without what needs CUDA."""
    seen: set[str] = set()
    for path in sorted(site.glob("*.dist-info/METADATA")):
        lines: Iterable[str] = Parser().parsestr(path.read_text(encoding="utf-8")).get_all("Requires-Dist") or ()
        for line in lines:
            name = re.match(r"[\w.-]+", line)
            if name is None or re.search(r"extra\s*==|python_version\s*>|sys_platform\s*!=", line):
                continue
            known = re.sub(r"[-_.]+", "-", name[0]).lower()
            if known not in seen and not _ON_CUDA_ALONE.search(known):
                seen.add(known)
                yield known


def _declare_operators(environment: Path) -> None:
    """Let torchvision's module be imported: its operators are declared at its head, where its library does not load."""
    for path in environment.glob("lib/python*/site-packages/torchvision/__init__.py"):
        text = path.read_text(encoding="utf-8")
        if not text.startswith(_OPERATORS):
            path.write_text(_OPERATORS + text, encoding="utf-8")


_OPERATORS = """import torch
for _name in ("nms", "qnms"):
    torch.library.define(f"torchvision::{_name}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")
"""


def _pip(python: Path, *words: str) -> None:
    subprocess.run([str(python), "-m", "pip", "--quiet", *words], check=True)
