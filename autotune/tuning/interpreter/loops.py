"""Loop variables of device code with the type that the compiler gives them.

Triton's interpreter lets `range` yield Python's own integers, which divide towards minus infinity and never overflow.
The compiler makes a loop variable an int32 (int64 where a bound is), which divides towards zero as C does. So `range`
and `tl.range` yield tensors here; `tl.static_range` is unrolled by the compiler and keeps Python's integers.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import triton.language as tl

_NAME = "_autotune_range"
_turns: list[Callable[[range], Sequence[int]]] = [lambda whole: whole]


def type_loop_variables() -> None:
    """Replace `range` and `tl.range` in all device code, once a process."""
    from triton.runtime import interpreter

    setattr(interpreter, _NAME, _range)  # the interpreter hands its own globals to the functions that it rewrites
    interpreter.ASTTransformer.visit_For = _visit_for
    interpreter.InterpretedFunction.rewritten_fn.clear()
    interpreter._patch_lang_core = _with_range(interpreter._patch_lang_core)


@contextmanager
def turns(choose: Callable[[range], Sequence[int]]) -> Iterator[None]:
    """Inside, a loop runs only those of its turns that `choose` returns."""
    _turns.append(choose)
    try:
        yield
    finally:
        _turns.pop()


def _visit_for(self: Any, node: ast.For) -> ast.AST:  # noqa: ANN401
    call = node.iter
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range":
        call.func.id = _NAME
    visited: ast.AST = self.generic_visit(node)
    return visited


def _with_range(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def patch(lang: Any, scope: Any) -> None:  # noqa: ANN401
        original(lang, scope)
        scope.set_attr(lang, "range", _tl_range)

    return patch


def _tl_range(first: Any, last: Any = None, step: Any = None, **_: object) -> Iterator[Any]:  # noqa: ANN401
    start, stop = (0, first) if last is None else (first, last)
    return _range(start, stop, 1 if step is None else step)


def _range(*bounds: Any) -> Iterator[Any]:  # noqa: ANN401
    from triton.runtime.interpreter import TensorHandle

    plain = [bound.value if isinstance(bound, tl.constexpr) else bound for bound in bounds]
    kind = tl.int64 if any(map(_is_wide, plain)) else tl.int32
    dtype = np.int64 if kind == tl.int64 else np.int32
    for value in _turns[-1](range(*map(int, plain))):
        yield tl.tensor(TensorHandle(np.array([value], dtype), kind), kind)


def _is_wide(bound: Any) -> bool:  # noqa: ANN401
    if isinstance(bound, tl.tensor):
        return int(bound.dtype.primitive_bitwidth) > 32
    return not -(2**31) <= bound < 2**31
