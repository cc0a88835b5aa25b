"""The problem behind captured calls: its fields, and every size, stride and grid as an expression of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autotune.adopt import expressions
from autotune.adopt.calls import Argument, Call, Plain, TensorSpec, Unkept
from autotune.adopt.expressions import Expression, Values
from autotune.adopt.fields import Field, Fields
from autotune.adopt.foreign import ForeignKernel
from autotune.adopt.ranges import grid_of, range_of
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


@dataclass(frozen=True)
class Plan:
    """Everything of a kernel that its two files say."""

    kernel: ForeignKernel
    fields: tuple[Field, ...]
    varying: str | None
    """The field along which one row may serve another problem."""
    drawn: Mapping[str, Drawn]
    """Tensors, those included that the launcher makes."""
    made: tuple[str, ...]
    """Tensors that the launcher makes, as no program reads them and all are written entirely."""
    written: tuple[str, ...]
    plain: Mapping[str, tuple[str, Expression | Plain]]
    """Arguments that are no tensors: kind, and how a problem gives them."""
    constants: Mapping[str, str]
    """Arguments that are the same in every call and no value of a problem, as Python."""
    grid: tuple[Expression, ...]
    zeroed: tuple[str, ...]
    touched: Touched
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> list[str]:
        """Parameters of the launcher, in the order of the kernel's."""
        given = [name for name in self.kernel.arguments if name in self.drawn or name in self.plain]
        return [name for name in given if name not in self.made]


def plan(kernel: ForeignKernel, calls: Sequence[Call], touched: Touched, *, grid_is_named: bool = False) -> Plan:
    """Find the problem behind `calls` of `kernel`. Raises UsageError with what cannot be found, and the remedy.

    `grid_is_named`: the user named a function for the grid, so none is looked for.
    """
    column = {name: tuple(call.arguments.get(name) for call in calls) for name in kernel.arguments}
    _check(kernel, column)
    fields = Fields()
    constants = {name: _literal(kernel, name, values[0]) for name, values in column.items() if _is_constant(values)}
    scalars = {n: v for n, v in column.items() if n not in constants and not any(isinstance(x, TensorSpec) for x in v)}
    tensors = {n: v for n, v in column.items() if any(isinstance(x, TensorSpec) for x in v)}
    _add_scalars(kernel, scalars, fields)
    # Inputs first, as outputs follow from them, and those that are always there.
    given = sorted(tensors, key=lambda name: (_is_output(name, touched), None in tensors[name]))
    dtypes = _dtypes(given, tensors, touched, fields)
    shapes: dict[str, tuple[Expression, ...]] = {}
    made = []
    for name in given:
        before = set(fields.fields)
        shapes[name] = _shape(name, tensors[name], fields)
        whole = _is_output(name, touched) and name in touched.covered and None not in tensors[name]
        if whole and set(fields.fields) == before and dtypes[name][0] and _all_contiguous(tensors[name]):
            made.append(name)
    plain = {name: _plain(kernel, name, values, fields) for name, values in scalars.items()}
    drawn = {
        name: _drawn(name, tensors[name], shapes[name], dtypes[name][1], fields)
        for name in kernel.arguments
        if name in tensors
    }
    if len(made) == len(drawn):
        made = []  # a launcher must see a tensor to know its device
    made = [name for name in made if all(fields.fields[part].argument != name for part in fields.fields)]
    grid = () if grid_is_named else grid_of(kernel, calls, fields)
    return Plan(
        kernel,
        tuple(sorted(fields.fields.values(), key=lambda part: part.default is not None)),
        _varying(kernel, fields, drawn),
        drawn,
        tuple(made),
        tuple(name for name in kernel.arguments if name in touched.written),
        plain,
        constants,
        grid,
        kernel.zeroed,
        touched,
        (*kernel.notes, *_ambiguous(fields)),
    )


def _check(kernel: ForeignKernel, column: Mapping[str, tuple[Argument, ...]]) -> None:
    for name, values in column.items():
        kinds = {type(value) for value in values if value is not None}
        if len(kinds - {int, bool}) > 1 or (TensorSpec in kinds and len(kinds) > 1):
            raise UsageError(
                f"{kernel.name}: {name} is a tensor in some calls and a number in others; adopt them apart"
            )
        if any(isinstance(value, Unkept) for value in values) and len(set(values)) > 1:
            raise UsageError(f"{kernel.name}: {name} is another {values[0]} in other calls; adopt them apart")
        ranks = {len(value.shape) for value in values if isinstance(value, TensorSpec)}
        if len(ranks) > 1:
            raise UsageError(
                f"{kernel.name}: {name} has {sorted(ranks)} dimensions in different calls; adopt them apart"
            )


