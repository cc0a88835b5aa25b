"""The error that a result may have, by element and as a whole.

By element, each kernel's reference derives a bound from its formats and its algorithm: u = 2^-24 an operation of fp32,
(k - 1) u times the sum of magnitudes for a sum of k terms in any order (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., 2002, (4.4)), half a unit in the last place for each rounding to a narrower format, and what a
rounding before (a quantisation, a stored sum) moves. So tiles, split-K and the order of a reduction are all within it.
An operation that underflows errs by 2^-126 at most besides (ibid., (2.8), with subnormals flushed): UNDERFLOW.

Results that are rounded to bf16, FP8 or FP4 may err 1.4 to 10 times as much as a plain torch implementation does, those
that stay in fp32 up to 9,000 times as much (`benchmarks/validation/error_budgets.py`). Those bounds stay wide, for what
is summed:
- products of matrix units: (k - 1) u is the worst of any order, plain torch errs by about sqrt(k) u. A bound of that
  size (Higham and Mary, below) wants rounding errors of mean zero, and NVIDIA's matrix units cut off what they align
  (Fasi, Higham, Mikaitis and Pranesh, PeerJ Comput. Sci. 7:e330, 2021): errors lean towards zero and grow as k does.
  One product lost among k alike is above it up to k = 2^12; every kernel has check problems below that.
- FP8 products on Hopper and Ada, whose matrix units keep 13 fraction bits (`arch.Accumulation`): the references state
  what that adds to their bounds (`kernels/_truncation.py`), and `validate` emulates it. Without it right tiles of wgmma
  use up to 2.3 times their bound on the check problems; with it 0.84 at most. One lost product is above it in every
  FP8 GEMM; in logits of 64 heads and more the units' own error hides it, unless each head loses one.
- a row before the scales of its groups: in any order, for the same reason.
- exp, log and root: GPUs approximate them to about 2^-22 (`ex2.approx` in the PTX ISA), torch on a CPU does not.

As a whole: rounding errors of elements are independent and uniform within their bounds b where inputs are random (the
model of Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019), so the sum of their squares has mean sum(b^2) / 3 and
variance sum(b^4) 4/45; six standard deviations above the mean is the budget. It finds an error that every element's
bound hides: one that all elements share.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autotune.errors import UsageError, WrongResult
from autotune.kernel import Expected

UNDERFLOW = 2.0**-100
"""2^26 operations that underflow, or fewer whose results are scaled up afterwards."""
_DEVIATIONS = 6.0
INDEPENDENT = ("normal", "heavy", "huge_range")
"""Distributions whose rounding errors differ from element to element."""


def spent(want: Expected, got: Tensor, *, independent: bool = True) -> float:
    """The share of the budget that `got` uses, by element or as a whole, whichever is more.

    Raises WrongResult where it is above 1: NaN and infinities that nobody expects, and shapes that differ, always are.
    Raises UsageError where the reference gives a finite value and a bound that is NaN: no result could be within it.
    """
    if got.shape != want.value.shape:
        raise WrongResult(f"{want.name} has shape {list(got.shape)}, must have {list(want.value.shape)}")
    finite = want.value.isfinite()
    unknown = finite & want.bound.isnan()
    if unknown.any():
        place = tuple(unknown.nonzero()[0].tolist())
        raise UsageError(
            f"reference: the bound of {want.name}{list(place)} is NaN, the value is {want.value[place].item():.6g}; "
            "give every finite value a bound (0 times infinity is NaN: mind inputs of infinity)"
        )
    # An infinity or NaN that is expected must be there, unless the bound says that anything may. A bound in proportion
    # to the value is infinite at an infinity by itself: what is finite is wrong there all the same.
    free = want.bound.isinf() & ~(want.value.isinf() & got.isfinite())
    same = (got == want.value) | (got.isnan() & want.value.isnan()) | free
    error = torch.where(finite, (got - want.value).abs(), torch.where(same, 0.0, torch.inf))
    bound = torch.where(finite, want.bound, 0.0) + UNDERFLOW
    wrong = ~(error <= bound)  # NaN is never within a bound
    if wrong.any():
        at = tuple(wrong.nonzero()[0].tolist())
        raise WrongResult(
            f"{want.name}{list(at)} is {got[at].item():.6g}, must be {want.value[at].item():.6g} "
            f"within {bound[at].item():.3g}; {int(wrong.sum())} of {wrong.numel()} are wrong"
        )
    used = torch.where(bound.isinf(), 0.0, error / bound)  # anything is within an infinite bound, an infinity too
    share = used.max().item() if used.numel() else 0.0
    if not independent or not counted(want, error)[0].numel():
        return share
    off, allowed = relative(*counted(want, error)), relative_budget(want)
    if off > allowed:
        raise WrongResult(
            f"{want.name} as a whole is off by {off:.3g} of its Frobenius norm, must be within {allowed:.3g}: "
            "each element is within its bound, all of them lean one way"
        )
    return max(share, off / allowed)


def counted(want: Expected, error: Tensor) -> tuple[Tensor, Tensor]:
    """Errors and values of the elements that have a bound: where it is infinite a kernel may leave what it likes.

    Where the value itself is infinite or NaN there is no distance.
    """
    has = want.bound.isfinite() & want.value.isfinite()
    return error[has], want.value[has]


def relative(error: Tensor, value: Tensor) -> float:
    """Frobenius norm of `error` over that of `value`."""
    return _norm(error) / max(_norm(value), UNDERFLOW)


def relative_budget(want: Expected) -> float:
    """Return the largest `relative` error allowed for the elements that are `counted`."""
    bound, value = counted(want, want.bound + UNDERFLOW)
    squares = bound.square()
    variance = 4 / 45 * squares.square().sum().item()
    whole = squares.sum().item() / 3 + _DEVIATIONS * math.sqrt(variance)
    # Squares of the smallest bounds underflow in float64; the norm of the bounds is always enough.
    enough = _norm(bound)
    return min(math.sqrt(whole) or enough, enough) / max(_norm(value), UNDERFLOW)


def _norm(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values))
