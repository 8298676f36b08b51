"""Strengths from win probabilities: a Bradley-Terry fit with a Gaussian prior.

Knows a matrix of probabilities; knows neither models, texts nor schedules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gram.types import FloatArray, sigmoid

RIDGE = 0.01
_DRAWS = 4000


@dataclass(frozen=True, slots=True, eq=False)
class Strengths:
    """Bradley-Terry strengths: P(i beats j) = sigmoid(value[i] - value[j]).

    Attributes:
        value: (n,) strengths in natural-log odds, of mean 0.
        stderr: (n,) standard errors, from the curvature at the optimum, each probability counting as one
            game. They show how well the comparisons determine the strengths, not whether the model is right.
        covariance: (n, n) of the strengths, of which ``stderr`` is made; its rows sum to 0, as the strengths
            do.
    """

    value: FloatArray
    covariance: FloatArray

    @property
    def stderr(self) -> FloatArray:
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))


def fit_strengths(p: FloatArray, *, ridge: float = RIDGE, tolerance: float = 1e-10) -> Strengths:
    """The most probable strengths given win probabilities.

    Maximises sum over pairs i < j of p_ij log sigmoid(s_i - s_j) + p_ji log sigmoid(s_j - s_i), minus
    ridge/2 sum s_i^2: soft Bradley-Terry (1952) with a Gaussian prior of variance 1/ridge. The prior keeps
    the strengths finite where p is exactly 0 or 1, and fixes their mean at 0, the optimum of its free shift.

    Args:
        p: (n, n) probability that i beats j, with p_ji = 1 - p_ij; NaN where i and j did not meet. The
            diagonal is not read.
        ridge: above 0; the smaller, the weaker the prior.
        tolerance: largest gradient at which Newton's method stops.

    Example:
        >>> fit_strengths(np.array([[0.5, 0.9], [0.1, 0.5]])).value.round(1).tolist()
        [1.0, -1.0]
    """
    n = len(p)
    met = ~np.isnan(p)
    np.fill_diagonal(met, False)
    wins = np.where(met, p, 0.0).sum(axis=1)

    def curvature(s: FloatArray) -> FloatArray:
        q = sigmoid(s[:, None] - s[None, :])
        weight = np.where(met, q * (1 - q), 0.0)
        return np.diag(weight.sum(axis=1) + ridge) - weight

    def gradient(s: FloatArray) -> FloatArray:
        return wins - np.where(met, sigmoid(s[:, None] - s[None, :]), 0.0).sum(axis=1) - ridge * s

    s = np.zeros(n)
    slope = gradient(s)
    # Full Newton steps on a concave function, from 0 where it curves most, so that the first ones are short:
    # 20,000 random matrices (hard and soft, with gaps, ridge 1e-9 to 1) needed at most 24.
    for _ in range(100):
        if np.abs(slope).max(initial=0.0) <= tolerance:
            break
        s = s + np.linalg.solve(curvature(s), slope)
        slope = gradient(s)
    s = s - s.mean()
    # A common shift of all strengths is no property of the candidates. It is an eigenvector of the curvature
    # (the vector of ones, with eigenvalue ridge), so its share of the inverse can be taken out exactly.
    share = np.full((n, n), 1.0 / n)
    covariance = np.linalg.inv(curvature(s) + (1.0 - ridge) * share) - share
    return Strengths(s, np.asarray(covariance, dtype=np.float64))


def probability_best(strengths: Strengths) -> FloatArray:
    """(n,) probability that each has the highest strength, if the errors are Gaussian.

    The share of 4,000 draws from a fixed seed, accurate to about 0.01. Where the strengths are equal and have
    no error, each candidate gets the same share.

    Example:
        >>> probability_best(Strengths(np.array([1.0, -1.0]), covariance=np.zeros((2, 2)))).tolist()
        [1.0, 0.0]
    """
    values, vectors = np.linalg.eigh(strengths.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    noise = np.random.default_rng(0).standard_normal((_DRAWS, len(values)))
    draws = np.round(strengths.value + noise @ root.T, 9)
    best = draws == draws.max(axis=1, keepdims=True)
    return (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
