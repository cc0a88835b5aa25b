"""Reductions of Triton's interpreter by functions that it does not know, such as the exclusive or inside `tl.sort`.

The interpreter calls the function once an element. A combine function works on each element alone, so that it may as
well be called once a slice: 512 elements are sorted in 0.2 s of CPU in place of 1.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def reduce_by_slices() -> None:
    """Replace the interpreter's reduction by an unknown function, once a process; the order stays first to last."""
    from triton.runtime import interpreter

    interpreter.ReduceOps.generic_reduce = _reduced


def _reduced(self: Any, operands: tuple[Any, ...]) -> list[Any]:  # noqa: ANN401
    """Combine the slices of each operand along `self.axis`; None flattens them first, and reduces to scalars."""
    rank = operands[0].handle.data.ndim
    flattened, axis = self.unravel(operands, self.axis)
    slices = [np.moveaxis(operand.handle.data, axis, 0) for operand in flattened]
    types = [operand.dtype for operand in flattened]

    def tensors(values: Any) -> tuple[Any, ...]:  # noqa: ANN401
        return tuple(self.to_tensor(value, dtype) for value, dtype in zip(values, types, strict=True))

    totals = tensors(data[0] for data in slices)
    for at in range(1, len(slices[0])):
        combined = self.combine_fn.fn(*totals, *tensors(data[at] for data in slices))
        parts = combined if isinstance(combined, tuple) else (combined,)
        totals = tensors(part.handle.data for part in parts)
    results = [total.handle.data.reshape(slices[0].shape[1:]) for total in totals]
    if self.keep_dims:
        kept = [1] * rank if self.axis is None else None
        results = [data.reshape(kept) if kept else np.expand_dims(data, axis) for data in results]
    return list(tensors(results))
