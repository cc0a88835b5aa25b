"""The error that a result may have, by element and as a whole.

By element, each kernel's reference derives a bound from its formats and its algorithm: u = 2^-24 an operation of fp32,
(k - 1) u times the sum of magnitudes for a sum of k terms in any order (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., 2002, (4.4)), half a unit in the last place for each rounding to a narrower format, and what a
rounding before (a quantisation, a stored sum) moves. So tiles, split-K and the order of a reduction are all within it.
An operation that underflows errs by 2^-126 at most besides (ibid., (2.8), with subnormals flushed): UNDERFLOW.

As a whole: rounding errors of elements are independent and uniform within their bounds b where inputs are random (the
model of Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019), so the sum of their squares has mean sum(b^2) / 3 and
variance sum(b^4) 4/45; six standard deviations above the mean is the budget. It finds an error that every element's
bound hides: one that all elements share.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autotune.errors import WrongResult
from autotune.kernel import Expected

UNDERFLOW = 2.0**-100
"""2^26 operations that underflow, or fewer whose results are scaled up afterwards."""
_DEVIATIONS = 6.0
INDEPENDENT = ("normal", "heavy", "huge_range")
"""Distributions whose rounding errors differ from element to element."""


def spent(want: Expected, got: Tensor, *, independent: bool = True) -> float:
    """The share of the budget that `got` uses, by element or as a whole, whichever is more.

    Raises WrongResult where it is above 1: NaN, and shapes that differ, always are.
    """
    if got.shape != want.value.shape:
        raise WrongResult(f"{want.name} has shape {list(got.shape)}, must have {list(want.value.shape)}")
    bound = want.bound + UNDERFLOW
    error = (got - want.value).abs()
    wrong = ~(error <= bound)  # NaN is never within a bound
    if wrong.any():
        at = tuple(wrong.nonzero()[0].tolist())
        raise WrongResult(
            f"{want.name}{list(at)} is {got[at].item():.6g}, must be {want.value[at].item():.6g} "
            f"within {bound[at].item():.3g}; {int(wrong.sum())} of {wrong.numel()} are wrong"
        )
    share = (error / bound).max().item() if error.numel() else 0.0
    if not independent:
        return share
    used, allowed = relative(error, want.value), relative_budget(want)
    if used > allowed:
        raise WrongResult(
            f"{want.name} as a whole is off by {used:.3g} of its Frobenius norm, must be within {allowed:.3g}: "
            "each element is within its bound, all of them lean one way"
        )
    return max(share, used / allowed)


def relative(error: Tensor, value: Tensor) -> float:
    """Frobenius norm of `error` over that of `value`."""
    return _norm(error) / max(_norm(value), UNDERFLOW)


def relative_budget(want: Expected) -> float:
    """What `relative` may be."""
    squares = (want.bound + UNDERFLOW).square()
    variance = 4 / 45 * squares.square().sum().item()
    whole = squares.sum().item() / 3 + _DEVIATIONS * math.sqrt(variance)
    # Squares of the smallest bounds underflow in float64; the norm of the bounds is always enough.
    enough = _norm(want.bound + UNDERFLOW)
    return min(math.sqrt(whole) or enough, enough) / max(_norm(want.value), UNDERFLOW)


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values))
