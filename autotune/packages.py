"""Packages that each use needs beside torch and Triton, by the extra of this distribution that brings them.

The wheel itself requires nothing: pip must never replace the torch or the Triton of an engine's image, where they may
be distributions of other names, such as `triton-rocm`. So what can be imported is asked here, and not of pip.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from autotune.errors import PackageError

DISTRIBUTION = "deepseek-autotune"

LAUNCHERS = ("torch", "triton")
"""Packages that a kernel's call needs; the environment has them, or the extra `cpu` brings them."""

EXTRAS: dict[str, tuple[str, ...]] = {
    "tune": (
        *("optuna", "pandas", "numpy", "scipy", "yaml", "rich"),
        *("argcomplete", "elftools", "threadpoolctl", "networkx"),
    ),
    "ray": ("ray",),
    "postgresql": ("psycopg",),
    "learn": ("sklearn",),
    "report": ("vl_convert",),
    "oracle": ("transformers",),
}
"""Modules that must be importable, by extra."""


def absent(modules: Iterable[str]) -> list[str]:
    """Those of `modules` that cannot be imported here."""
    return [name for name in modules if find_spec(name) is None]


def remedy(extra: str) -> str:
    """The command that installs an extra."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def require(extra: str) -> None:
    """Raises PackageError, with the command that installs them, where packages of an extra are absent."""
    if missing := absent(EXTRAS[extra]):
        raise PackageError(f"{_are_absent(missing)}; {remedy(extra)}")


def require_launchers() -> None:
    """Raises PackageError where torch or Triton is absent."""
    if missing := absent(LAUNCHERS):
        raise PackageError(
            f"{_are_absent(missing)}: kernels need torch and Triton. On a GPU install those of its vendor, as an "
            f"engine's image has them; on a machine without a GPU {remedy('cpu')}"
        )


def _are_absent(modules: list[str]) -> str:
    return f"{', '.join(modules)} {'is' if len(modules) == 1 else 'are'} not installed"
