"""Facts of a kernel that its search space's file states beside the space: what it serves, and sizes for its tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import registry
from autotune.config import Scalar
from autotune.errors import SpaceError
from autotune.tuning.space import read_file
from autotune.workload.hot_paths import HOT_PATHS


@dataclass(frozen=True)
class KernelFacts:
    """Each field is the key of that name in `search_spaces/<family>/<kernel>.yaml`; all may be left out."""

    hot_paths: tuple[int, ...] = ()
    """Numbers of the hot paths that the kernel serves."""
    not_called: str = ""
    """Reason why no forward step of a model here calls the kernel."""
    count: Mapping[str, Scalar] | None = None
    """Problem whose tiles are full, small enough for the interpreter, on which the formula of `work` is checked."""
    large: Mapping[str, Scalar] | None = None
    """Problem fields for the test of addresses, beside the first varying field, which is 2^20 there."""
    largest_index: Mapping[str, int | str] | None = None
    """By device parameter, the largest index loaded from it: a number, or the name of another device parameter whose
    value, or first dimension, is one more."""


def read(name: str) -> KernelFacts:
    """Return the facts of the kernel `name`. Raises SpaceError, and UsageError for an unknown kernel."""
    origin = registry.origin_of(name)
    path = origin.space
    if not origin.is_shipped and not path.exists():
        return KernelFacts()  # a kernel that lists its choices itself
    data = read_file(path)
    numbers = {path.number for path in HOT_PATHS}
    paths = data.get("hot_paths", [])
    if not isinstance(paths, list) or not all(type(number) is int and number in numbers for number in paths):
        raise SpaceError(f"{path}: hot_paths must list numbers of 1 to {max(numbers)}, got {paths!r}")
    reason = data.get("not_called", "")
    if not isinstance(reason, str):
        raise SpaceError(f"{path}: not_called must be a reason in words, got {reason!r}")
    count, large = (_mapping(data, part, (int, str, bool), path) for part in ("count", "large"))
    return KernelFacts(tuple(paths), reason, count, large, _mapping(data, "largest_index", (int, str), path))


def by_hot_path(kernels: Iterable[str] | None = None) -> dict[int, tuple[str, ...]]:
    """Return which of `kernels` (default: all that are known) serve each hot path, sorted. Raises SpaceError."""
    paths = {name: read(name).hot_paths for name in (registry.names() if kernels is None else kernels)}
    return {path.number: tuple(name for name in paths if path.number in paths[name]) for path in HOT_PATHS}


def _mapping(data: dict[str, Any], part: str, kinds: tuple[type, ...], path: Path) -> Mapping[str, Any] | None:
    values = data.get(part)
    if values is None:
        return None
    if not isinstance(values, dict) or not all(type(value) in kinds for value in values.values()):
        allowed = "integers or names" if bool not in kinds else "integers, strings or true/false"
        raise SpaceError(f"{path}: {part} must be a mapping of names to {allowed}, got {values!r}")
    return values
