"""Config and Problem, and the one key of a problem that the tuner and the runtime share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints

from autotune.errors import UsageError, did_you_mean

Scalar = int | str | bool
Key = tuple[tuple[str, Scalar], ...]


class Config(Mapping[str, Scalar]):
    """An immutable, hashable choice of constexprs and launch options: `kernel[grid](..., **config)`."""

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, Scalar] | None = None, /, **more: Scalar) -> None:
        merged = {**(items or {}), **more}
        self._items = dict(sorted(merged.items()))
        self._hash = hash(tuple(self._items.items()))

    def __getitem__(self, name: str) -> Scalar:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self._items == other._items

    def __repr__(self) -> str:
        return f"Config({self})"

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self._items.items())

    def size(self, name: str) -> int:
        """The value of an integer parameter."""
        return int(self._items[name])


class Problem(Protocol):
    """One call's sizes and formats: a frozen dataclass of ints, bools and strings beside its kernel.

    A class may also have DRAWN: names of fields that say only how `inputs` are drawn (a routing, a pattern of
    lengths), which `of` cannot see and leaves at their defaults. `flops`, and `bytes_moved` that must cross DRAM, may
    be left out: they are counted then.
    """

    VARYING: ClassVar[tuple[str, ...]]
    """Fields along which a table row may serve a neighbour, such as ("m",); all others must be equal."""
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def flops(self) -> int: ...
    @property
    def bytes_moved(self) -> int: ...
    def inputs(self, seed: int, device: str) -> tuple[Any, ...]: ...
    def __hash__(self) -> int: ...


P = TypeVar("P", bound=Problem)


def key(problem: Problem) -> Key:
    """Names and values of the problem's fields, in their declared order: the key of tables and caches."""
    return tuple((name, getattr(problem, name)) for name in field_names(type(problem)))


def values(problem: Problem) -> tuple[Scalar, ...]:
    """The values alone, in the same order: `type(problem)(*values(problem)) == problem`."""
    return tuple(getattr(problem, name) for name in field_names(type(problem)))


@cache
def field_names(problem_type: type[Problem]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(problem_type))


@cache
def _hints(problem_type: type[Problem]) -> dict[str, Any]:
    return get_type_hints(problem_type)


def describe(problem: Problem) -> str:
    """`m=64,n=2048,k=7168,dtype=e4m3fn`: the form that the command line reads back."""
    return describe_key(key(problem))


def describe_key(pairs: Iterable[tuple[str, object]]) -> str:
    """`name=value` pairs joined by commas, as `describe` writes the fields of a problem."""
    return ",".join(f"{name}={value}" for name, value in pairs)


def build(problem_type: type[P], fields: Mapping[str, Any], place: str) -> P:
    """A problem from untrusted fields. Raises UsageError with `place` for unknown, missing or ill-typed ones."""
    hints = _hints(problem_type)
    declared = {field.name: field for field in dataclasses.fields(problem_type)}
    for name, value in fields.items():
        if name not in declared:
            raise UsageError(f"{place}: unknown problem field {name!r}{did_you_mean(str(name), declared)}")
        if type(value) is not hints[name]:
            raise UsageError(f"{place}: {name} must be {hints[name].__name__}, got {value!r}")
    missing = [n for n, f in declared.items() if n not in fields and f.default is dataclasses.MISSING]
    if missing:
        raise UsageError(f"{place}: missing problem fields {', '.join(missing)}; a problem has {', '.join(declared)}")
    try:
        problem = problem_type(**fields)
    except ValueError as error:
        raise UsageError(f"{place}: {error}") from error
    if zeros := empty_fields(problem):
        raise UsageError(f"{place}: {zeros[0]} must be at least 1, got 0; a call without rows has no config to choose")
    return problem


def resized(problem: P, name: str, size: int) -> P | None:
    """`problem` with another size in one field; None where its other fields forbid it, and where it would be empty."""
    try:
        other = dataclasses.replace(problem, **{name: size})
    except ValueError:
        return None
    return None if empty_fields(other) else other


def empty_fields(problem: Problem) -> tuple[str, ...]:
    """Names of the VARYING fields that are 0, where 0 is not their default: those of a call with nothing to do."""
    fields = {field.name: field.default for field in dataclasses.fields(problem)}
    return tuple(name for name in problem.VARYING if getattr(problem, name) == 0 and fields[name] != 0)


def parse(problem_type: type[P], text: str) -> P:
    """The problem that `describe` wrote. Raises UsageError."""
    hints = _hints(problem_type)
    fields: dict[str, Scalar] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"problem {text!r}: write name=value pairs joined by commas, got {part!r}")
        if name in fields:
            raise UsageError(f"problem {text!r}: {name} stands twice; write it once")
        wanted = hints.get(name)
        if wanted is int:
            try:
                fields[name] = int(value)
            except ValueError:
                raise UsageError(f"problem {text!r}: {name} must be an integer, got {value!r}") from None
        elif wanted is bool:
            if value.lower() not in ("true", "false"):
                raise UsageError(f"problem {text!r}: {name} must be true or false, got {value!r}")
            fields[name] = value.lower() == "true"
        else:
            fields[name] = value
    return build(problem_type, fields, f"problem {text!r}")
