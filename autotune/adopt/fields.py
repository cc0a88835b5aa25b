"""Fields of the problem behind captured calls: sizes, flags, names and dtypes that a caller gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from autotune.adopt.calls import Plain
from autotune.adopt.expressions import Values

_TAKEN = frozenset({"dtype", "flops", "bytes_moved", "inputs", "of", "VARYING", "DRAWN"})
"""Names that mean something else in a problem: `dtype` is the FP8 format of a device."""


@dataclass(frozen=True)
class Field:
    """One field of the problem; `source` reads it from the arguments of a call, named in braces: `{x}.shape[0]`."""

    name: str
    kind: str
    """`int`, `bool` or `str`."""
    argument: str
    read: str = ""
    """Python behind the argument's name, such as `.shape[0]`."""
    values: tuple[Plain, ...] = ()
    """One for each call."""

    @property
    def default(self) -> Plain:
        """Value of a flag or a name that is the same in every call; None for sizes, which a problem always says."""
        return self.values[0] if self.kind != "int" and len(set(self.values)) == 1 else None


@dataclass
class Fields:
    """Fields so far, and their values in each call."""

    fields: dict[str, Field] = field(default_factory=dict)

    def add(self, name: str, kind: str, argument: str, read: str, values: Iterable[Plain]) -> str:
        """Add a field under `name`, or under `name_` where that is taken, and return its name."""
        name = f"{name}_" if name in _TAKEN or name in self.fields else name
        self.fields[name] = Field(name, kind, argument, read, tuple(values))
        return name

    @property
    def sizes(self) -> dict[str, Values]:
        """Integer fields."""
        return {name: tuple(map(int, part.values)) for name, part in self.fields.items() if part.kind == "int"}  # type: ignore[arg-type]
