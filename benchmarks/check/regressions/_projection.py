"""The problem of a projection x @ weight.T of bf16 rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from autotune.inputs import Draw
from autotune.kernel import Arguments


@dataclass(frozen=True)
class Projection:
    """x bf16 [m, k], weight bf16 [n, k]; an element of the output has `OUTPUT_BYTES`."""

    m: int
    n: int
    k: int

    VARYING: ClassVar[tuple[str, ...]] = ("m",)
    OUTPUT_BYTES: ClassVar[int]

    @classmethod
    def of(cls, args: Arguments) -> Self:
        return cls(args.x.shape[0], *args.weight.shape)

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k

    @property
    def bytes_moved(self) -> int:
        return 2 * (self.m + self.n) * self.k + self.OUTPUT_BYTES * self.m * self.n

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        return tuple(draw.normal((rows, self.k), torch.bfloat16) for rows in (self.m, self.n))
