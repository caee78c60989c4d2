"""How sensitive an arm is to its learning rate: over how wide a range of rates its good trials lie.

Only completed trials at the full horizon enter. What a trial's other settings did is not taken out, so the width is a
lower bound: a good rate may have been tried only beside bad values of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tuner.analysis.searched.points import Point, Points, rate_dimension
from tuner.config.space import Dimension
from tuner.config.spec import StudySpec
from tuner.core.records import Outcome
from tuner.core.values import counted, short

FEWEST = 5
"""A width takes at least this many completed trials."""
_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Rates from ``low`` to ``high`` came within ``tolerance`` (in the metric's unit) of the arm's best value.

    ``name`` is the searched dimension: the learning rate, or the effective one. ``decades`` is the width of the range,
    ``searched`` that of the whole dimension, both as log10 ratios. Of ``n`` completed trials ``good`` are within the
    tolerance; ``best`` is the rate of the best one. ``cliff`` is how many decades above it the nearest diverged trial
    lies, None where none diverged above. ``reason`` says why there is no width.
    """

    arm: str
    name: str
    n: int
    tolerance: float | None = None
    best: float | None = None
    low: float | None = None
    high: float | None = None
    decades: float | None = None
    searched: float | None = None
    good: int = 0
    cliff: float | None = None
    reason: str = ""


def sensitivities(spec: StudySpec, points: Points, min_effect: float | None) -> tuple[Sensitivity, ...]:
    """Return one row per arm, in the space's order.

    ``min_effect`` is the smallest difference that matters, in the metric's unit; without one that is above 0, the
    tolerance is a tenth of the way from the arm's best value to its median.
    """
    return tuple(sensitivity(arm.arm, rate_dimension(arm), points[arm.arm], spec.sign, min_effect) for arm in spec.arms)


def sensitivity(
    arm: str, dimension: Dimension | None, points: Sequence[Point], sign: int, tolerance: float | None
) -> Sensitivity:
    """Return the row of one arm, whose rate is ``dimension``; ``sign`` is +1 to maximize, -1 to minimize."""
    if dimension is None:
        return Sensitivity(arm, "learning_rate", 0, reason="its learning rate was not searched")
    name = dimension.name
    rows = [(_rate(p, name), p.value * sign) for p in points if p.value is not None and _rate(p, name) is not None]
    if len(rows) < FEWEST:
        trials = counted(len(rows), "completed trial")
        return Sensitivity(arm, name, len(rows), reason=f"{trials}, and a range takes at least {FEWEST}")
    scores = np.array([score for _, score in rows])
    rates = np.array([rate for rate, _ in rows], dtype=float)
    if tolerance is None or tolerance <= 0:
        tolerance = _tenth(scores)
    best = float(rates[scores.argmax()])
    good = rates[scores >= scores.max() - tolerance]
    low, high = float(good.min()), float(good.max())
    bad = [rate for p in points if p.outcome is Outcome.DIVERGED and (rate := _rate(p, name)) is not None]
    above = [math.log10(rate / best) for rate in bad if rate > best]
    return Sensitivity(
        arm,
        name,
        len(rows),
        tolerance=float(tolerance),
        best=best,
        low=low,
        high=high,
        decades=math.log10(high / low),
        searched=math.log10(dimension.high / dimension.low),
        good=len(good),
        cliff=min(above, default=None),
    )


def _tenth(scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """A tenth of the way from the best score to the median."""
    return _SHARE * float(scores.max() - np.median(scores))


def _rate(point: Point, name: str) -> float | None:
    rate = point.coordinate(name)
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None


def in_words(found: Sensitivity) -> str:
    """Say it in a sentence.

    >>> in_words(Sensitivity("sgd", "learning_rate", 8, 0.01, 0.3, 0.1, 1.0, 1.0, 4.0, 3))
    'rates from 0.1 to 1 came within 0.01 of the best value (1 of 4 decades searched, 3 of 8 trials)'
    """
    if found.decades is None or found.searched is None:
        return found.reason
    span = f"rates from {short(found.low)} to {short(found.high)}"
    span = span if found.good > 1 else f"only the best rate, {short(found.best)},"
    width = f"{found.decades:.2g} of {found.searched:.2g} decades searched, {found.good} of {found.n} trials"
    text = f"{span} came within {short(found.tolerance)} of the best value ({width})"
    if found.cliff is not None:
        text += f"; the nearest diverged trial lies {found.cliff:.2g} decades above the best rate"
    return text
