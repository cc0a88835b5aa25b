"""DeepSeek's TileKernels in plain torch, read from its wheel; its own packages import tilelang, which needs a GPU.

`make oracle` installs it. Modules of torch code are imported as they are, packages as empty ones, and
tilelang as a stand-in that accepts everything.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from unittest.mock import MagicMock

import pytest

PACKAGES = ("tile_kernels", "tile_kernels.torch", "tile_kernels.quant", "tile_kernels.moe")
TILELANG = ("tilelang", "tilelang.language", "tilelang.contrib", "tilelang.utils", "tilelang.utils.target")


def load(module: str) -> ModuleType:
    """`tile_kernels.torch.<module>`; skips the test where the wheel is not installed."""
    spec = find_spec("tile_kernels")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("tile_kernels is not installed")
    (root,) = spec.submodule_search_locations
    with pytest.MonkeyPatch.context() as patch:
        for name in TILELANG:
            patch.setitem(sys.modules, name, MagicMock(name=name))
        for name in PACKAGES:
            package = ModuleType(name)
            package.__path__ = ["/".join((root, *name.split(".")[1:]))]
            patch.setitem(sys.modules, name, package)
        return importlib.import_module(f"tile_kernels.torch.{module}")
