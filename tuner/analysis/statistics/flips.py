"""The test of a pair: sign flips of paired differences, with two statistics at once. No record or rule is known here.

The null: the two runs of a pair are exchangeable, so the difference is as likely to have either sign (Fisher 1935;
Ernst 2004, Statistical Science 19(4)). The statistic is the larger of two, each divided by its standard deviation over
the flips: the sum of the differences, and Wilcoxon's sum of signed ranks (1945; Pratt's ranks where differences are 0).
The sum is what the verdict is about; the ranks keep the power where a few runs are far out. The larger of both through
the same flips is exact as well (max-T: Westfall & Young 1993), so nothing is paid for a choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import owens_t

Array = NDArray[np.float64]

EXACT_UP_TO = 20
"""Up to this many pairs all sign flips are counted; above, ``MONTE_CARLO`` random ones."""
MONTE_CARLO = 99_999
_SEED = 20_260_101
_BLOCK = 2_000_000
_SLACK = 1e-10
_DIGITS = 9
"""Differences that agree to this many significant digits share a rank: the subtraction has blurred the others."""


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """Return the two-sided p of the sign-flip test of n paired differences, in the direction of their mean.

    It is twice the share of sign flips whose larger statistic, oriented as the observed mean, reaches the observed one:
    at least 2**(1-n), the same for the negated differences, 1 for a mean of 0. Exact for up to 20 pairs, otherwise
    Monte Carlo with (1 + count) / (1 + N), which is valid too (Phipson & Smyth 2010, arXiv 1603.05766).

    >>> sign_flip_p([0.1, 0.3, 0.2, 0.1, 0.4, 0.2])
    0.03125
    >>> sign_flip_p([0.0, 0.0]), sign_flip_p([])
    (1.0, 1.0)
    """
    return float(sign_flip_ps(np.asarray(differences, dtype=float).reshape(1, -1))[0])


def sign_flip_ps(rows: Array) -> Array:
    """As :func:`sign_flip_p`, for every row of a matrix (data sets by pairs); one p per row."""
    n = rows.shape[1]
    if n == 0 or not len(rows):
        return np.ones(len(rows))
    sums, ranks, bars, open_ = _oriented(rows)
    counts, total = np.zeros(len(rows)), 0
    for signs in _flips(n):
        step = max(1, _BLOCK // len(signs))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            of_sums, of_ranks = sums[part] @ signs.T, ranks[part] @ signs.T
            bar = bars[part, None]
            counts[part] += (np.maximum(of_sums, of_ranks) >= bar).sum(axis=1)
            counts[part] += (np.minimum(of_sums, of_ranks) <= -bar).sum(axis=1)
        total += len(signs)
    ps = counts / total if n <= EXACT_UP_TO else (1 + counts) / (1 + total)
    return np.where(open_, np.minimum(ps, 1.0), 1.0)


def sign_flip_ps_fast(rows: Array) -> Array:
    """As :func:`sign_flip_ps`, with the normal limit of the flips above 10 pairs; for planning, not for verdicts.

    The two statistics are then bivariate normal, and the tail of their maximum is a value of Owen's T (Owen 1956).
    """
    if rows.shape[1] <= 10:
        return sign_flip_ps(rows)
    sums, ranks, bars, open_ = _oriented(rows)
    correlation = np.clip((sums * ranks).sum(axis=1), -1.0, 1.0)
    tail = stats.norm.sf(bars) + 2.0 * owens_t(bars, np.sqrt((1.0 - correlation) / (1.0 + correlation + 1e-12)))
    return np.where(open_, np.minimum(2.0 * tail, 1.0), 1.0)


def _oriented(rows: Array) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    """The two statistics' terms, turned so that the mean is above 0, and scaled to length 1 per row.

    Then the larger of their sums (the bar that flips have to reach), and whether the mean differs from 0 at all.
    """
    total = rows.sum(axis=1)
    open_ = np.abs(total) > 1e-12 * np.abs(rows).sum(axis=1)
    turn = np.where(total < 0, -1.0, 1.0)[:, None]
    sums, ranks = _unit(rows * turn), _unit(signed_ranks(rows) * turn)
    return sums, ranks, np.maximum(sums.sum(axis=1), ranks.sum(axis=1)) - _SLACK, open_


def signed_ranks(rows: Array) -> Array:
    """Return the ranks of the absolute differences within each row, with the differences' signs; ties share the mean.

    >>> signed_ranks(np.array([[0.1, -0.3, 0.0, 0.1]])).tolist()
    [[2.5, -4.0, 0.0, 2.5]]
    """
    size = np.abs(rows)
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        unit = 10.0 ** (np.floor(np.log10(size)) - _DIGITS + 1)
        blurred = np.where((size > 0) & (unit > 0), np.round(size / unit) * unit, size)
    return np.asarray(stats.rankdata(blurred, axis=1) * np.sign(rows), dtype=float)


def _unit(rows: Array) -> Array:
    """Each row scaled to length 1, so that its sum has variance 1 over the flips; rows of zeros stay."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scaled = rows / np.where(largest > 0, largest, 1.0)
    length = np.sqrt((scaled**2).sum(axis=1, keepdims=True))
    return np.asarray(scaled / np.where(length > 0, length, 1.0), dtype=float)


def _flips(n: int) -> Iterator[Array]:
    """Blocks of sign vectors: half of all 2**n (the other half mirrors them), or random ones."""
    if n <= EXACT_UP_TO:
        low = min(n, 14)
        for high in range(2 ** (n - low)):
            fixed = 1.0 - 2.0 * ((high >> np.arange(n - low)) & 1)
            signs = _all_signs(low)
            yield np.concatenate([signs, np.broadcast_to(fixed, (len(signs), n - low))], axis=1)
        return
    rng, left = np.random.default_rng(_SEED), MONTE_CARLO
    while left > 0:
        size = min(left, max(1, _BLOCK // n))
        yield np.asarray(1.0 - 2.0 * rng.integers(0, 2, size=(size, n), dtype=np.int8), dtype=float)
        left -= size


@lru_cache(maxsize=14)
def _all_signs(n: int) -> Array:
    """Half of the 2**n sign vectors, the last sign always +."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return np.asarray(1.0 - 2.0 * bits, dtype=float)
