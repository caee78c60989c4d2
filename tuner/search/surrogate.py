"""A Gaussian process over settings and horizons: what a short run says about a long one. No choice is made here.

Inputs lie in the unit cube, one axis a dimension; the caller standardises the values. The kernel is Matern 5/2 with a
length for each dimension, times ``agreement ** |rung - rung'|``: how far one rung predicts the next is fitted to the
data (an intrinsic coregionalisation; Swersky et al. 2013, "Multi-task Bayesian optimization"). Each rung has a level of
its own; rungs below the full horizon have more noise. Parameters are the maximum of the posterior (Rasmussen & Williams
2006, sections 5.4 and 2.7), searched without derivatives from quasi-random starts by coordinate steps, so that the same
data give the same fit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.stats import norm, qmc

Array = NDArray[np.float64]
Index = NDArray[np.intp]

LENGTH = 0.3
"""The prior's median length with one dimension; it grows with the square root of their number, as distances do."""
LENGTH_SPREAD, SCALE_SPREAD = 0.9, 1.0
"""The prior's standard deviations of the logarithms of lengths and scale."""
NOISE, NOISE_SPREAD = 0.05, 1.2
"""The prior of the noise at the full horizon: median, and standard deviation of its logarithm."""
STEP_DOWN, STEP_DOWN_SPREAD = 2.0, 0.7
"""The prior of the factor by which each rung is noisier than the one above it, in the same way."""
AGREEMENT = (4.0, 2.0)
"""The prior of the agreement between neighbouring rungs: Beta(4, 2), mean 2/3."""
LEVEL = 4.0
"""The variance of each rung's own level, and of the one that all share: wide, so that neither is held to zero."""
STARTS, SWEEPS = 64, 3
"""How many parameters are drawn from the prior, and how often the best of them is improved in every coordinate."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """What is fitted.

    Logarithms of the kernel's ``lengths`` (one a dimension) and ``scale``, of the full horizon's ``noise``, and of the
    factor ``step_down`` by which a rung below has more; the ``agreement`` between neighbouring rungs, in (0, 1).
    """

    lengths: tuple[float, ...]
    scale: float
    noise: float
    agreement: float
    step_down: float

    @staticmethod
    def of(vector: Array) -> Parameters:
        *lengths, scale, noise, agreement, step_down = (float(x) for x in vector)
        return Parameters(tuple(lengths), scale, noise, agreement, step_down)

    @property
    def log_prior(self) -> float:
        lengths = np.asarray(self.lengths)
        typical = np.log(LENGTH * np.sqrt(len(lengths)))
        a, b = AGREEMENT
        share = min(max(self.agreement, 1e-3), 1 - 1e-3)
        gaussians = (
            *((lengths - typical) / LENGTH_SPREAD),
            self.scale / SCALE_SPREAD,
            (self.noise - np.log(NOISE)) / NOISE_SPREAD,
            (self.step_down - np.log(STEP_DOWN)) / STEP_DOWN_SPREAD,
        )
        normal = -0.5 * float(np.square(gaussians).sum())
        return normal + (a - 1) * float(np.log(share)) + (b - 1) * float(np.log(1 - share))


class Surrogate:
    """The process, given what n runs showed.

    Args:
        points: where their settings lie in the unit cube; n by dimensions.
        rungs: their rungs; n.
        values: what they came to, more is better, standardised; n.
        top: the rung of the full horizon.
        labels: the dimensions whose coordinates are words: there two points are alike or not.
        parameters: None fits them.
    """

    def __init__(
        self, points: Array, rungs: Index, values: Array, top: int, labels: Index, parameters: Parameters | None = None
    ) -> None:
        self.top = top
        self._points, self._rungs, self._values, self._labels = points, rungs, values, labels
        self._squares = _squares(points, points, labels)
        self._gaps = np.abs(rungs[:, None] - rungs[None])
        self._same = self._gaps == 0
        self.parameters = self._fit() if parameters is None else parameters
        self._factor, self._weights = self._solve(self.parameters)

    def _fit(self) -> Parameters:
        dimensions, several = self._points.shape[1], len(set(self._rungs.tolist())) > 1
        scored = [(self._posterior(start), -i) for i, start in enumerate(_starts(dimensions))]
        best, place = max(scored)
        vector = _starts(dimensions)[-place]
        steps = np.array([0.7] * dimensions + [0.5, 0.8, 0.15, 0.5])
        for _ in range(SWEEPS):
            for axis in range(dimensions + 4 if several else dimensions + 2):
                for sign in (1.0, -1.0):
                    tried = vector.copy()
                    tried[axis] += sign * steps[axis]
                    tried[dimensions + 2] = np.clip(tried[dimensions + 2], 0.02, 0.98)
                    score = self._posterior(tried)
                    if score > best:
                        best, vector = score, tried
                        break
            steps *= 0.6
        return Parameters.of(vector)

    def _posterior(self, vector: Array) -> float:
        parameters = Parameters.of(vector)
        try:
            factor, weights = self._solve(parameters)
        except np.linalg.LinAlgError:
            return -np.inf
        return float(-0.5 * self._values @ weights - np.log(np.diag(factor)).sum()) + parameters.log_prior

    def _solve(self, p: Parameters) -> tuple[Array, Array]:
        covariance = self._kernel(p, self._squares, self._gaps) + LEVEL + LEVEL * self._same
        covariance[np.diag_indices_from(covariance)] += self.noise(self._rungs, p) + 1e-8
        factor = np.linalg.cholesky(covariance)
        return factor, cho_solve((factor, True), self._values)

    @staticmethod
    def _kernel(p: Parameters, squares: Array, gaps: Index) -> Array:
        distance = np.sqrt(5.0 * np.tensordot(squares, np.exp(-2.0 * np.asarray(p.lengths)), axes=1))
        shape = (1.0 + distance + distance * distance / 3.0) * np.exp(-distance)
        return np.asarray(np.exp(2.0 * p.scale) * shape * p.agreement**gaps)

    def noise(self, rungs: Index | int, parameters: Parameters | None = None) -> Array:
        """Return the variance, on each rung, of what no smooth function of the setting explains."""
        p = parameters or self.parameters
        return np.asarray(np.exp(2.0 * (p.noise + max(p.step_down, 0.0) * (self.top - np.asarray(rungs)))))

    def predict(self, points: Array, rung: int) -> tuple[Array, Array]:
        """Return mean and variance at points (n by dimensions) of the smooth part on a rung; the level is left out."""
        mean, variance, _ = self._look(points, rung)
        return mean, variance

    def _look(self, points: Array, rung: int) -> tuple[Array, Array, Array]:
        p = self.parameters
        cross = self._kernel(p, _squares(points, self._points, self._labels), np.abs(rung - self._rungs)[None])
        half = solve_triangular(self._factor, cross.T, lower=True)
        variance = np.maximum(np.exp(2.0 * p.scale) - (half * half).sum(axis=0), 1e-12)
        return cross @ self._weights, variance, half

    def level(self, rung: int) -> float:
        """Return the expected level of a rung, which :meth:`predict` leaves out."""
        return float((LEVEL + LEVEL * (self._rungs == rung)) @ self._weights)

    def share_told(self, point: Array, rung: int) -> float:
        """Return by what share a run at ``point`` on this rung would reduce the variance of the full run's value."""
        p, at = self.parameters, point[None]
        _, full, half_full = self._look(at, self.top)
        _, here, half_here = self._look(at, rung)
        covariance = np.exp(2.0 * p.scale) * p.agreement ** abs(self.top - rung) - (half_full * half_here).sum()
        seen, wanted = here[0] + self.noise(rung) + 1e-8, full[0] + self.noise(self.top)
        return float(covariance * covariance / (seen * wanted))


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return the expected gain over ``best`` of normal values with this mean and standard deviation, one a point.

    Source: Jones, Schonlau & Welch 1998, "Efficient global optimization of expensive black-box functions", equation 15.

    >>> expected_improvement(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 0.0).round(3)
    array([0.399, 1.083])
    """
    z = (mean - best) / deviation
    return np.asarray(deviation * (z * norm.cdf(z) + norm.pdf(z)), dtype=float)


def _squares(a: Array, b: Array, labels: Index) -> Array:
    """Squared differences, a by b by dimensions; 0 or 1 where a coordinate is a word."""
    gaps = a[:, None, :] - b[None]
    gaps[..., labels] = np.abs(gaps[..., labels]) > 1e-9
    return np.asarray(gaps * gaps)


@lru_cache
def _starts(dimensions: int) -> Array:
    """Quasi-random draws of the parameters from their priors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        uniform = qmc.Sobol(dimensions + 4, scramble=True, rng=np.random.default_rng(1)).random(STARTS)
    z = norm.ppf(np.clip(uniform, 0.02, 0.98))
    starts: Array = np.empty(z.shape)
    narrow = 1.0 if dimensions < 3 else 0.5
    starts[:, :dimensions] = np.log(LENGTH * np.sqrt(dimensions)) + narrow * LENGTH_SPREAD * z[:, :dimensions]
    starts[:, dimensions] = 0.7 * z[:, dimensions]
    starts[:, dimensions + 1] = np.log(NOISE) + NOISE_SPREAD * z[:, dimensions + 1]
    starts[:, dimensions + 2] = 0.45 + 0.5 * norm.cdf(z[:, dimensions + 2])
    starts[:, dimensions + 3] = np.log(STEP_DOWN) + STEP_DOWN_SPREAD * z[:, dimensions + 3]
    return starts
