"""Divisions of integers below zero, which the compiler rounds towards zero as C does, and Python rounds down.

The interpreter follows the compiler, so a kernel that was written with Python's rule in mind gives a wrong result and
no error. The first lane of each place where both rules differ is noted, and a place can be run by Python's rule, which
tells whether the result is wrong for that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from autotune.tuning.interpreter.places import place, program

_OPERATORS = {"create_sdiv": "//", "create_srem": "%"}
_PYTHON = {"//": np.floor_divide, "%": np.remainder}


@dataclass(frozen=True)
class Division:
    """The first lane of a place for which C and Python divide differently."""

    program: tuple[int, ...]
    operator: str
    lane: int
    dividend: int
    divisor: int
    compiled: int
    """Result on a GPU, and here."""
    python: int


@dataclass
class Divisions:
    """The rule of each division, and where the rules differ."""

    rounded_down: Collection[str] = ()
    """Places, file:line, that follow Python's rule."""
    differing: dict[str, Division] = field(default_factory=dict)
    """The first division by place."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, signed divisions of device code are noted, or follow Python's rule."""
        from triton.runtime.interpreter import InterpreterBuilder as builder

        with ExitStack() as stack:
            for name, operator in _OPERATORS.items():
                method = self._wrapped(getattr(builder, name), operator)
                stack.enter_context(mock.patch.object(builder, name, method))
            yield

    def _wrapped(self, original: Callable[..., Any], operator: str) -> Callable[..., Any]:
        def divide(builder: Any, dividend: Any, divisor: Any) -> Any:  # noqa: ANN401
            result = original(builder, dividend, divisor)
            below = (dividend.data < 0) != (divisor.data < 0)
            if below.any():
                with np.errstate(divide="ignore"):  # lanes that are masked off may divide by zero
                    python = _PYTHON[operator](dividend.data, divisor.data)
                self._settle(result, (dividend.data, divisor.data, python), operator)
            return result

        return divide

    def _settle(self, result: Any, numbers: tuple[Any, Any, Any], operator: str) -> None:  # noqa: ANN401
        python = numbers[2].astype(result.data.dtype)
        lanes = np.flatnonzero(result.data != python)
        if not lanes.size:
            return
        where, lane = place(), int(lanes[0])
        shape = result.data.shape
        values = [int(np.broadcast_to(data, shape).ravel()[lane]) for data in (*numbers[:2], result.data, python)]
        self.differing.setdefault(where, Division(program(), operator, lane, *values))
        if where in self.rounded_down:
            result.data = python
