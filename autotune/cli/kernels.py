"""KERNEL arguments of commands: names, files, folders and launchers; a kernel that is broken is told and left out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import registry, runtime
from autotune.device import Device
from autotune.errors import AutotuneError, UsageError, told

if TYPE_CHECKING:
    from autotune.kernel import Kernel

FORMS = "a name (`autotune list`), a Python file, a folder of them, or package.module:launcher"


def add_kernel(parser: argparse.ArgumentParser, **more: Any) -> None:  # noqa: ANN401
    """Add the positional argument `kernel`, which means one kernel."""
    parser.add_argument("kernel", help=f"{FORMS}{more.pop('also', '')}", **more)


def add_kernels(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the positional arguments `kernels`, of which each may mean several; `default` says what none means."""
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=f"{FORMS} (default: {default})")


def kernel_names(given: Sequence[str]) -> list[str]:
    """Names of the kernels that the arguments mean, or of all kernels where there are none. Raises UsageError."""
    return list(dict.fromkeys(name for argument in given for name in registry.named(argument))) or registry.names()


def the_kernel(argument: str) -> Kernel[Any]:
    """The one kernel that the argument means. Raises UsageError where it means several, KernelError if it is broken."""
    names = registry.named(argument)
    if len(names) != 1:
        raise UsageError(f"{argument}: holds {len(names)} kernels, {', '.join(names)}; name one")
    return registry.load(names[0])


def check_place(tables: Path, kernels: Iterable[Kernel[Any]], asked: Path | None) -> None:
    """Raises UsageError where rows of kernels of one's own would go into the tables that came with this package."""
    own = [kernel.name for kernel in kernels if not kernel.origin.is_shipped]
    if own and tables.resolve().is_relative_to(runtime.PACKAGED.resolve()):
        came = f"got --tables {asked}" if asked else "none was named"
        raise UsageError(
            f"{', '.join(own)}: tables of kernels outside this package go into a folder of yours, {came}; "
            "give --tables FOLDER, and set AUTOTUNE_TABLES=FOLDER where they are served"
        )


def sound_kernels(names: Sequence[str], device: Device | None = None) -> tuple[list[Kernel[Any]], int]:
    """Kernels that can be used, with a search space for `device`; and how many are broken, each told on stderr.

    Raises what is wrong with the first where none is sound: the command has nothing to do.
    """
    sound, errors = registry.load_all(names)
    if device is not None:
        from autotune.tuning import space

        for kernel in list(sound):
            try:
                space.load(kernel, device)
            except AutotuneError as error:
                sound.remove(kernel)
                errors.append(error)
    if errors and not sound:
        raise errors[0]
    tell_broken(errors)
    return sound, len(errors)


def tell_broken(errors: Iterable[AutotuneError]) -> None:
    """Print what is wrong with each kernel that is left out."""
    for error in errors:
        print(told(error, "left out: "), file=sys.stderr)
