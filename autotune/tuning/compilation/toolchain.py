"""Names of the compiler that is installed here, as they go into caches and rows."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import triton

_BIN = Path(triton.__file__).parent / "backends/nvidia/bin"


@cache
def toolchain(arch: str) -> str:
    """`triton 3.9.0, ptxas 13.4.59` for NVIDIA, `triton 3.9.0` for AMD, whose LLVM is part of Triton."""
    if arch.startswith("gfx"):
        return f"triton {triton.__version__}"
    from triton.backends.nvidia.compiler import get_ptxas

    ptxas = get_ptxas(int(arch.removeprefix("sm_")))
    text = subprocess.run([ptxas.path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"V([\d.]+)", text)
    return f"triton {triton.__version__}, ptxas {found.group(1) if found else 'unknown'}"
