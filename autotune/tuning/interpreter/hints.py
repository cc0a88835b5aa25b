"""Hints that device code gives the compiler, checked against the values that they are about.

`tl.multiple_of`, `tl.max_contiguous` and `tl.max_constancy` are promises on which the compiler widens accesses; the
interpreter only notes them. Their meaning is that of `AxisInfo` in Triton's `include/triton/Analysis/AxisInfo.h`:
a block of `contiguity` values counts up one by one, `divisibility` is that of the first value of each such run, and a
block of `constancy` values is equal. For pointers, divisibility is in bytes, contiguity in elements.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import triton.language as tl

from autotune.errors import Defect
from autotune.tuning.interpreter.places import place, program


def with_checks(patch_lang_core: Callable[..., None]) -> Callable[..., None]:
    """The interpreter's `_patch_lang_core`, whose hints check what they are told."""

    @wraps(patch_lang_core)
    def patch(lang: Any, scope: Any) -> None:  # noqa: ANN401
        patch_lang_core(lang, scope)
        for name, first_wrong in _CHECKS.items():
            scope.set_attr(lang, name, _checked(name, getattr(lang, name), first_wrong))

    return patch


def assume(self: Any, condition: Any) -> None:  # noqa: ANN401
    """The builder's `create_assume`. Raises Defect where the condition does not hold."""
    if not condition.data.all():
        lane = int((~condition.data.ravel()).argmax())
        raise Defect("false hint", place(), program(), "tl.assume", lane, "its condition does not hold")


def _checked(name: str, original: Callable[..., Any], first_wrong: Callable[[Any, int, int], int | None]) -> Any:  # noqa: ANN401
    def hint(value: Any, promised: Any, **rest: Any) -> Any:  # noqa: ANN401
        if isinstance(value, tl.tensor):
            listed = promised if isinstance(promised, (list, tuple)) else [promised]
            numbers = [int(n.value if isinstance(n, tl.constexpr) else n) for n in listed]
            data = _numbers(value.handle, in_elements=name != "multiple_of")
            for axis, number in enumerate(numbers):
                lane = first_wrong(data, axis, number)
                if lane is not None:
                    more = f"{number} along axis {axis}, but lane {lane} holds {int(data.ravel()[lane])}"
                    raise Defect("false hint", place(), program(), f"tl.{name}", lane, more)
        return original(value, promised, **rest)

    return hint


def _numbers(handle: Any, *, in_elements: bool) -> Any:  # noqa: ANN401
    """Values as int64; addresses in elements where asked."""
    data = handle.data.astype(np.int64)
    if isinstance(handle.dtype, tl.pointer_type) and in_elements:
        return data // max(1, handle.get_element_ty().primitive_bitwidth // 8)
    return data


def _no_multiple(data: Any, axis: int, number: int) -> int | None:  # noqa: ANN401
    """Flat index of the first value that begins a run of consecutive values and that `number` does not divide."""
    begins = np.ones(data.shape, dtype=bool)
    inner = [slice(None)] * data.ndim
    inner[axis] = slice(1, None)
    begins[tuple(inner)] = np.diff(data, axis=axis) != 1
    return _first(begins & (data % number != 0))


def _not_contiguous(data: Any, axis: int, number: int) -> int | None:  # noqa: ANN401
    return _first(_in_blocks(data, axis, number, 1))


def _not_constant(data: Any, axis: int, number: int) -> int | None:  # noqa: ANN401
    return _first(_in_blocks(data, axis, number, 0))


def _in_blocks(data: Any, axis: int, number: int, step: int) -> Any:  # noqa: ANN401
    """True where a value is not `step` more than the one before it, within blocks of `number` along `axis`."""
    wrong = np.zeros(data.shape, dtype=bool)
    inner = [slice(None)] * data.ndim
    inner[axis] = slice(1, None)
    within = np.arange(1, data.shape[axis]) % max(1, number) != 0
    shape = [1] * data.ndim
    shape[axis] = within.size
    wrong[tuple(inner)] = (np.diff(data, axis=axis) != step) & within.reshape(shape)
    return wrong


def _first(wrong: Any) -> int | None:  # noqa: ANN401
    return int(wrong.ravel().argmax()) if wrong.any() else None


_CHECKS = {"multiple_of": _no_multiple, "max_contiguous": _not_contiguous, "max_constancy": _not_constant}
