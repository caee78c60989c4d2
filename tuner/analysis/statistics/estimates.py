"""Intervals, equivalence, shares of won pairs, Holm's correction, standard deviations: arrays in, numbers out.

The test of a pair is in ``flips.py``. No record, no arm and no rule of the verdict is known here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 4_999
"""How often the bootstrap resamples."""
_SEED = 20_260_101


def equivalent(differences: Sequence[float] | Array, margin: float, alpha: float) -> bool:
    """Return whether two one-sided t-tests at level ``alpha`` place the mean inside ±margin (TOST: Schuirmann 1987).

    ``differences`` are those of pairs, ``margin`` is in their unit. False for fewer than two.

    >>> equivalent([0.1, -0.1, 0.05, -0.05, 0.0, 0.1], margin=0.5, alpha=0.05)
    True
    >>> equivalent([0.1, -0.1], margin=0.05, alpha=0.05)
    False
    """
    rows = np.asarray(differences, dtype=float).reshape(1, -1)
    return bool(equivalents(rows, margin, alpha)[0])


def equivalents(rows: Array, margin: float, alpha: float) -> NDArray[np.bool_]:
    """As :func:`equivalent`, for every row of a matrix (data sets by pairs); one answer per row."""
    n = rows.shape[1]
    if n < 2:
        return np.zeros(len(rows), dtype=bool)
    scale = _binary_scale(np.abs(rows).max(axis=1))
    scaled = rows / scale[:, None]
    reach = float(stats.t.ppf(1.0 - alpha, n - 1)) * scaled.std(axis=1, ddof=1) / math.sqrt(n)
    with np.errstate(over="ignore"):
        return np.asarray((np.abs(scaled.mean(axis=1)) + reach) * scale <= margin, dtype=bool)


def bootstrap_interval(values: Sequence[float] | Array, confidence: float) -> Interval | None:
    """Return the BCa bootstrap interval of the mean (Efron 1987); None for fewer than two values.

    For constant data, and where the bootstrap fails, the interval is the mean itself; it always contains the mean. The
    resampling has a seed of its own, so the same values have the same interval.

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
        interval = stats.bootstrap(
            (data,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=confidence,
            method="BCa",
            random_state=np.random.default_rng(_SEED),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return mean, mean
    return min(low, mean), max(high, mean)


def prob_better(differences: Sequence[float] | Array) -> float | None:
    """Return the share of pairs that are won, ties counting half: an estimate of P(A > B). None without any pair.

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
    """Return the standard deviation within groups, pooled over all groups of two or more values; 0 without any.

    The values may be as large as floats get: no square overflows.

    >>> pooled_sd([np.array([1.0, 3.0]), np.array([7.0])]) == 2**0.5
    True
    >>> pooled_sd([np.array([-1e200, 1e200])])
    1.414213562373095e+200
    """
    usable = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in usable)
    if not freedom:
        return 0.0
    scale = float(_binary_scale(max(np.abs(group).max() for group in usable)))
    scaled = [group / scale for group in usable]
    return scale * math.sqrt(sum(float(((group - group.mean()) ** 2).sum()) for group in scaled) / freedom)


FAR_OUT = 3.0
"""A standard deviation above this many robust ones is due to outliers."""
_MAD_FACTORS = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.2, 7: 1.14, 8: 1.129, 9: 1.107}


def noise_sd(groups: Sequence[Array]) -> float:
    """Return the standard deviation within groups, without the effect of a few runs that lie far out.

    It is :func:`pooled_sd`, unless that exceeds three times the median absolute deviation within groups (made
    consistent for normal noise; Croux & Rousseeuw 1992): then it is the latter, if that is above 0.

    >>> calm = np.array([1.0, 1.1, 0.9, 1.05])
    >>> noise_sd([calm, calm]) == pooled_sd([calm, calm]), round(noise_sd([calm, np.array([1.0, 1.1, 0.9, 40.0])]), 2)
    (True, 0.13)
    """
    usable = [group for group in groups if len(group) > 1]
    plain = pooled_sd(usable)
    if not usable:
        return plain
    residuals = np.concatenate([np.abs(group - np.median(group)) for group in usable])
    sizes = [len(group) for group in usable]
    small = sum(_MAD_FACTORS.get(n, n / (n - 0.8)) * n for n in sizes) / sum(sizes)
    robust = 1.4826 * small * float(np.median(residuals))
    return robust if 0.0 < FAR_OUT * robust < plain else plain


def _binary_scale(largest: Array | np.float64) -> Array:
    """The power of two just below ``largest``: values divided by it can be squared, and dividing rounds no bit."""
    return np.asarray(np.ldexp(1.0, np.frexp(largest)[1] - 1), dtype=float)