def _is_constant(values: tuple[Argument, ...]) -> bool:
    """True for an argument that is None in every call, or that no file can hold."""
    return all(value is None for value in values) or any(isinstance(value, Unkept) for value in values)


def _literal(kernel: ForeignKernel, name: str, value: Argument) -> str:
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


def _add_scalars(kernel: ForeignKernel, scalars: Mapping[str, tuple[Argument, ...]], fields: Fields) -> None:
    """Make fields of the arguments by which a caller says what is asked: integers that are no strides, flags, names."""
    first = [name for name in kernel.key if name in scalars]
    for name in dict.fromkeys([*first, *scalars]):
        values: tuple[Plain, ...] = scalars[name]  # type: ignore[assignment]
        kind = _kind(values)
        follows = name in kernel.constexprs or "stride" in name.lower()
        if kind in ("bool", "str") or (kind == "int" and (name in first or not follows)):
            fields.add(name, kind, name, "", values)


def _kind(values: Sequence[Plain]) -> str:
    kinds = {type(value).__name__ for value in values if value is not None}
    return "int" if kinds == {"int", "bool"} else next(iter(kinds))


def _is_output(name: str, touched: Touched) -> bool:
    return name in touched.written and name not in touched.read


def _all_contiguous(values: tuple[Argument, ...]) -> bool:
    return all(value.is_contiguous for value in values if isinstance(value, TensorSpec))


def _specs(values: tuple[Argument, ...]) -> list[TensorSpec]:
    return [value for value in values if isinstance(value, TensorSpec)]


def _dtypes(
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
        elif not is_float or (_is_output(name, touched) and len(set(values)) == 1):
            said[name] = (True, repr(_specs(tensors[name])[0].dtype))
        else:
            dtype = next(value for value in values if value)
            groups[values] = fields.add(
                f"{_short(name)}_dtype", "str", name, ".dtype", [value or dtype for value in values]
            )
            said[name] = (False, groups[values])
    return said


def _agree(dtypes: Sequence[str | None], group: Sequence[str | None]) -> bool:
    """True if a tensor has the dtype of a group in every call in which it is there."""
    return all(dtype is None or dtype == other for dtype, other in zip(dtypes, group, strict=True))


def _short(name: str) -> str:
    """`x` of `x_ptr`."""
    for ending in ("_ptr", "_ptrs", "_pointer", "ptr"):
        if name.lower().endswith(ending) and len(name) > len(ending):
            return name[: -len(ending)].lower()
    return name.lower()


def _shape(name: str, values: tuple[Argument, ...], fields: Fields) -> tuple[Expression, ...]:
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


def _plain(
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


def _drawn(name: str, values: tuple[Argument, ...], shape: tuple[Expression, ...], dtype: str, fields: Fields) -> Drawn:
    specs = _specs(values)
    optional = None
    if None in values:
        optional = fields.add(f"has_{_short(name)}", "bool", name, " is not None", [v is not None for v in values])
    stride = None
    if not _all_contiguous(values):
        if None in values:
            raise UsageError(f"{name}: is left out in some calls and has gaps in others; adopt them apart")
        stride = tuple(_stride(name, axis, specs, fields) for axis in range(len(shape)))
    low, high = range_of(specs, fields, complete=optional is None)
    return Drawn(name, shape, dtype, stride, low, high, specs[0], optional)


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


def _varying(kernel: ForeignKernel, fields: Fields, drawn: Mapping[str, Drawn]) -> str | None:
    """Return a size that differs from call to call, rather than one at which the author would search again."""
    sizes = {n: v for n, v in fields.sizes.items() if fields.fields[n].argument not in kernel.constexprs}
    strides = {name for name in sizes if "stride" in name}
    changing = [name for name, values in sizes.items() if len(set(values)) > 1 and name not in strides]
    return next((name for name in [*changing, *sizes] if name not in kernel.key), next(iter(changing), None))


def _ambiguous(fields: Fields) -> tuple[str, ...]:
    """Say which fields are equal in every call, so that a size may have been put down to the wrong one."""
    alike: dict[Values, list[str]] = {}
    for name, values in fields.sizes.items():
        alike.setdefault(values, []).append(name)
    return tuple(
        f"{' and '.join(names)} are equal in every call; capture one in which they differ, or check the file"
        for values, names in alike.items()
        if len(names) > 1 and set(values) - {0, 1}
    )
