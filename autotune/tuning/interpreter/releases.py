"""Differences between the interpreters of Triton's releases: private names that must exist, and gaps of older ones.

The gaps are closed here and in `scaled_products`, so that every release that `autotune.toolchain` names proves the same
configs right and wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from typing import Any

import numpy as np
import triton.language as tl
from triton.language.semantic import TritonSemantic

from autotune.tuning.interpreter.scaled_products import add_scaled_products, correct_operands

_COMPARISONS = [f"create_fcmp{order}{relation}" for order in "OU" for relation in ("LT", "GT", "LE", "GE", "EQ", "NE")]
ARITHMETIC = (
    *("create_fadd", "create_fsub", "create_fmul", "create_fdiv", "create_frem", "create_fma"),
    *("create_precise_divf", "create_minimumf", "create_minnumf", "create_maximumf", "create_maxnumf", "create_clampf"),
    *("create_cos", "create_sin", "create_exp", "create_exp2", "create_log", "create_log2", "create_floor"),
    *("create_ceil", "create_sqrt", "create_precise_sqrt", "create_rsqrt", "create_erf", *_COMPARISONS),
)
"""Operations of the builder on floats that every release has; `create_fneg` came with 3.8, which subtracted before."""

PRIVATE = (
    *("TensorHandle", "InterpretedFunction.run", "InterpretedFunction.rewrite", "interpreter_builder.set_grid_dim"),
    *("interpreter_builder.set_grid_idx", "_implicit_cvt", "_patch_lang", "_patch_lang_tensor", "_patch_lang_core"),
    *("_get_np_dtype", "_interpreter.load", "np.matmul", "interpreter_semantic", "ASTTransformer"),
    *("InterpretedFunction.rewritten_fn", "InterpreterBuilder.create_assume", "InterpreterBuilder.create_barrier"),
    *(f"InterpreterBuilder.{name}" for name in ARITHMETIC),
    *("InterpreterBuilder.cast_impl", "InterpreterBuilder.create_fp_to_fp", "InterpreterBuilder.create_dot"),
    *("InterpreterBuilder.create_masked_load", "InterpreterBuilder.create_masked_store", "InterpreterBuilder.get_fp32"),
    *("InterpreterBuilder.create_atomic_rmw", "InterpreterBuilder.create_atomic_cas"),
    *("InterpreterBuilder.create_sdiv", "InterpreterBuilder.create_srem"),
    *("InterpreterBuilder.binary_op", "ReduceOps.generic_reduce", "ReduceOps.unravel", "ReduceOps.to_tensor"),
    "InterpreterBuilder.create_make_tensor_descriptor",
)
"""Every name of `triton.runtime.interpreter` that the corrections, the sanitizer and the checks of rows rely on."""


def missing_names() -> list[str]:
    """Names of PRIVATE that this Triton's interpreter does not have."""
    from triton.runtime import interpreter

    return [name for name in PRIVATE if not _has(interpreter, name)]


def fill_gaps(to_float32: Callable[[Any, Any], Any]) -> None:
    """Give the interpreter what this release lacks, once a process; `to_float32(data, dtype)` decodes bf16 and FP8."""
    from triton.runtime import interpreter

    builder = interpreter.InterpreterBuilder
    if not hasattr(builder, "get_bf16"):  # before Triton 3.9
        builder.get_bf16 = _bf16_constant
    builder.create_minnumf = _elementwise(np.fmin)  # a number beside NaN; before Triton 3.8 NaN, as of minimumf
    builder.create_maxnumf = _elementwise(np.fmax)
    if hasattr(builder, "create_dot_scaled"):
        correct_operands(interpreter, to_float32)
    else:  # before Triton 3.8
        add_scaled_products(builder, TritonSemantic, to_float32)
    interpreter._patch_lang_tensor = _with_index(interpreter._patch_lang_tensor)
    interpreter._patch_lang_core = _with_fnuz(interpreter._patch_lang_core)


def mask_handle(mask: Any) -> Any:  # noqa: ANN401
    """The mask of an access as a TensorHandle; before Triton 3.9 that of a tensor descriptor is a bare array."""
    from triton.runtime.interpreter import TensorHandle

    return TensorHandle(mask, tl.int1) if isinstance(mask, np.ndarray) else mask


def _has(module: Any, name: str) -> bool:  # noqa: ANN401
    try:
        attrgetter(name)(module)
    except AttributeError:
        return False
    return True


def _bf16_constant(self: Any, value: float) -> Any:  # noqa: ANN401
    return self.cast_impl(self.get_fp32(value), tl.bfloat16)


def _elementwise(operation: Any) -> Callable[..., Any]:  # noqa: ANN401
    return lambda self, left, right: self.binary_op(left, right, operation)


def _with_index(original: Callable[..., None]) -> Callable[..., None]:
    """A scalar is an array of one element. Triton 3.6 applies `int` to it, which NumPy 2.5 no longer allows."""

    @wraps(original)
    def patch(tensor: Any, scope: Any) -> None:  # noqa: ANN401
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    return patch


def _with_fnuz(original: Callable[..., None]) -> Callable[..., None]:
    """Before Triton 3.8 the interpreter converts to no FP8 of CDNA3, although its builder knows both."""

    @wraps(original)
    def patch(lang: Any, scope: Any) -> None:  # noqa: ANN401
        original(lang, scope)
        to_ir = lang.dtype.to_ir
        fnuz = (tl.float8e4b8, tl.float8e5b16)
        scope.set_attr(lang.dtype, "to_ir", lambda self, builder: self if self in fnuz else to_ir(self, builder))

    return patch
