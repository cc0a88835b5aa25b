"""A Gaussian process over an enumerated set of configs, whose posterior is kept for all of them at once.

Matérn 5/2 with one length-scale per group of columns (Rasmussen and Williams 2006, §4.2, §5.1), plus one linear term
per prior (times predicted by a model or measured elsewhere), whose weight is learned like a length-scale.
Hyper-parameters are maximum a posteriori.
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
_LOG_WEIGHT, _WEIGHT_SPREAD = np.log(0.5), 1.0
_JITTER = 1e-6
_STEPS, _LATE_STEPS, _LATE = 12, 5, 64
"""Optimizer steps for hyper-parameters, early and from the 64th observation on, where a step costs 4 ms. Each fit
starts from the last one."""
_BLOCK = 1024
"""Points per block of a covariance: with 200 observations, intermediates that stay in cache halve its time."""
_FITTED_ON = 256
"""Most observations that hyper-parameters are fitted on; more would cost over 50 ms and change little."""


class GaussianProcess:
    """Posterior mean and deviation at every point, given standardized observations at some."""

    def __init__(self, points: Points, priors: Floats | None = None) -> None:
        self._values, self._groups = points.values, points.groups
        self._priors = np.zeros((len(points.values), 0), np.float32) if priors is None else priors
        lengths, weights = len(points.log_lengths), self._priors.shape[1]
        self._split = lengths, lengths + weights
        self._mean = np.r_[points.log_lengths, np.full(weights, _LOG_WEIGHT), 0.0, _LOG_NOISE]
        spreads = [_LENGTH_SPREAD] * lengths + [_WEIGHT_SPREAD] * weights + [_SIGNAL_SPREAD, _NOISE_SPREAD]
        self._spread = np.array(spreads)
        self._theta = self._mean.copy()
        self._count = 0

    def fit(self, indices: Sequence[int], targets: Floats) -> None:
        """Fit hyper-parameters to the observations, warm-started, and condition on all of them."""
        best = np.argsort(targets)[:_FITTED_ON] if len(indices) > _FITTED_ON else np.arange(len(indices))
        chosen = np.asarray(indices)[best]
        loss = self._loss(chosen, targets[best])
        bounds = list(zip(self._mean - 6, self._mean + 6, strict=True))
        steps = {"maxiter": _STEPS if len(chosen) < _LATE else _LATE_STEPS}
        found = minimize(loss, self._theta, jac=True, method="L-BFGS-B", bounds=bounds, options=steps)
        self._theta = found.x
        self._rebuild(list(indices))

    def observe(self, index: int) -> None:
        """Condition on one more point with the same hyper-parameters: O(observations x points)."""
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
        """Drop all but the first `count` observed points; the rest were pending ones."""
        self._variance += (self._rows[count : self._count] ** 2).sum(0)
        self._count = count

    def posterior(self, targets: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation at all points, given the targets of the observations in their order."""
        return self.mean(targets), np.sqrt(np.maximum(self._variance, 1e-9))

    def mean(self, targets: Floats) -> Floats:
        n = self._count
        weights = solve_triangular(self._factor[:n, :n], targets, lower=True, check_finite=False)
        mean: Floats = weights.astype(np.float32) @ self._rows[:n]
        return mean

    def samples(self, targets: Floats, at: Indices, count: int, rng: np.random.Generator) -> Floats:
        """Draw `count` joint samples of the posterior at the points `at`: [count, len(at)]."""
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
        signal, weight = np.exp(self._theta[-2]), np.exp(self._theta[self._split[0] : self._split[1]])
        self._variance = signal + self._priors**2 @ weight - (self._rows[:n] ** 2).sum(0)
        self._count = n

    def _grow(self) -> None:
        more = len(self._rows)
        self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._factor = np.pad(self._factor, ((0, more), (0, more)))

    def _prior_variance(self, index: int) -> float:
        weight = np.exp(self._theta[self._split[0] : self._split[1]])
        return float(np.exp(self._theta[-2]) + self._priors[index] ** 2 @ weight)

    def _covariance(self, first: Indices, second: Indices | slice) -> Floats:
        lengths, end = self._split
        scale = np.exp(-self._theta[:lengths])[self._groups].astype(np.float32)
        a, b = self._values[first] * scale, self._values[second] * scale
        signal, weight = np.float32(np.exp(self._theta[-2])), np.exp(self._theta[lengths:end]).astype(np.float32)
        linear = self._priors[first] * weight, self._priors[second]
        both = np.empty((len(a), len(b)), np.float32)
        for start in range(0, len(b), _BLOCK):
            part = slice(start, start + _BLOCK)
            both[:, part] = signal * _matern(a, b[part]) + linear[0] @ linear[1][part].T
        return both

    def _loss(self, chosen: Indices, targets: Floats) -> Callable[[Floats], tuple[float, Floats]]:
        """Return the function that gives the negative log posterior of hyper-parameters and its gradient."""
        lengths, end = self._split
        values, priors = self._values[chosen].astype(float), self._priors[chosen].astype(float)
        columns = [values[:, self._groups == group] for group in range(lengths)]
        squared = np.stack([((c[:, None] - c[None]) ** 2).sum(-1) for c in columns])
        linear = np.einsum("ic,jc->cij", priors, priors)
        identity = np.eye(len(chosen))

        def loss(theta: Floats) -> tuple[float, Floats]:
            inverse, weight = np.exp(-2 * theta[:lengths]), np.exp(theta[lengths:end])
            signal, noise = np.exp(theta[-2]), np.exp(theta[-1])
            r = np.sqrt(5 * np.tensordot(inverse, squared, 1))
            decay = np.exp(-r)
            matern = signal * (1 + r + r * r / 3) * decay
            factor = cholesky(
                matern + np.tensordot(weight, linear, 1) + (noise + _JITTER) * identity, lower=True, check_finite=False
            )
            solved = cho_solve((factor, True), targets, check_finite=False)
            inner = np.outer(solved, solved) - cho_solve((factor, True), identity, check_finite=False)
            away = (theta - self._mean) / self._spread
            value = 0.5 * targets @ solved + np.log(np.diag(factor)).sum() + 0.5 * away @ away
            slope = inner * (signal * (1 + r) * decay * 5 / 3)
            gradient = (
                -0.5
                * np.r_[
                    np.tensordot(squared, slope, 2) * inverse,
                    np.tensordot(linear, inner, 2) * weight,
                    (inner * matern).sum(),
                    noise * np.trace(inner),
                ]
            )
            return float(value), gradient + away / self._spread

        return loss


def _matern(a: Floats, b: Floats) -> Floats:
    """Return Matérn 5/2 between all rows of `a` and of `b`, with length-scales of 1."""
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
