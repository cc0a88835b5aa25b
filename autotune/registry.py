"""Finds kernels by walking `kernels/`: a file without a leading underscore in a family folder is a kernel."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from autotune.kernel import Kernel

KERNELS = Path(__file__).parent / "kernels"


def names() -> list[str]:
    """`family/kernel` of every kernel, sorted."""
    return sorted(f"{p.parent.name}/{p.stem}" for p in KERNELS.glob("*/*.py") if not p.stem.startswith("_"))


def check(name: str) -> None:
    """Raises UsageError unless there is a kernel `name`. Imports nothing, where `load` imports Torch and Triton."""
    if not _is_kernel(name):
        raise UsageError(f"unknown kernel {name!r}{did_you_mean(name, names())}")


def _is_kernel(name: str) -> bool:
    """True if `names` would list `name`; asks for one file, as walking all of them costs 8 ms, at every `load`."""
    family, _, stem = name.partition("/")
    is_public = family.isidentifier() and stem.isidentifier() and not stem.startswith("_")
    return is_public and (KERNELS / family / f"{stem}.py").is_file()


def load(name: str) -> Kernel[Any]:
    """The kernel `family/kernel`. Raises UsageError; PackageError where torch or Triton is not installed."""
    check(name)
    family, stem = name.split("/")
    kernel = getattr(import_module(f"autotune.kernels.{family}.{stem}"), stem)
    from autotune.kernel import Kernel

    assert isinstance(kernel, Kernel), f"{name}: the public name of the file must be made by @tunable"
    return kernel
