"""Sizes of a call as expressions of its problem's fields, found by trying which one is right in every captured call."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Values = tuple[int, ...]
"""One value for each call, or for each sample of a grid."""

_LARGEST_NUMBER = 64
"""Largest number by which a grid is multiplied."""

Spelling = Callable[[str], str]
"""How a name is written where an expression stands: `self.rows`, `x.shape[0]`."""


@dataclass(frozen=True)
class Expression:
    """`form.format(*names)`, such as `triton.cdiv({0}, {1})` of `m` and `BLOCK_M`."""

    form: str
    names: tuple[str, ...] = ()

    def spelled(self, spelling: Spelling = str) -> str:
        """Return the Python expression, with each name as `spelling` writes it."""
        return self.form.format(*map(spelling, self.names))


def constant(value: int) -> Expression:
    """Return an expression that is the number itself."""
    return Expression(str(value))


def of_size(values: Values, sizes: Mapping[str, Values]) -> Expression | None:
    """Return the simplest expression of `sizes` with these values: one of them, their product, or a step from one.

    None where nothing fits. What is the same in every call is a constant only where the sizes are not.
    """
    varied = len(set(zip(*sizes.values(), strict=True))) > 1 if sizes else False
    for expression, computed in _simple(sizes):
        if computed == values:
            return expression
    if len(set(values)) == 1 and (varied or values[0] in (0, 1)):
        return constant(values[0])
    if not varied:
        return None
    return next((expression for expression, computed in _stepped(sizes) if computed == values), None)


def of_block(values: Values, sizes: Mapping[str, Values]) -> Expression | None:
    """Return how a constexpr follows from `sizes`: one of them, or the power of two that holds it; or None."""
    for expression, computed in _simple(sizes):
        if len(expression.names) == 1 and computed == values:
            return expression
    for name, size in sizes.items():
        if tuple(1 << max(value - 1, 0).bit_length() for value in size) == values and min(values) > 1:
            return Expression("triton.next_power_of_2({0})", (name,))
    return None


def of_grid(values: Values, sizes: Mapping[str, Values], constexprs: Mapping[str, Values]) -> Expression | None:
    """Return one dimension of a grid: a product of up to three sizes, sizes divided by a constexpr, and constexprs.

    A division rounds up. The fewest factors win, and a product of them alone over one with a number, as of heads that
    no call changed. None where no product is right in every sample.
    """
    if len(set(values)) == 1:
        return constant(values[0])
    factors = [*_grid_factors(sizes, constexprs)]
    common = math.gcd(*values)
    for number in (1, *(part for part in range(2, _LARGEST_NUMBER + 1) if common and common % part == 0)):
        rest = tuple(value // number for value in values)
        for count in (1, 2, 3):
            product = next(_products(rest, factors, count), None)
            if product is not None:
                return _times(number, product)
    return None


def _times(number: int, product: Sequence[Expression]) -> Expression:
    names = [name for factor in product for name in factor.names]
    places = itertools.count()
    forms = [factor.form.format(*(f"{{{next(places)}}}" for _ in factor.names)) for factor in product]
    return Expression(" * ".join([str(number)] * (number > 1) + forms), tuple(names))


def _simple(sizes: Mapping[str, Values]) -> Iterator[tuple[Expression, Values]]:
    for name, values in sizes.items():
        yield Expression("{0}", (name,)), values
    for a, b in itertools.combinations_with_replacement(sizes, 2):
        yield Expression("{0} * {1}", (a, b)), tuple(x * y for x, y in zip(sizes[a], sizes[b], strict=True))


def _stepped(sizes: Mapping[str, Values]) -> Iterator[tuple[Expression, Values]]:
    for name, values in sizes.items():
        if len(set(values)) == 1:
            continue
        yield Expression("{0} + 1", (name,)), tuple(value + 1 for value in values)
        for number in (2, 3, 4, 8, 16, 32, 64, 128, 256):
            yield Expression(f"{number} * {{0}}", (name,)), tuple(number * value for value in values)
            yield Expression(f"triton.cdiv({{0}}, {number})", (name,)), tuple(-(-value // number) for value in values)


def _grid_factors(sizes: Mapping[str, Values], constexprs: Mapping[str, Values]) -> Iterator[tuple[Expression, Values]]:
    for name, values in sizes.items():
        yield Expression("{0}", (name,)), values
    for name, step in constexprs.items():
        for size, values in sizes.items():
            if name != size and min(step) > 0:
                rounded = tuple(-(-value // by) for value, by in zip(values, step, strict=True))
                yield Expression("triton.cdiv({0}, {1})", (size, name)), rounded
    for name, values in constexprs.items():
        if name not in sizes:
            yield Expression("{0}", (name,)), values
    plain = [(name, values) for name, values in sizes.items() if name not in constexprs]
    for (a, left), (b, right) in itertools.combinations(plain, 2):
        for name, step in constexprs.items():
            if name not in (a, b) and min(step) > 0:
                every = zip(left, right, step, strict=True)
                yield (
                    Expression("triton.cdiv({0} * {1}, {2})", (a, b, name)),
                    tuple(-(-x * y // by) for x, y, by in every),
                )


def _products(
    values: Values, factors: Sequence[tuple[Expression, Values]], count: int
) -> Iterator[tuple[Expression, ...]]:
    """Yield products of `count` factors, none of them 1 everywhere, that are `values`."""
    for at, (factor, computed) in enumerate(factors):
        if (
            not any(computed)
            or set(computed) == {1}
            or any(not c or value % c for value, c in zip(values, computed, strict=True))
        ):
            continue
        rest = tuple(value // c for value, c in zip(values, computed, strict=True))
        if count == 1:
            if set(rest) == {1}:
                yield (factor,)
        else:
            for more in _products(rest, factors[at:], count - 1):
                yield (factor, *more)
