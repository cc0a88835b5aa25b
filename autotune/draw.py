"""Seeded random tensors for problems' inputs; on the meta device they have shapes and cost nothing."""

from __future__ import annotations

import torch
from torch import Tensor

FP8 = {"e4m3fn": torch.float8_e4m3fn, "e4m3fnuz": torch.float8_e4m3fnuz}


class Draw:
    """One generator, seeded once; every method returns a contiguous tensor on `device`."""

    def __init__(self, seed: int, device: str) -> None:
        self._device = device
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype, scale: float = 1.0) -> Tensor:
        if self._device == "meta":
            return torch.empty(shape, dtype=dtype, device="meta")
        return (torch.randn(shape, generator=self._generator) * scale).to(dtype).to(self._device)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """float32 in [low, high)."""
        if self._device == "meta":
            return torch.empty(shape, device="meta")
        return (torch.rand(shape, generator=self._generator) * (high - low) + low).to(self._device)

    def integers(self, shape: tuple[int, ...], low: int, high: int, dtype: torch.dtype) -> Tensor:
        """Integers in [low, high)."""
        if self._device == "meta":
            return torch.empty(shape, dtype=dtype, device="meta")
        return torch.randint(low, high, shape, generator=self._generator).to(dtype).to(self._device)
