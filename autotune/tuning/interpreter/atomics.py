"""Atomics, whose order is free among programs and among the lanes of one: does it show in the result?

A float sum of three terms and more has other bits in another order. The terms that a launch adds to each address are
kept and added up anew in several orders; where the bits differ, the first such address is named. What other atomics
leave is compared between runs of opposite orders (`validate`); where it differs, the first atomic that returned other
values is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autotune.errors import Defect
from autotune.tuning.interpreter.places import place
from autotune.tuning.interpreter.shadow_memory import Memory

_ORDERS = 4
"""Random orders in which sums are tried, beside the order in which the programs ran."""


@dataclass(frozen=True)
class Terms:
    """Active lanes of one atomic addition of floats."""

    place: str
    program: tuple[int, ...]
    addresses: Any
    values: Any
    before: Any
    """Values at the addresses before the addition."""


@dataclass(frozen=True)
class Returned:
    """The values that one atomic returned, and the argument and element of its first active lane."""

    argument: str
    offset: int
    values: Any


@dataclass
class Atomics:
    """The atomics of one call. `reverse` runs the lanes of each from the last to the first."""

    memory: Memory
    reverse: bool = False
    any_order: bool = False
    ran: bool = False
    returned: dict[tuple[str, tuple[int, ...], int], Returned] = field(default_factory=dict)
    """By place, program, and how many atomics of that program returned before."""
    _terms: list[Terms] = field(default_factory=list)
    _counts: Counter[tuple[int, ...]] = field(default_factory=Counter)

    def wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return the builder's method, checked; the first TensorHandle is the pointers, the boolean one the mask."""
        from triton.runtime.interpreter import TensorHandle, _get_np_dtype

        def atomic(builder: Any, *args: Any, **named: Any) -> Any:  # noqa: ANN401
            self.ran = True
            at = next(i for i, arg in enumerate(args) if isinstance(arg, TensorHandle))
            handles = [arg for arg in args[at:] if isinstance(arg, TensorHandle)]
            masks = [arg.data for arg in handles if arg.data.dtype == np.bool_]
            ptrs, where = args[at], place()
            mask = masks[0] if masks else np.ones_like(ptrs.data, dtype=bool)
            size = _get_np_dtype(ptrs.get_element_ty()).itemsize
            self.memory.load(ptrs.data, mask, size, where, atomic=True)
            real = self.memory.store(ptrs.data, mask, size, where, atomic=True)
            self.memory.atomic(ptrs.data[mask], _semantics(args))
            args = (*args[:at], TensorHandle(real, ptrs.dtype), *args[at + 1 :])
            if self.reverse:
                result = original(builder, *map(_turned, args), **named)
                result.data = np.ascontiguousarray(_flipped(result.data))
                self._note(where, ptrs.data[mask], result.data[mask])
                return result
            result = original(builder, *args, **named)
            self._note(where, ptrs.data[mask], result.data[mask])
            if getattr(args[0], "name", "") == "FADD":
                values = np.broadcast_to(handles[1].data, mask.shape)[mask]
                self._terms.append(Terms(where, self.memory.program, ptrs.data[mask], values, result.data[mask]))
            return result

        return atomic

    def _note(self, where: str, addresses: Any, values: Any) -> None:  # noqa: ANN401
        program = self.memory.program
        if addresses.size:
            self.returned[where, program, self._counts[program]] = Returned(
                *self.memory.named(int(addresses[0])), values
            )
        self._counts[program] += 1

    def check_same(self, backwards: Atomics) -> None:
        """Raises Defect at the first atomic that returned other values in the run of the opposite order."""
        for (where, program, number), here in self.returned.items():
            there = backwards.returned.get((where, program, number))
            if there is not None and not np.array_equal(here.values, there.values, equal_nan=True):
                lane = int((here.values != there.values).argmax())
                more = (
                    f"which returned {here.values[lane]}, and {there.values[lane]} with programs and lanes in the "
                    "opposite order; the results differ too"
                )
                raise Defect("order of atomics shows", where, program, here.argument, here.offset, more)

    def check(self) -> None:
        """A launch ends. Raises Defect where a float sum depends on the order of its terms."""
        terms, self._terms = self._terms, []
        if not terms or self.any_order:
            return
        addresses = np.concatenate([part.addresses.ravel() for part in terms])
        values = np.concatenate([part.values.ravel() for part in terms])
        _, first, index = np.unique(addresses, return_index=True, return_inverse=True)
        begun = np.concatenate([part.before.ravel() for part in terms])[first]
        wrong = _order_shows(values, index, begun)
        if wrong.any():
            lane = int(wrong[index].argmax())
            ends = np.cumsum([part.addresses.size for part in terms])
            part = terms[int(np.searchsorted(ends, lane, side="right"))]
            argument, offset = self.memory.named(int(addresses[lane]))
            count = int((index == index[lane]).sum())
            more = (
                f"{count} terms are added in no order, and other orders give other bits; add them in one order, or "
                "declare `any_order=True` in @tunable"
            )
            raise Defect("order of atomics shows", part.place, part.program, argument, offset, more)


def _semantics(args: tuple[Any, ...]) -> str:
    """Name of Triton's memory semantics among the arguments of an atomic."""
    return next((arg.name for arg in args if type(arg).__name__ == "MEM_SEMANTIC"), "RELAXED")


def _order_shows(values: Any, index: Any, begun: Any) -> Any:  # noqa: ANN401
    """For each sum that began with one of `begun`, do its terms give other bits in one of several orders?"""

    def total(order: Any) -> Any:  # noqa: ANN401
        into = begun.astype(values.dtype)
        np.add.at(into, index[order], values[order])
        return into

    forward = np.arange(len(values))
    first = total(forward)
    chance = np.random.default_rng(0)
    orders = [forward[::-1], *(chance.permutation(forward) for _ in range(_ORDERS))]
    wrong = np.zeros(begun.shape, dtype=bool)
    for order in orders:
        other = total(order)
        wrong |= (other != first) & ~(np.isnan(other) & np.isnan(first))
    return wrong


def _turned(arg: Any) -> Any:  # noqa: ANN401
    from triton.runtime.interpreter import TensorHandle

    return TensorHandle(np.ascontiguousarray(_flipped(arg.data)), arg.dtype) if isinstance(arg, TensorHandle) else arg


def _flipped(data: Any) -> Any:  # noqa: ANN401
    return data.ravel()[::-1].reshape(data.shape)
