"""Which lanes hold a value that followed from an overflow of signed 32-bit (or narrower) integers.

NumPy wraps around as the hardware does, and says nothing. Here each sum, product and shift is computed once more in 64
bits; lanes that differ are marked, and marks follow values through the builder's other operations to the addresses
that they end in. Bitwise operations end a mark: hashes overflow on purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import numpy as np
import triton.language as tl

_MARK = "autotune_overflowed"
_CHECKED: dict[str, Callable[[Any, Any], Any]] = {
    "create_add": np.add,
    "create_sub": np.subtract,
    "create_mul": np.multiply,
    "create_shl": np.left_shift,
}
_SHAPED = ("create_expand_dims", "create_broadcast", "create_trans", "create_reshape", "create_splat", "create_unsplat")
_FOLLOWED = (
    *("create_sdiv", "create_srem", "create_int_cast", "create_addptr", "create_minsi", "create_maxsi"),
    *("create_select", "cast_impl", "create_idiv"),
)


@contextmanager
def overflows_marked() -> Iterator[None]:
    """Inside, `marks` knows the lanes of every handle that followed from an overflow."""
    from triton.runtime.interpreter import InterpreterBuilder as builder

    with ExitStack() as stack:
        for name in (*_CHECKED, *_SHAPED, *_FOLLOWED):
            if hasattr(builder, name):
                method = _marked(getattr(builder, name), _CHECKED.get(name), shaped=name in _SHAPED)
                stack.enter_context(mock.patch.object(builder, name, method))
        yield


def marks(handle: Any) -> Any:  # noqa: ANN401
    """bool array of the lanes that followed from an overflow, of a shape that broadcasts to the handle's; or None."""
    return handle.attr.get(_MARK)


def _marked(original: Callable[..., Any], exact: Callable[[Any, Any], Any] | None, *, shaped: bool) -> Any:  # noqa: ANN401
    from triton.runtime.interpreter import TensorHandle

    @wraps(original)
    def method(self: Any, *args: Any, **named: Any) -> Any:  # noqa: ANN401
        result = original(self, *args, **named)
        handles = [arg for arg in args if isinstance(arg, TensorHandle)]
        wrong = [arg.attr[_MARK] for arg in handles if _MARK in arg.attr]
        if exact is not None and _is_signed(result.dtype):
            here = result.data != exact(*(arg.data.astype(np.int64) for arg in handles[:2]))
            wrong += [here] if here.any() else []
        if wrong and shaped:
            moved = [TensorHandle(arg.attr[_MARK], tl.int1) if isinstance(arg, TensorHandle) else arg for arg in args]
            result.attr[_MARK] = original(self, *moved, **named).data
        elif wrong:
            result.attr[_MARK] = np.logical_or.reduce(np.broadcast_arrays(*wrong)) if len(wrong) > 1 else wrong[0]
        return result

    return method


def _is_signed(kind: Any) -> bool:  # noqa: ANN401
    scalar = kind.scalar
    return bool(scalar.is_int() and scalar.is_int_signed() and 8 <= scalar.primitive_bitwidth < 64)
