"""Wishes of a user who adopts a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choices:
    """Wishes of the user beside the captured calls."""

    name: str
    """Name of the launcher and of both files."""
    reference: Callable[..., Any] | None = None
    """A function in plain torch; None: the kernel itself at its first config."""
    reference_name: str | None = None
    """`module:function` of it."""
    grid: str | None = None
    """`module:function` that gives the grid; None: as the captured calls tell."""
    tolerance: float | None = None
    widen: bool = False
