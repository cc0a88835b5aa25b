"""Tensor arguments of captured calls: their sizes, dtypes and strides as expressions of the problem's fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autotune.adopt import expressions
from autotune.adopt.calls import Argument, TensorSpec
from autotune.adopt.expressions import Expression
from autotune.adopt.fields import Fields
from autotune.adopt.ranges import range_of
from autotune.adopt.trial import Touched
from autotune.errors import UsageError


@dataclass(frozen=True)
class Drawn:
    """One tensor argument of the problem."""

    name: str
    shape: tuple[Expression, ...]
    dtype: str
    """Name of the field that holds it, or the dtype in quotes."""
    stride: tuple[Expression, ...] | None
    low: Expression | float | None
    high: Expression | float | None
    spec: TensorSpec
    """Value in the first call."""
    optional: str | None = None
    """The field that says whether it is there."""


def is_output(name: str, touched: Touched) -> bool:
    return name in touched.written and name not in touched.read


def dtypes_of(
    names: Sequence[str], tensors: Mapping[str, tuple[Argument, ...]], touched: Touched, fields: Fields
) -> dict[str, tuple[bool, str]]:
    """Return for each tensor whether others tell its dtype, and the field or the literal that holds it.

    Tensors of one dtype in every call share a field. Integers keep the dtype of the first call: kernels take any.
    """
    groups: dict[tuple[str | None, ...], str] = {}
    said: dict[str, tuple[bool, str]] = {}
    for name in names:
        values = tuple(v.dtype if isinstance(v, TensorSpec) else None for v in tensors[name])
        is_float = any(value and ("float" in value) for value in values)
        group = next((group for group in groups if _agree(values, group)), None)
        if group is not None and is_float:
            said[name] = (True, groups[group])
        elif not is_float or (is_output(name, touched) and len(set(values)) == 1):
            said[name] = (True, repr(_specs(tensors[name])[0].dtype))
        else:
            dtype = next(value for value in values if value)
            groups[values] = fields.add(
                f"{_short(name)}_dtype", "str", name, ".dtype", [value or dtype for value in values]
            )
            said[name] = (False, groups[values])
    return said


def shape_of(name: str, values: tuple[Argument, ...], fields: Fields) -> tuple[Expression, ...]:
    specs = [value if isinstance(value, TensorSpec) else None for value in values]
    shape = []
    rank = len(next(spec for spec in specs if spec).shape)
    for axis in range(rank):
        present = [at for at, spec in enumerate(specs) if spec]
        sizes = tuple(spec.shape[axis] for spec in specs if spec)
        there = {size: tuple(all_[at] for at in present) for size, all_ in fields.sizes.items()}
        expression = expressions.of_size(sizes, there)
        if expression is None:
            label = (
                f"{_short(name)}_size" if len(next(s for s in specs if s).shape) == 1 else f"{_short(name)}_dim{axis}"
            )
            filled = [spec.shape[axis] if spec else sizes[0] for spec in specs]
            expression = Expression("{0}", (fields.add(label, "int", name, f".shape[{axis}]", filled),))
        shape.append(expression)
    return tuple(shape)


def drawn_of(
    name: str, values: tuple[Argument, ...], shape: tuple[Expression, ...], dtype: str, fields: Fields
) -> Drawn:
    specs = _specs(values)
    optional = None
    if None in values:
        optional = fields.add(f"has_{_short(name)}", "bool", name, " is not None", [v is not None for v in values])
    stride = None
    if not all_contiguous(values):
        if None in values:
            raise UsageError(f"{name}: is left out in some calls and has gaps in others; adopt them apart")
        stride = tuple(_stride(name, axis, specs, fields) for axis in range(len(shape)))
    low, high = range_of(specs, fields, complete=optional is None)
    return Drawn(name, shape, dtype, stride, low, high, specs[0], optional)


def all_contiguous(values: tuple[Argument, ...]) -> bool:
    return all(value.is_contiguous for value in values if isinstance(value, TensorSpec))


def _specs(values: tuple[Argument, ...]) -> list[TensorSpec]:
    return [value for value in values if isinstance(value, TensorSpec)]


def _agree(dtypes: Sequence[str | None], group: Sequence[str | None]) -> bool:
    """True if a tensor has the dtype of a group in every call in which it is there."""
    return all(dtype is None or dtype == other for dtype, other in zip(dtypes, group, strict=True))


def _short(name: str) -> str:
    """`x` of `x_ptr`."""
    for ending in ("_ptr", "_ptrs", "_pointer", "ptr"):
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)].lower()
    return name.lower()


def _stride(name: str, axis: int, specs: Sequence[TensorSpec], fields: Fields) -> Expression:
    steps = tuple(spec.stride[axis] for spec in specs)
    if set(steps) == {1} or set(steps) == {0}:
        return expressions.constant(steps[0])
    expression = expressions.of_size(steps, fields.sizes)
    if expression is None:
        expression = Expression(
            "{0}", (fields.add(f"{_short(name)}_stride{axis}", "int", name, f".stride({axis})", steps),)
        )
    return expression
