"""Ranges of values and grids of captured calls, as expressions of the fields of their problem."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.adopt import expressions
from autotune.adopt.calls import Call, Sample, TensorSpec
from autotune.adopt.expressions import Expression, Values
from autotune.adopt.fields import Fields
from autotune.adopt.foreign import ForeignKernel
from autotune.errors import UsageError

_FEW = 8
"""Integers of a range no larger than this are taken for codes, a larger one for indices."""


def range_of(specs: Sequence[TensorSpec], fields: Fields, *, complete: bool) -> tuple[Expression | float | None, ...]:
    """Return the smallest and largest value to draw; an index grows with the smallest size that is above it."""
    seen = [spec for spec in specs if spec.low is not None and spec.high is not None]
    if not seen:
        return None, None
    low, highs = min(spec.low or 0 for spec in seen), [int(spec.high or 0) for spec in seen]
    if "float" in specs[0].dtype:
        return low, max(spec.high or 0 for spec in seen)
    if max(highs) - low <= _FEW or not complete or len(seen) < len(specs):
        return low, max(highs)
    for name, values in fields.sizes.items():
        if list(values) == highs:
            return low, Expression("{0}", (name,))
    above = [
        (max(values), name)
        for name, values in fields.sizes.items()
        if all(v > h for v, h in zip(values, highs, strict=True))
    ]
    return low, Expression("{0} - 1", (min(above)[1],)) if above else max(highs)


def grid_of(kernel: ForeignKernel, calls: Sequence[Call], fields: Fields) -> tuple[Expression, ...]:
    """Return the dimensions of the grid as expressions. Raises UsageError where one cannot be found."""
    ranks = {len(call.grid) for call in calls}
    if len(ranks) > 1:
        raise UsageError(f"{kernel.name}: grids of {sorted(ranks)} dimensions; name a function for the grid by --grid")
    samples = [
        (number, sample) for number, call in enumerate(calls) for sample in (call.samples or (Sample({}, call.grid),))
    ]
    sizes = {name: tuple(values[at] for at, _ in samples) for name, values in fields.sizes.items()}
    blocks: dict[str, Values] = {}
    for name in (*kernel.tuned, *kernel.arguments):
        values = [sample.constexprs.get(name, calls[at].arguments.get(name)) for at, sample in samples]
        if name in kernel.constexprs and all(type(value) is int for value in values):
            blocks[name] = tuple(values)  # type: ignore[arg-type]
    # A constexpr that is not tuned may be a size, as V of cdiv(V, BV), or a block.
    untuned = {name: values for name, values in blocks.items() if name not in kernel.tuned}
    sizes = {**{name: values for name, values in sizes.items() if name not in blocks}, **untuned}
    grid = []
    for axis in range(ranks.pop()):
        wanted = tuple(sample.grid[axis] for _, sample in samples)
        expression = expressions.of_grid(wanted, sizes, blocks)
        if expression is None:
            raise UsageError(
                f"{kernel.name}: dimension {axis} of its grid, {list(wanted[:6])}, is no product of sizes and blocks; "
                "name the caller's function of it by --grid module:function: it gets all arguments by name"
            )
        grid.append(expression)
    return tuple(grid)
