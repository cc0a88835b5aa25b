"""The base of kernels' problems, and rules for their fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from autotune.inputs import FP8


@dataclass(frozen=True)
class Sizes:
    """A problem whose integer fields are at least 1, or 0 where that is their default, and whose `dtype` is FP8's.

    VARYING fields may be 0: an idle rank calls with no rows, and gets outputs of no rows without a launch.
    A subclass with further rules calls `super().__post_init__()` first.
    """

    VARYING: ClassVar[tuple[str, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if type(getattr(self, field.name)) is int:
                may_be_zero = field.default == 0 or field.name in self.VARYING
                at_least(self, **{field.name: 0 if may_be_zero else 1})
        if hasattr(self, "dtype"):
            one_of(self, dtype=FP8)


@dataclass(frozen=True)
class Rows(Sizes):
    """A problem of independent rows."""

    rows: int

    VARYING: ClassVar[tuple[str, ...]] = ("rows",)


def at_least(problem: object, **least: int) -> None:
    """Raise ValueError unless each named field is at least its number."""
    for name, number in least.items():
        if getattr(problem, name) < number:
            raise ValueError(f"{name} must be at least {number}, got {problem}")


def at_most(problem: object, **most: int) -> None:
    """Raise ValueError unless each named field is at most its number."""
    for name, number in most.items():
        if getattr(problem, name) > number:
            raise ValueError(f"{name} must be at most {number}, got {problem}")


def multiple_of(problem: object, **factors: int) -> None:
    """Raise ValueError unless each named field is a multiple of its number."""
    for name, factor in factors.items():
        if getattr(problem, name) % factor:
            raise ValueError(f"{name} must be a multiple of {factor}, got {problem}")


def power_of_two(problem: object, *names: str) -> None:
    """Raise ValueError unless each named field is a power of two."""
    for name in names:
        if getattr(problem, name).bit_count() != 1:
            raise ValueError(f"{name} must be a power of two, got {problem}")


def one_of(problem: object, **choices: Collection[object]) -> None:
    """Raise ValueError unless each named field has one of its values."""
    for name, allowed in choices.items():
        if getattr(problem, name) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {problem}")
