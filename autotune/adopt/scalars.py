"""Arguments of captured calls that are no tensors: fields of the problem, and what a problem gives by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from autotune.adopt import expressions
from autotune.adopt.calls import Argument, Plain, Unkept
from autotune.adopt.expressions import Expression, Values
from autotune.adopt.fields import Fields
from autotune.adopt.foreign import ForeignKernel
from autotune.errors import UsageError


def is_constant(values: tuple[Argument, ...]) -> bool:
    """True for an argument that is None in every call, or that no file can hold."""
    return all(value is None for value in values) or any(isinstance(value, Unkept) for value in values)


def literal(kernel: ForeignKernel, name: str, value: Argument) -> str:
    """Return a constant argument as Python. Raises UsageError for one that cannot be written."""
    if value is None:
        return "None"
    kind = value.kind if isinstance(value, Unkept) else ""
    module, _, dtype = kind.partition(".")
    if module not in ("tl", "torch") or not dtype.isidentifier():
        raise UsageError(
            f"{kernel.name}: {name} is a {kind}, which no file can hold; launch it by a kernel of your own"
        )
    return _TRITON_DTYPES.get(dtype, kind) if module == "tl" else kind


_TRITON_DTYPES = {
    **{f"fp{bits}": f"tl.float{bits}" for bits in (16, 32, 64)},
    "bf16": "tl.bfloat16",
    "fp8e4nv": "tl.float8e4nv",
    "fp8e5": "tl.float8e5",
    "fp8e4b8": "tl.float8e4b8",
}


def add_scalars(kernel: ForeignKernel, scalars: Mapping[str, tuple[Argument, ...]], fields: Fields) -> None:
    """Make fields of the arguments by which a caller says what is asked: integers that are no strides, flags, names."""
    first = [name for name in kernel.key if name in scalars]
    for name in dict.fromkeys([*first, *scalars]):
        values: tuple[Plain, ...] = scalars[name]  # type: ignore[assignment]
        kind = _kind(values)
        follows = name in kernel.constexprs or "stride" in name.lower()
        if kind in ("bool", "str") or (kind == "int" and (name in first or not follows)):
            fields.add(name, kind, name, "", values)


def plain_argument(
    kernel: ForeignKernel, name: str, values: tuple[Argument, ...], fields: Fields
) -> tuple[str, Expression | Plain]:
    """Return the kind of an argument that is no tensor, and how a problem gives it."""
    kind = _kind(values)  # type: ignore[arg-type]
    own = next((part.name for part in fields.fields.values() if part.argument == name and not part.read), None)
    if own is not None:
        return kind, Expression("{0}", (own,))
    if kind != "int":
        return kind, values[0]  # type: ignore[return-value]
    numbers: Values = tuple(map(int, values))  # type: ignore[arg-type]
    find: Callable[..., Expression | None] = expressions.of_block if name in kernel.constexprs else expressions.of_size
    expression = find(numbers, fields.sizes)
    if expression is None:
        expression = Expression("{0}", (fields.add(name, "int", name, "", numbers),))
    return kind, expression


def _kind(values: Sequence[Plain]) -> str:
    kinds = {type(value).__name__ for value in values if value is not None}
    return "int" if kinds == {"int", "bool"} else next(iter(kinds))
