"""The largest index that device code may load from an argument, where the kernel's search space declares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from autotune.errors import SpaceError

Call = Mapping[str, Any]
"""Device parameters of one launch by name, tensors without memory."""

Bound = Callable[[str, Call], int | None]
"""(argument, call) -> the largest index that the argument holds; None where nothing bounds it."""


def declared(own: Mapping[str, int | str] | None) -> Bound:
    """Return the bounds that `largest_index` of a search space declares: numbers, or a parameter that is one more.

    The bound raises SpaceError where the space names no parameter of the launch.
    """
    largest = own or {}

    def bound(name: str, call: Call) -> int | None:
        said = largest.get(name)
        if said is None or isinstance(said, int):
            return said
        if said not in call:
            raise SpaceError(f"largest_index: {name} is bounded by {said!r}, but parameters are {', '.join(call)}")
        value = call[said]
        return (value.shape[0] if isinstance(value, Tensor) else int(value)) - 1

    return bound
