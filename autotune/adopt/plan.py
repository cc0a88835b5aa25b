"""The problem behind captured calls: its fields, and every argument and grid as an expression of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from autotune.adopt.calls import Argument, Call, Plain, TensorSpec, Unkept
from autotune.adopt.expressions import Expression, Values
from autotune.adopt.fields import Field, Fields
from autotune.adopt.foreign import ForeignKernel
from autotune.adopt.ranges import grid_of
from autotune.adopt.scalars import add_scalars, is_constant, literal, plain_argument
from autotune.adopt.tensors import Drawn, all_contiguous, drawn_of, dtypes_of, is_output, shape_of
from autotune.adopt.trial import Touched
from autotune.errors import UsageError


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
    constants = {name: literal(kernel, name, values[0]) for name, values in column.items() if is_constant(values)}
    scalars = {n: v for n, v in column.items() if n not in constants and not any(isinstance(x, TensorSpec) for x in v)}
    tensors = {n: v for n, v in column.items() if any(isinstance(x, TensorSpec) for x in v)}
    add_scalars(kernel, scalars, fields)
    # Inputs first, as outputs follow from them, and those that are always there.
    given = sorted(tensors, key=lambda name: (is_output(name, touched), None in tensors[name]))
    dtypes = dtypes_of(given, tensors, touched, fields)
    shapes: dict[str, tuple[Expression, ...]] = {}
    made = []
    for name in given:
        before = set(fields.fields)
        shapes[name] = shape_of(name, tensors[name], fields)
        whole = is_output(name, touched) and name in touched.covered and None not in tensors[name]
        if whole and set(fields.fields) == before and dtypes[name][0] and all_contiguous(tensors[name]):
            made.append(name)
    plain = {name: plain_argument(kernel, name, values, fields) for name, values in scalars.items()}
    drawn = {
        name: drawn_of(name, tensors[name], shapes[name], dtypes[name][1], fields)
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
        _varying(kernel, fields),
        drawn,
        tuple(made),
        tuple(name for name in kernel.arguments if name in touched.written),
        plain,
        constants,
        grid,
        kernel.zeroed,
        touched,
        (*kernel.notes, *_ambiguous(fields), *_shared(tensors, touched)),
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


def _varying(kernel: ForeignKernel, fields: Fields) -> str | None:
    """Return a size that differs from call to call, rather than one at which the author would search again."""
    sizes = {n: v for n, v in fields.sizes.items() if fields.fields[n].argument not in kernel.constexprs}
    strides = {name for name in sizes if "stride" in name}
    changing = [name for name, values in sizes.items() if len(set(values)) > 1 and name not in strides]
    return next((name for name in [*changing, *sizes] if name not in kernel.key), next(iter(changing), None))


def _shared(tensors: Mapping[str, tuple[Argument, ...]], touched: Touched) -> Iterator[str]:
    """Say which tensors have one memory in captured calls, and are written: a proof gives each its own."""
    for name, values in tensors.items():
        owners = {value.shares for value in values if isinstance(value, TensorSpec) and value.shares}
        for owner in sorted(owners):
            if touched.written & {name, owner}:
                yield f"{owner} and {name} have one memory in captured calls; it is proved with a memory for each"


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
