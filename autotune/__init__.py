"""Tunes parameterized Triton kernels per GPU architecture, proves them right, and serves the tables.

The names are loaded on first use: validation must set Triton's interpreter mode before Triton is imported.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autotune.adopt.capture import capture
    from autotune.adopt.serving import serve
    from autotune.config import Config
    from autotune.declared_problem import problem
    from autotune.device import Device
    from autotune.kernel import Kernel, tunable
    from autotune.runtime import choose, explain

__all__ = ["Config", "Device", "Kernel", "capture", "choose", "explain", "problem", "serve", "tunable"]

_HOME = {"Config": "config", "Device": "device", "Kernel": "kernel", "tunable": "kernel"}
_HOME |= {"choose": "runtime", "explain": "runtime", "capture": "adopt.capture"}
_HOME |= {"problem": "declared_problem", "serve": "adopt.serving"}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _HOME:
        return getattr(import_module(f"autotune.{_HOME[name]}"), name)
    raise AttributeError(f"module 'autotune' has no attribute {name!r}")
