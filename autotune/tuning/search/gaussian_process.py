"""A Gaussian process over an enumerated set of configs: its posterior is kept for all of them at once.

Matérn 5/2 with one length-scale a group of columns (Rasmussen and Williams 2006, §4.2, §5.1), plus one linear term
for each opinion (a model's or a neighbour's predicted times): how far an opinion is trusted is learned like a
length-scale. Hyper-parameters are maximum a posteriori.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

from autotune.tuning.arrays import Floats
from autotune.tuning.search.encoding import Points

Indices = list[int] | NDArray[np.intp]

_LENGTH_SPREAD, _SIGNAL_SPREAD, _NOISE_SPREAD = 0.9, 1.0, 1.5
_LOG_NOISE = np.log(1e-2)
_LOG_TRUST, _TRUST_SPREAD = np.log(0.5), 1.0
_JITTER = 1e-6
_STEPS, _STEPS_LATE, _LATE = 12, 5, 64
"""Of the optimiser of hyper-parameters: it starts where it ended last time, and late steps cost 4 ms each."""
_BLOCK = 1024
"""Points a time: with 200 observations, intermediates that stay in the cache halve the time of a covariance."""
_FITTED_ON = 256
"""Observations that hyper-parameters are fitted on; more would cost over 50 ms and change little."""


class Surrogate:
    """Posterior mean and deviation at every point, given standardised observations at some."""

    def __init__(self, points: Points, opinions: Floats | None = None) -> None:
        self._values, self._groups = points.values, points.groups
        self._opinions = np.zeros((len(points.values), 0), np.float32) if opinions is None else opinions
        lengths, trusts = len(points.log_lengths), self._opinions.shape[1]
        self._split = lengths, lengths + trusts
        self._mean = np.r_[points.log_lengths, np.full(trusts, _LOG_TRUST), 0.0, _LOG_NOISE]
        spreads = [_LENGTH_SPREAD] * lengths + [_TRUST_SPREAD] * trusts + [_SIGNAL_SPREAD, _NOISE_SPREAD]
        self._spread = np.array(spreads)
        self._theta = self._mean.copy()
        self._count = 0

    def fit(self, indices: Sequence[int], targets: Floats) -> None:
        """Hyper-parameters from observations, warm-started; then the posterior of those observations."""
        best = np.argsort(targets)[:_FITTED_ON] if len(indices) > _FITTED_ON else np.arange(len(indices))
        chosen = np.asarray(indices)[best]
        loss = self._loss(chosen, targets[best])
        bounds = list(zip(self._mean - 6, self._mean + 6, strict=True))
        steps = {"maxiter": _STEPS if len(chosen) < _LATE else _STEPS_LATE}
        found = minimize(loss, self._theta, jac=True, method="L-BFGS-B", bounds=bounds, options=steps)
        self._theta = found.x
        self._rebuild(list(indices))

    def observe(self, index: int) -> None:
        """One more observed point, hyper-parameters as they are: O(observations x points)."""
        if self._count == len(self._rows):
            self._grow()
        n, noise = self._count, np.exp(self._theta[-1]) + _JITTER
        known = self._rows[:n, index].astype(float)
        scale = np.sqrt(max(self._prior_variance(index) + noise - known @ known, 1e-8))
        covariance = self._covariance([index], slice(None))[0]
        self._factor[n, :n], self._factor[n, n] = known, scale
        self._rows[n] = (covariance - known.astype(np.float32) @ self._rows[:n]) / scale
        self._variance -= self._rows[n] ** 2
        self._count = n + 1

    def keep(self, count: int) -> None:
        """Forgets all but the first `count` observed points: the rest were only imagined."""
        self._variance += (self._rows[count : self._count] ** 2).sum(0)
        self._count = count

    def posterior(self, targets: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation at all points for the observations' `targets`, in the order observed."""
        return self.mean(targets), np.sqrt(np.maximum(self._variance, 1e-9))

    def mean(self, targets: Floats) -> Floats:
        n = self._count
        weights = solve_triangular(self._factor[:n, :n], targets, lower=True, check_finite=False)
        mean: Floats = weights.astype(np.float32) @ self._rows[:n]
        return mean

    def draws(self, targets: Floats, at: Indices, count: int, rng: np.random.Generator) -> Floats:
        """`count` joint samples of the posterior at the points `at`: [count, len(at)]."""
        rows = self._rows[: self._count, at].astype(float)
        covariance = self._covariance(at, at).astype(float) - rows.T @ rows
        covariance[np.diag_indices(len(at))] += 1e-4
        factor = cholesky(covariance, lower=True, check_finite=False)
        drawn: Floats = self.mean(targets)[at] + rng.standard_normal((count, len(at))) @ factor.T
        return drawn

    def _rebuild(self, indices: list[int]) -> None:
        n, noise = len(indices), np.exp(self._theta[-1]) + _JITTER
        room = max(64, 2 * n)
        covariance = self._covariance(indices, indices).astype(float)
        covariance[np.diag_indices(n)] += noise
        self._factor = np.zeros((room, room))
        self._factor[:n, :n] = cholesky(covariance, lower=True, check_finite=False)
        self._rows = np.empty((room, len(self._values)), np.float32)
        lower = self._factor[:n, :n].astype(np.float32)
        self._rows[:n] = solve_triangular(lower, self._covariance(indices, slice(None)), lower=True, check_finite=False)
        signal, trust = np.exp(self._theta[-2]), np.exp(self._theta[self._split[0] : self._split[1]])
        self._variance = signal + self._opinions**2 @ trust - (self._rows[:n] ** 2).sum(0)
        self._count = n

    def _grow(self) -> None:
        more = len(self._rows)
        self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._factor = np.pad(self._factor, ((0, more), (0, more)))

    def _prior_variance(self, index: int) -> float:
        trust = np.exp(self._theta[self._split[0] : self._split[1]])
        return float(np.exp(self._theta[-2]) + self._opinions[index] ** 2 @ trust)

    def _covariance(self, first: Indices, second: Indices | slice) -> Floats:
        lengths, trusts = self._split
        scale = np.exp(-self._theta[:lengths])[self._groups].astype(np.float32)
        a, b = self._values[first] * scale, self._values[second] * scale
        signal, trust = np.float32(np.exp(self._theta[-2])), np.exp(self._theta[lengths:trusts]).astype(np.float32)
        agreed = self._opinions[first] * trust, self._opinions[second]
        both = np.empty((len(a), len(b)), np.float32)
        for start in range(0, len(b), _BLOCK):
            part = slice(start, start + _BLOCK)
            both[:, part] = signal * _matern(a, b[part]) + agreed[0] @ agreed[1][part].T
        return both

    def _loss(self, chosen: Indices, targets: Floats) -> Callable[[Floats], tuple[float, Floats]]:
        """Negative log posterior of hyper-parameters and its gradient."""
        lengths, trusts = self._split
        values, opinions = self._values[chosen].astype(float), self._opinions[chosen].astype(float)
        columns = [values[:, self._groups == group] for group in range(lengths)]
        squared = np.stack([((c[:, None] - c[None]) ** 2).sum(-1) for c in columns])
        agreed = np.einsum("ic,jc->cij", opinions, opinions)
        identity = np.eye(len(chosen))

        def loss(theta: Floats) -> tuple[float, Floats]:
            inverse, trust = np.exp(-2 * theta[:lengths]), np.exp(theta[lengths:trusts])
            signal, noise = np.exp(theta[-2]), np.exp(theta[-1])
            r = np.sqrt(5 * np.tensordot(inverse, squared, 1))
            decay = np.exp(-r)
            matern = signal * (1 + r + r * r / 3) * decay
            factor = cholesky(
                matern + np.tensordot(trust, agreed, 1) + (noise + _JITTER) * identity, lower=True, check_finite=False
            )
            weights = cho_solve((factor, True), targets, check_finite=False)
            inner = np.outer(weights, weights) - cho_solve((factor, True), identity, check_finite=False)
            away = (theta - self._mean) / self._spread
            value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
            slope = inner * (signal * (1 + r) * decay * 5 / 3)
            gradient = (
                -0.5
                * np.r_[
                    np.tensordot(squared, slope, 2) * inverse,
                    np.tensordot(agreed, inner, 2) * trust,
                    (inner * matern).sum(),
                    noise * np.trace(inner),
                ]
            )
            return float(value), gradient + away / self._spread

        return loss


def _matern(a: Floats, b: Floats) -> Floats:
    """Between all rows of `a` and of `b`, length-scales of 1."""
    r: Floats = (a * a).sum(1)[:, None] + (b * b).sum(1)
    r -= 2 * a @ b.T
    np.maximum(r, 0, out=r)
    r *= 5
    np.sqrt(r, out=r)
    decay = np.exp(-r)
    r *= 1 + r / 3
    r += 1
    r *= decay
    return r
