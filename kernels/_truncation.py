"""The further error of FP8 products whose matrix units keep fewer bits than fp32: part of the references' bounds."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from autotune.arch import Accumulation

_DEVIATIONS = 6.0
_FRACTION_BITS = 7
"""One more than those of a product of e4m3 values, which is aligned as if it were below 2 and may be almost 4."""
_SECOND_ORDER = 1 + 2.0**-5
"""Sums that are cut off have erred already: by 4 x 34 x 2^-13 at most, where 128 products are added 32 at a time."""


def truncation(a: Tensor, b: Tensor, group: int, sums: Accumulation, independent: bool) -> Tensor:
    """Error of a b^T for float64 a [..., m, k] and b [..., n, k], scaled, where `tl.dot` adds at most `group` columns
    and fp32 adds the dots (DeepGEMM's promotion): float64 [..., m, n], at most."""
    dots = [dot_truncation(x, y, sums) for x, y in zip(a.split(group, -1), b.split(group, -1), strict=True)]
    square, worst = (torch.stack(part).sum(0) for part in zip(*dots, strict=True))
    return combined(square, worst, independent)


def combined(square: Tensor, worst: Tensor, independent: bool) -> Tensor:
    """The bound of a sum of dots, from the sums of their squares and worst cases: six deviations where the errors are
    independent (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019), else, or where it is less, the worst case."""
    return torch.minimum(_DEVIATIONS * square.sqrt(), worst) if independent else worst


def dot_truncation(a: Tensor, b: Tensor, sums: Accumulation) -> tuple[Tensor, Tensor]:
    """(mean square, worst case) of the error of one dot of float64 a [..., m, k] and b [..., n, k]: both [..., m, n].

    An instruction cuts `terms` products and the sum so far at u = 2^-bits M, M the largest magnitude among them, and
    its result at 2^-bits of itself (Xie et al. 2025, arXiv 2511.10909). A cut loses less than u, towards zero, and
    u^2 / 3 in the mean square. A product of e4m3 values has 6 fraction bits, so only those below 2^(7 - bits) M lose
    any. What the sums lose may have one sign in all instructions and is added up. The dot may begin at any instruction,
    so the sum so far is taken as the largest of all that end there: BLOCK_K needs not be known.
    """
    unit, pairs = 2.0**-sums.bits, list(zip(a.split(sums.terms, -1), b.split(sums.terms, -1), strict=True))
    prefix = [torch.zeros((), dtype=a.dtype, device=a.device)]
    square = worst = drift = prefix[0]
    for x, y in pairs:
        before = _largest_run(prefix)
        prefix.append(prefix[-1] + x @ y.mT)
        largest = before
        for product in _products(x, y):
            largest = torch.maximum(largest, product)
        cut = _SECOND_ORDER * unit * largest
        losing = torch.zeros_like(cut)
        for product in _products(x, y):
            losing += (product < 2.0**_FRACTION_BITS * cut) & (product > 0)
        square = square + losing * cut.square() / 3
        worst = worst + losing * cut
        drift = drift + torch.where(before > 0, cut, 0.0) + _SECOND_ORDER * unit * _largest_run(prefix)
    return square + drift.square() / 3, worst + drift


def _products(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Magnitudes of the products of one column after the other: all at once would be `terms` times as much memory."""
    for of_x, of_y in zip(x.abs().unbind(-1), y.abs().unbind(-1), strict=True):
        yield of_x[..., :, None] * of_y[..., None, :]


def _largest_run(prefix: list[Tensor]) -> Tensor:
    """Largest magnitude of the sums of instructions that end with the last one; 0 before the first."""
    runs = [(prefix[-1] - start).abs() for start in prefix[:-1]]
    return torch.stack(torch.broadcast_tensors(*runs)).amax(0) if runs else prefix[0]
