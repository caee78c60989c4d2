"""Best-at-budget curves: the median value of the best of k trials of an arm, with simultaneous bands.

The curve and its exact bands are those of Lourie, Cho and He 2023 (arXiv 2311.09480), computed by their library opda.
They hold for independent trials only, so what a model proposed after looking at results never enters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tuner.analysis.searched.points import Point, Points
from tuner.config.spec import StudySpec
from tuner.core.records import Outcome, Source
from tuner.core.values import counted

FEWEST = 4
"""A curve takes at least this many independent trials."""
CONFIDENCES = (0.9, 0.95)
_EXACT_UP_TO = 100
"""Up to this many trials the bands are tightened by simulation; above, Kolmogorov and Smirnov's are narrow enough."""
_SEED = 20_260_103

Ranks = tuple[int, ...]
"""Places among sorted trials, from 0 for the worst; one per budget 1, ..., n."""


@dataclass(frozen=True, slots=True)
class Band:
    """Bounds of the curve, one per budget, that hold for all budgets at once with this ``confidence``.

    In the metric's unit; None where the trials do not bound the curve on that side.
    """

    confidence: float
    worst: tuple[float | None, ...]
    best: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class TuningCurve:
    """``median[i]`` is the median of the best of ``budgets[i]`` independent trials, in the metric's unit.

    It is None where that median is a trial that diverged or failed. Of the arm's ``n`` independent trials, ``diverged``
    diverged or failed. ``reason`` says why there is no curve, or what to know about it.
    """

    arm: str
    n: int
    diverged: int
    budgets: tuple[int, ...] = ()
    median: tuple[float | None, ...] = ()
    bands: tuple[Band, ...] = ()
    reason: str = ""

    def band(self, confidence: float) -> Band:
        """Return the band of one of the ``CONFIDENCES``."""
        return next(band for band in self.bands if band.confidence == confidence)


def tuning_curves(spec: StudySpec, points: Points) -> tuple[TuningCurve, ...]:
    """Return one curve per arm, in the space's order."""
    return tuple(tuning_curve(arm.arm, points[arm.arm], spec.sign) for arm in spec.arms)


def tuning_curve(arm: str, points: Sequence[Point], sign: int) -> TuningCurve:
    """Return the curve of one arm, from its independent trials; diverged and failed ones count as the worst.

    ``sign`` is +1 where the metric is maximized, -1 where it is minimized.
    """
    sample = [point for point in points if point.independent]
    short = sum(point.outcome is Outcome.PRUNED for point in sample)
    bad = sum(point.outcome in (Outcome.DIVERGED, Outcome.FAILED) for point in sample)
    reason = _why_not(len(sample), short, bad)
    if reason:
        return TuningCurve(arm, len(sample), bad, reason=reason)
    scores = sorted(-math.inf if point.value is None else point.value * sign for point in sample)
    ladder = [-math.inf, *scores, math.inf]

    def at(ranks: Ranks) -> tuple[float | None, ...]:
        return tuple(sign * ladder[rank + 1] if math.isfinite(ladder[rank + 1]) else None for rank in ranks)

    ranks = {confidence: band_ranks(len(sample), confidence) for confidence in CONFIDENCES}
    return TuningCurve(
        arm,
        len(sample),
        bad,
        budgets=tuple(range(1, len(sample) + 1)),
        median=at(ranks[CONFIDENCES[0]][1]),
        bands=tuple(Band(level, at(low), at(high)) for level, (low, _, high) in ranks.items()),
        reason=_how_independent(sample),
    )


def _why_not(n: int, short: int, bad: int) -> str:
    """Why these trials give no curve; empty if they do."""
    if short:
        if short == n:
            return f"none of {counted(n, 'independent trial')} reached the full horizon; fidelity: full gives a curve"
        reached = f"only {n - short} of {n} independent trials reached the full horizon, chosen by early results"
        return f"{reached}; fidelity: full gives a curve"
    if n < FEWEST:
        trials = counted(n, "independent trial")
        return f"{trials} (Sobol or random) at the full horizon, and a curve takes at least {FEWEST}"
    return f"all {n} independent trials diverged or failed" if bad == n else ""


def _how_independent(points: Sequence[Point]) -> str:
    """What to know about a curve of trials that are not known to be random draws; empty for random ones."""
    sources = {point.trial.source for point in points}
    if Source.RECORDED in sources:
        return "The recording does not say how they were proposed; the bands hold if it was at random"
    if Source.SOBOL in sources:
        return "Sobol points lie more evenly than independent draws, so the bands are approximate, usually too wide"
    return ""


@lru_cache(maxsize=256)
def band_ranks(n: int, confidence: float) -> tuple[Ranks, Ranks, Ranks]:
    """Return three rows of ranks: the lower bound, the median of the best of 1, ..., n, and the upper bound.

    0 is the worst of n sorted trials, n - 1 the best; -1 and n say that no trial bounds the median on that side. Only
    ranks matter, so the band holds for every distribution, ties included.

    >>> band_ranks(4, 0.9)
    ((-1, 0, 0, 1), (1, 2, 3, 3), (4, 4, 4, 4))
    """
    from opda.nonparametric import EmpiricalDistribution

    lower, point, upper = EmpiricalDistribution.confidence_bands(
        np.arange(n, dtype=float),
        confidence,
        a=-1.0,
        b=float(n),
        method="ld_equal_tailed" if n <= _EXACT_UP_TO else "ks",
        generator=np.random.default_rng(_SEED),
        n_jobs=1,
    )
    budgets = np.arange(1, n + 1)
    below, middle, above = (
        tuple(int(rank) for rank in cdf.quantile_tuning_curve(budgets)) for cdf in (upper, point, lower)
    )
    return below, middle, above
