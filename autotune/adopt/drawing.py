"""Arguments of captured calls, drawn anew: tensors of the same dtypes, shapes, strides and ranges, other values."""

from __future__ import annotations

import torch
from torch import Tensor

from autotune.inputs import Draw

Shape = tuple[int, ...]


def dtype_name(dtype: torch.dtype) -> str:
    """`float16` of `torch.float16`."""
    return str(dtype).removeprefix("torch.")


class Inputs(Draw):
    """Draws tensors as a captured call holds them; dtypes are torch's names, such as `float16`."""

    def floats(self, shape: Shape, dtype: str, *, stride: Shape | None = None) -> Tensor:
        """Normal values, or those of the distribution under which a proof runs."""
        return self._placed(self.normal(shape, getattr(torch, dtype)), stride)

    def within(self, shape: Shape, dtype: str, low: float, high: float, *, stride: Shape | None = None) -> Tensor:
        """Uniform values of floats that are never below zero where they were captured: scales, variances, weights."""
        return self._placed(self.uniform(shape, low, max(high, low)).to(getattr(torch, dtype)), stride)

    def whole(  # noqa: PLR0913 - a tensor, and what is known of its values
        self,
        shape: Shape,
        dtype: str,
        low: int,
        high: int,
        *,
        ascending: bool = False,
        distinct: bool = False,
        stride: Shape | None = None,
    ) -> Tensor:
        """Integers or booleans from `low` to `high`, both included.

        `ascending`: sorted, the first is `low` and the last is `high`, as starts of sequences are. `distinct`: all
        differ, as slots do; `high` grows where the range has too few.
        """
        kind = getattr(torch, dtype)
        if self._device == "meta":
            return self._placed(torch.empty(shape, dtype=kind, device="meta"), stride)
        count = torch.Size(shape).numel()
        if distinct:
            span = max(high - low + 1, count)
            values = torch.randperm(span, generator=self._generator, device=self._device)[:count] + low
        else:
            values = self.integers((count,), low, high + 1, torch.int64)
        if ascending:
            values = values.sort().values
            values[-1:] = max(high, low + count - 1 if distinct else high)
            values[:1] = low
        return self._placed(values.reshape(shape).to(kind), stride)

    def zeros(self, shape: Shape, dtype: str, *, stride: Shape | None = None) -> Tensor:
        """Zeros: what a kernel adds into, or writes in part."""
        return self._placed(torch.zeros(shape, dtype=getattr(torch, dtype), device=self._device), stride)

    def _placed(self, tensor: Tensor, stride: Shape | None) -> Tensor:
        """Return `tensor` with these strides, in memory of its own; along a stride of 0 all hold the first's values."""
        if stride is None or tensor.stride() == stride:
            return tensor
        first = tensor[tuple(slice(1) if step == 0 else slice(None) for step in stride)]
        memory = torch.empty_strided(first.shape, stride, dtype=tensor.dtype, device=tensor.device)
        return memory.copy_(first).as_strided(tensor.shape, stride)
