"""Parameterized Triton kernels, one a file, one folder a family; import them as `autotune.kernels`."""

import sys
from importlib import import_module
from pathlib import Path


def publish(family: str) -> None:
    """Binds every kernel of a family package to its own name, so that `family.kernel(...)` is a plain call."""
    package = sys.modules[family]
    for path in sorted(Path(package.__path__[0]).glob("[!_]*.py")):
        setattr(package, path.stem, getattr(import_module(f"{family}.{path.stem}"), path.stem))
