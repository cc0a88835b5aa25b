"""Three ways in which the float64 model goes on where a kernel stores something.

`Follow` holds the exact value, rounded as the kernel's format rounds it, against what our kernels stored, and goes on
with theirs: every stage is checked from the inputs that it really had, as tightly as its own dtypes allow. `Exact` goes
on with the exact value: the result is that of the maths, end to end. `Rounded` goes on with the exact value off by a
random part of the stage's error and then rounded: what any right implementation in these dtypes may come to.
"""

from __future__ import annotations

import torch
from layer.roundings import Rounding
from torch import Tensor

Trace = dict[str, Tensor]


class Disagreement(Exception):
    """`place`: the first stage that our kernels did not compute as the model does."""

    def __init__(self, place: str, detail: str) -> None:
        super().__init__(f"{place}: {detail}")
        self.place = place


class Exact:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def __call__(self, name: str, value: Tensor, error: Tensor | float, rounding: Rounding) -> Tensor:
        """`value` float64, known to be within `error` of what the kernel rounds."""
        return value

    def choose(self, name: str, value: Tensor) -> Tensor:
        """A discrete choice: that of our kernels, which `Follow` checks, since a near tie may go either way."""
        return self.trace[name].double()

    def rounded(self, value: Tensor, rounding: Rounding) -> Tensor:
        """A rounding within a kernel, of a value that is known."""
        return value


class Rounded(Exact):
    def __init__(self, trace: Trace, seed: int) -> None:
        super().__init__(trace)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, name: str, value: Tensor, error: Tensor | float, rounding: Rounding) -> Tensor:
        off = value + error * (2 * torch.rand(value.shape, generator=self.generator, dtype=torch.float64) - 1)
        return rounding(off, off)[0]

    def rounded(self, value: Tensor, rounding: Rounding) -> Tensor:
        return rounding(value, value)[0]


class Follow(Exact):
    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self.tightest: dict[str, float] = {}
        """Share of a stage's numbers whose interval is that single number."""

    def __call__(self, name: str, value: Tensor, error: Tensor | float, rounding: Rounding) -> Tensor:
        low, high = rounding(value - error, value + error)
        got = self.trace[name].double().view(value.shape)
        # A token that a stage never saw has no row: whoever reads it all the same gets NaN, which is in no interval.
        there = ~got.isnan().flatten(1).all(1).view(-1, *(1,) * (got.ndim - 1))
        wrong = there & ~((low <= got) & (got <= high))
        self.tightest[name] = ((low == high) & there).sum().item() / max(1, there.expand_as(got).sum().item())
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            detail = f"{list(at)} is {got[at]:.6g}, must be {low[at]:.6g} to {high[at]:.6g}"
            raise Disagreement(name, f"{detail}; {int(wrong.sum())} of {wrong.numel()} are wrong")
        return got

    def choose(self, name: str, value: Tensor) -> Tensor:
        got = self.trace[name].double().view(value.shape)
        if not torch.equal(got, value.double()):
            raise Disagreement(name, f"{int((got != value).sum())} of {got.numel()} choices differ")
        return got

    def rounded(self, value: Tensor, rounding: Rounding) -> Tensor:
        return rounding(value, value)[0]
