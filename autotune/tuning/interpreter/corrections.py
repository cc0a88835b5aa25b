"""Triton's CPU interpreter, with its bfloat16 and FP8 arithmetic put right.

The interpreter holds bf16 as raw 16-bit integers and computes on those: products are off by factors of 1e11, and no
error is raised. Here operands are widened to float32 before every operation and results are rounded to nearest even.
Conversions to FP8 go through torch, and saturate as the GPU's do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from autotune.errors import ToolchainError, UsageError
from autotune.toolchain import PROVE, remedy, require
from autotune.tuning.interpreter.alignment import accumulation, aligned_dot
from autotune.tuning.interpreter.libdevice import interpret_libdevice
from autotune.tuning.interpreter.loops import type_loop_variables
from autotune.tuning.interpreter.reductions import reduce_by_slices
from autotune.tuning.interpreter.releases import ARITHMETIC, fill_gaps, missing_names

_FP8 = {
    tl.float8e4nv: torch.float8_e4m3fn,
    tl.float8e4b8: torch.float8_e4m3fnuz,
    tl.float8e5: torch.float8_e5m2,
    tl.float8e5b16: torch.float8_e5m2fnuz,
}


@cache
def correct_interpreter() -> None:
    """Wraps the interpreter's operations, once a process.

    Raises UsageError where TRITON_INTERPRET was not set, ToolchainError where this Triton is too old or its interpreter
    lacks a name that is used here.
    """
    if not triton.knobs.runtime.interpret:
        raise UsageError("validation runs in the interpreter: set TRITON_INTERPRET=1 before Triton is imported")
    require(PROVE, triton.__version__)
    if missing := missing_names():
        raise ToolchainError(f"the interpreter of triton {triton.__version__} has no {', '.join(missing)}; {remedy()}")
    from triton.runtime import interpreter
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    interpreter._implicit_cvt = _with_floats(interpreter._implicit_cvt, TensorHandle)
    fill_gaps(to_float32)
    type_loop_variables()
    interpret_libdevice()
    reduce_by_slices()
    for name in (*ARITHMETIC, "create_fneg"):
        if hasattr(InterpreterBuilder, name):
            setattr(InterpreterBuilder, name, _widened(getattr(InterpreterBuilder, name), TensorHandle))
    for name in [name for name in vars(InterpreterBuilder) if name.startswith(("create_icmp", "create_fcmp"))]:
        setattr(InterpreterBuilder, name, _flags(getattr(InterpreterBuilder, name), TensorHandle))
    for name in ("create_and", "create_or", "create_xor"):
        setattr(InterpreterBuilder, name, _of_flags(getattr(InterpreterBuilder, name), TensorHandle))
    InterpreterBuilder.cast_impl = _corrected_cast(InterpreterBuilder.cast_impl, TensorHandle)
    InterpreterBuilder.create_fp_to_fp = _corrected_conversion(InterpreterBuilder.create_fp_to_fp, TensorHandle)
    InterpreterBuilder.create_dot = _corrected_dot(TensorHandle)
    InterpreterBuilder.create_atomic_rmw = _without_bf16(InterpreterBuilder.create_atomic_rmw)


def _with_floats(original: Callable[..., Any], handle: Any) -> Callable[..., Any]:  # noqa: ANN401
    """Make a float argument what it is on a GPU, a float32 scalar: the interpreter leaves it a number of Python,
    which has no `.to`, and which widens no bf16 that it is multiplied with."""

    @wraps(original)
    def convert(argument: Any) -> Any:  # noqa: ANN401
        if isinstance(argument, float):
            return tl.tensor(handle(np.array([argument], np.float32), tl.float32), tl.float32)
        return original(argument)

    return convert


def _flags(original: Callable[..., Any], handle: Any) -> Callable[..., Any]:  # noqa: ANN401
    """Give the result of a comparison the type int1: the interpreter leaves it that of the operands, so that one scalar
    beside a block becomes a mask of integers, which no access takes."""

    @wraps(original)
    def compare(self: Any, left: Any, right: Any) -> Any:  # noqa: ANN401
        return handle(original(self, left, right).data, tl.int1)

    return compare


def _of_flags(original: Callable[..., Any], handle: Any) -> Callable[..., Any]:  # noqa: ANN401
    """Keep flags booleans under `&`, `|`, `^` and `~`, which the interpreter writes as `^ -1`."""

    @wraps(original)
    def combine(self: Any, left: Any, right: Any) -> Any:  # noqa: ANN401
        result = original(self, left, right)
        if left.dtype.scalar != tl.int1 or result.data.dtype == bool:
            return result
        return handle((result.data & 1).astype(bool), tl.int1)

    return combine


def to_float32(data: Any, dtype: Any) -> Any:  # noqa: ANN401
    """float32 values of bf16 or FP8 bits; other data as they are."""
    if dtype == tl.bfloat16:
        return (data.astype(np.uint32) << 16).view(np.float32)
    if dtype in _FP8:
        flat = torch.from_numpy(np.ascontiguousarray(data).reshape(-1).view(np.uint8).copy())
        return flat.view(_FP8[dtype]).float().numpy().reshape(data.shape)
    return data


def from_float32(values: Any, dtype: Any) -> Any:  # noqa: ANN401
    """Bits of bf16, or of FP8 saturated to its largest finite value, nearest even; NaN stays NaN."""
    flat = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32).reshape(-1).copy())
    if dtype == tl.bfloat16:
        return flat.bfloat16().view(torch.uint16).numpy().reshape(np.shape(values))
    kind = _FP8[dtype]
    most = torch.finfo(kind).max
    return flat.clamp(-most, most).to(kind).view(torch.uint8).numpy().reshape(np.shape(values))


def is_narrow(dtype: Any) -> bool:  # noqa: ANN401
    return dtype == tl.bfloat16 or dtype in _FP8


def _widened(operation: Callable[..., Any], handle: Any) -> Callable[..., Any]:  # noqa: ANN401
    def is_bf16(value: Any) -> bool:  # noqa: ANN401
        return isinstance(value, handle) and value.dtype.scalar == tl.bfloat16

    @wraps(operation)
    def run(self: Any, *args: Any) -> Any:  # noqa: ANN401
        if not any(map(is_bf16, args)):
            return operation(self, *args)
        wide = [handle(to_float32(a.data, tl.bfloat16), tl.float32) if is_bf16(a) else a for a in args]
        result = operation(self, *wide)
        if result.data.dtype != np.float32:
            return handle(result.data, tl.bfloat16)  # a comparison: booleans, typed by the caller
        return handle(from_float32(result.data, tl.bfloat16), tl.bfloat16)

    return run


def _convert(src: Any, dst_type: Any, handle: Any) -> Any:  # noqa: ANN401
    from triton.runtime.interpreter import _get_np_dtype

    source, target = src.dtype.scalar, dst_type.scalar
    values = to_float32(src.data, source)
    data = from_float32(values, target) if is_narrow(target) else values.astype(_get_np_dtype(dst_type))
    return handle(data, target)


def _corrected_cast(original: Callable[..., Any], handle: Any) -> Callable[..., Any]:  # noqa: ANN401
    @wraps(original)
    def cast(self: Any, src: Any, dst_type: Any) -> Any:  # noqa: ANN401
        if is_narrow(src.dtype.scalar) or is_narrow(dst_type.scalar):
            return _convert(src, dst_type, handle)
        return original(self, src, dst_type)

    return cast


def _corrected_conversion(original: Callable[..., Any], handle: Any) -> Callable[..., Any]:  # noqa: ANN401
    from triton._C.libtriton import ir

    @wraps(original)
    def convert(self: Any, src: Any, dst_type: Any, rounding_mode: Any) -> Any:  # noqa: ANN401
        known = all(
            t in _FP8 or not (t.is_floating() and t.primitive_bitwidth == 8)
            for t in (src.dtype.scalar, dst_type.scalar)
        )
        if known and rounding_mode in (None, ir.ROUNDING_MODE.RTNE):
            return _convert(src, dst_type, handle)
        return original(self, src, dst_type, rounding_mode)

    return convert


def _corrected_dot(handle: Any) -> Callable[..., Any]:  # noqa: ANN401
    def dot(self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any) -> Any:  # noqa: ANN401
        a_data, b_data = to_float32(a.data, a.dtype.scalar), to_float32(b.data, b.dtype.scalar)
        acc = to_float32(d.data, d.dtype.scalar)
        fp8 = a.dtype.scalar in _FP8 and b.dtype.scalar in _FP8 and acc.dtype == np.float32 and acc.ndim == 2
        sums = accumulation(acc.shape[0]) if fp8 else None
        plain = np.matmul(a_data, b_data, dtype=acc.dtype) + acc
        result = aligned_dot(a_data, b_data, acc, sums) if sums else plain
        target = d.dtype.scalar
        return handle(from_float32(result, target) if is_narrow(target) else result, target)

    return dot


def _without_bf16(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def atomic(self: Any, op: Any, ptr: Any, val: Any, *rest: Any) -> Any:  # noqa: ANN401
        if val.dtype.scalar == tl.bfloat16:
            raise NotImplementedError("bf16 atomics cannot be interpreted; accumulate in float32")
        return original(self, op, ptr, val, *rest)

    return atomic
