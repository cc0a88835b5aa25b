"""`tl.dot_scaled` for the interpreters of Triton before 3.8, which do not have it, and its operands in newer ones.

Formats and scales are those of the OCP Microscaling Formats (MX) Specification 1.0: e2m1, e4m3 and e5m2 elements, and
one e8m0 scale for each group of elements along K, whose byte 255 is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl

Array = Any
Handle = Any
"""A TensorHandle of Triton's interpreter: `data`, a NumPy array, and `dtype`, Triton's type of it."""

_POSITIVE = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
_E2M1 = np.array([*_POSITIVE, *(-value for value in _POSITIVE)], np.float32)
_E8M0_BIAS = 127
_E8M0_NAN = 255


def add_scaled_products(builder: Any, semantic: Any, to_float32: Callable[[Array, Any], Array]) -> None:  # noqa: ANN401
    """Give the interpreter's `builder` class and the `semantic` class of `triton.language` scaled products.

    `to_float32(data, dtype)` decodes bf16 and FP8. Products are summed in float32 and added to the accumulator once.
    """
    from triton.runtime.interpreter import TensorHandle

    def create_dot_scaled(  # noqa: PLR0913 - the parameters of Triton's own builder
        _: Any,  # noqa: ANN401
        a: Handle,
        a_scale: Handle | None,
        a_format: Any,  # noqa: ANN401
        b: Handle,
        b_scale: Handle | None,
        b_format: Any,  # noqa: ANN401
        fast_math: bool,
        a_packs_k: bool,
        b_packs_k: bool,
        accumulator: Handle,
    ) -> Handle:
        rows = _scaled(_values(a, a_format, -1 if a_packs_k else -2, to_float32), a_scale)
        columns = _values(b, b_format, -2 if b_packs_k else -1, to_float32)
        columns = _scaled(np.swapaxes(columns, -1, -2), b_scale)
        return TensorHandle(np.matmul(rows, np.swapaxes(columns, -1, -2)) + accumulator.data, tl.float32)

    original = semantic.dot_scaled

    def dot_scaled(  # noqa: PLR0913
        self: Any,  # noqa: ANN401
        a: Any,  # noqa: ANN401
        a_scale: Any,  # noqa: ANN401
        a_format: str,
        b: Any,  # noqa: ANN401
        b_scale: Any,  # noqa: ANN401
        b_format: str,
        *rest: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Pass the formats on as the compiler does; the interpreter has plain text."""
        return original(self, a, a_scale, tl.constexpr(a_format), b, b_scale, tl.constexpr(b_format), *rest)

    builder.create_dot_scaled, semantic.dot_scaled = create_dot_scaled, dot_scaled


def correct_operands(interpreter: Any, to_float32: Callable[[Array, Any], Array]) -> None:  # noqa: ANN401
    """Decode the operands of Triton's own scaled products, from 3.8 on, by `to_float32(data, dtype)`.

    Triton 3.9.0 takes them through float16: bf16 beyond 65,504 becomes infinite or NaN, bf16 below 6e-8 becomes zero,
    and six of the eight subnormals of e5m2 become smaller.
    """
    original = interpreter._mxfp_value_handle_to_float32

    def decode(operand: Handle) -> Array:
        kind = operand.dtype.scalar
        return original(operand) if kind == tl.uint8 else to_float32(operand.data, kind)

    interpreter._mxfp_value_handle_to_float32 = decode


def _scaled(values: Array, scale: Handle | None) -> Array:
    """Multiply float32 `values` [..., rows, K] by the e8m0 bytes of `scale` [..., rows, groups], if any."""
    if scale is None:
        return values
    exponents = scale.data.view(np.uint8).astype(np.int32)
    finite = np.ldexp(np.float32(1), np.minimum(exponents, _E8M0_NAN - 1) - _E8M0_BIAS)
    powers = np.where(exponents == _E8M0_NAN, np.float32(np.nan), finite)
    return values * np.repeat(powers, values.shape[-1] // powers.shape[-1], axis=-1)


def _values(operand: Handle, element_format: Any, packed_axis: int, to_float32: Callable[[Array, Any], Array]) -> Array:  # noqa: ANN401
    """Decode an operand to float32; two e2m1 elements lie in each byte along `packed_axis`, the first one low."""
    if element_format.name != "E2M1":
        return to_float32(operand.data, operand.dtype.scalar)
    bytes_last = np.moveaxis(operand.data.view(np.uint8), packed_axis, -1)
    pairs = np.stack([_E2M1[bytes_last & 15], _E2M1[bytes_last >> 4]], axis=-1)
    return np.moveaxis(pairs.reshape(*bytes_last.shape[:-1], -1), -1, packed_axis)
