"""The statistics of paired differences: arrays in, numbers out.

No record, no arm and no rule of the verdict is known here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Interval = tuple[float, float]

EXACT_UP_TO = 14
"""Up to so many pairs all sign flips are counted; above, ``MONTE_CARLO`` random ones."""
MONTE_CARLO = 20_000
RESAMPLES = 4_999
_SEED = 20_260_101
_CHUNK = 4_000_000


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """Return the two-sided p of the sign-flip permutation test on the mean of paired differences.

    The null: the differences are symmetric around 0, as they are for exchangeable arms on common seeds
    (Fisher 1935; Ernst 2004, Statistical Science 19(4)). Exact for up to 14 pairs, otherwise Monte Carlo with
    (1 + count) / (1 + N), which is valid too (Phipson & Smyth 2010, arXiv 1603.05766).

    >>> sign_flip_p([0.1, 0.3, 0.2, 0.1, 0.4, 0.2])
    0.03125
    >>> sign_flip_p([0.0, 0.0]), sign_flip_p([])
    (1.0, 1.0)
    """
    return float(sign_flip_ps(np.asarray(differences, dtype=float).reshape(1, -1))[0])


def sign_flip_ps(rows: Array) -> Array:
    """As :func:`sign_flip_p`, for every row of a matrix (data sets by pairs)."""
    n = rows.shape[1]
    if n == 0:
        return np.ones(len(rows))
    bar = np.abs(rows.sum(axis=1)) - 1e-12 * np.abs(rows).sum(axis=1)
    counts, total = np.zeros(len(rows)), 0
    for signs in _sign_blocks(n):
        step = max(1, _CHUNK // len(signs))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            counts[part] += (np.abs(rows[part] @ signs.T) >= bar[part, None]).sum(axis=1)
        total += len(signs)
    return counts / total if n <= EXACT_UP_TO else (1 + counts) / (1 + total)


def sign_flip_ps_fast(rows: Array) -> Array:
    """As :func:`sign_flip_ps`, with the flips' normal limit above 14 pairs; for planning, not for verdicts."""
    if rows.shape[1] <= EXACT_UP_TO:
        return sign_flip_ps(rows)
    spread = np.sqrt((rows**2).sum(axis=1))
    z = np.abs(rows.sum(axis=1)) / np.where(spread > 0, spread, 1.0)
    return np.asarray(2.0 * stats.norm.sf(z), dtype=float)


def _sign_blocks(n: int) -> list[Array]:
    if n <= EXACT_UP_TO:
        return [_all_signs(n)]
    rng = np.random.default_rng(_SEED)
    blocks: list[Array] = []
    left, rows = MONTE_CARLO, max(1, _CHUNK // n)
    while left > 0:
        size = min(left, rows)
        blocks.append(np.asarray(2.0 * rng.integers(0, 2, size=(size, n)) - 1.0, dtype=float))
        left -= size
    return blocks


@lru_cache(maxsize=EXACT_UP_TO)
def _all_signs(n: int) -> Array:
    """Half of the 2**n sign vectors; the other half mirrors them."""
    bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
    return np.asarray(1.0 - 2.0 * bits, dtype=float)


def equivalent(differences: Sequence[float] | Array, margin: float, alpha: float) -> bool:
    """Whether two one-sided t-tests place the mean difference inside ±margin (Schuirmann 1987, TOST).

    >>> equivalent([0.1, -0.1, 0.05, -0.05, 0.0, 0.1], margin=0.5, alpha=0.05)
    True
    >>> equivalent([0.1, -0.1], margin=0.05, alpha=0.05)
    False
    """
    rows = np.asarray(differences, dtype=float).reshape(1, -1)
    return bool(equivalents(rows, margin, alpha)[0])


def equivalents(rows: Array, margin: float, alpha: float) -> NDArray[np.bool_]:
    """As :func:`equivalent`, for every row of a matrix."""
    n = rows.shape[1]
    if n < 2:
        return np.zeros(len(rows), dtype=bool)
    reach = float(stats.t.ppf(1.0 - alpha, n - 1)) * rows.std(axis=1, ddof=1) / math.sqrt(n)
    return np.asarray(np.abs(rows.mean(axis=1)) + reach <= margin, dtype=bool)


def bootstrap_interval(values: Sequence[float] | Array, confidence: float) -> Interval | None:
    """Return the BCa bootstrap interval of the mean (Efron 1987); a point for constant data, None below two values.

    >>> bootstrap_interval([2.0, 2.0, 2.0], 0.95)
    (2.0, 2.0)
    """
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return None
    mean = float(data.mean())
    if np.ptp(data) <= 1e-12 * max(1e-300, float(np.abs(data).max())):
        return mean, mean
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (data,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=confidence,
            method="BCa",
            random_state=np.random.default_rng(_SEED),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return mean, mean
    return min(low, mean), max(high, mean)


def prob_better(differences: Sequence[float] | Array) -> float | None:
    """Return the share of pairs that are won, ties counting half: P(A > B).

    >>> prob_better([1.0, 2.0, 0.0, -1.0])
    0.625
    """
    data = np.asarray(differences, dtype=float)
    return float(((data > 0) + 0.5 * (data == 0)).mean()) if len(data) else None


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, bar = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        bar = max(bar, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = bar
    return adjusted


def pooled_sd(groups: Sequence[Array]) -> float:
    """Return the standard deviation within groups, over all groups of two or more values; 0 without any."""
    usable = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in usable)
    if not freedom:
        return 0.0
    return math.sqrt(sum(float(((group - group.mean()) ** 2).sum()) for group in usable) / freedom)
