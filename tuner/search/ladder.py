"""The ladder of horizons inside one arm: which setting trains next, and how long. Pure; nothing reaches SQL here.

A share of the arm's budget screens: short runs, each from scratch with its schedule timed to its own horizon. The
rest is kept for full runs, which alone can become a finalist. A surrogate (:mod:`tuner.search.surrogate`) reads all
rungs together; the setting with the highest expected improvement of its *full* run goes on, on the rung that tells
most about the full horizon for its cost. Where rungs disagree about the order of settings, less is screened and more
trained in full: the short horizon lies there (see :func:`agreement`). Every choice is a function of what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.config.fidelity import DESIGN_SHARE, PER_DIMENSION
from tuner.search.surrogate import Array, Index, Parameters, Surrogate, expected_improvement

FULL_SHARE = 0.4
"""The share of the budget that full runs get where the rungs agree."""
AGREE = 0.8
"""A rank correlation from which on the short horizon is trusted."""
PRIOR_AGREEMENT, PRIOR_PAIRS = 0.8, 4
"""What is believed before any pair was seen, and how many pairs that belief is worth."""
CLOSE = 0.02
"""Differences below so much of |median - best| are told apart no more."""
REFIT = 1.2
SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run showed: ``point`` in the unit cube; ``score``: more is better, -inf diverged, NaN in training."""

    trial: int
    point: tuple[float, ...]
    rung: int
    score: float


@dataclass(frozen=True, slots=True)
class Step:
    """What to train next: a trial on a rung, or (``trial`` None) a new setting, at ``point`` or of the design."""

    rung: int
    trial: int | None = None
    point: tuple[float, ...] | None = None


def design_size(budget: float, costs: Sequence[float], dimensions: int) -> int:
    """Return how many settings of the space-filling design (initial ones too) are screened before the model speaks.

    >>> design_size(12, (1 / 9, 1 / 3, 1), 4), design_size(6, (1 / 9, 1 / 3, 1), 1), design_size(12, (1.0,), 4)
    (21, 8, 4)
    """
    wanted = int(DESIGN_SHARE * budget / costs[0] + SMALL)
    return max(3 if len(costs) > 1 else 4, min(wanted, PER_DIMENSION * dimensions, 64))


def agreement(seen: Sequence[Seen]) -> float:
    """Return how well rungs agree on the order of settings: a rank correlation over all pairs of rungs, shrunk to 0.8.

    >>> up = [Seen(i, (0.1 * i,), r, float(i)) for i in range(6) for r in (0, 1)]
    >>> round(agreement(up), 2), agreement(up[:2])
    (0.92, 0.8)
    """
    by_rung: dict[int, dict[int, float]] = {}
    for one in seen:
        if not math.isnan(one.score):
            by_rung.setdefault(one.rung, {})[one.trial] = one.score
    total, weight = PRIOR_PAIRS * PRIOR_AGREEMENT, float(PRIOR_PAIRS)
    rungs = sorted(by_rung)
    for low in rungs:
        pairs = [
            (score, by_rung[high][trial])
            for trial, score in by_rung[low].items()
            for high in rungs
            if high > low and trial in by_rung[high] and math.isfinite(score)
        ]
        if len(pairs) >= 3:
            a, b = (np.argsort(np.argsort(column)).astype(float) for column in np.array(pairs).T)
            total += len(pairs) * float(np.corrcoef(a, b)[0, 1])
            weight += len(pairs)
    return total / weight


class Ladder:
    """The policy of one arm. ``costs`` are the rungs' shares of a full run, up to 1; ``labels`` as in the surrogate."""

    def __init__(self, costs: Sequence[float], labels: Index, dimensions: int) -> None:
        self._dimensions = dimensions
        self.costs = tuple(costs)
        self.top = len(costs) - 1
        self._labels = labels
        self._fits: dict[int, Parameters] = {}

    def next(
        self, seen: Sequence[Seen], candidates: Callable[[], Array], budget: float, left: float, offered: int
    ) -> Step | None:
        """Choose the next run, or None when nothing that is affordable is worth it.

        ``candidates`` draws new points; ``offered`` is how many settings have been proposed; ``left`` is what is left
        of ``budget``, in full runs.
        """
        if left < self.costs[0] - SMALL:
            return None
        kept = self._kept(seen, budget, left)
        if offered < design_size(budget, self.costs, self._dimensions):
            affordable = self.top == 0 or left - self.costs[0] >= min(kept, 1) - SMALL
            return Step(0) if affordable else Step(self.top)
        return self._informed(seen, candidates(), left, kept)

    def _kept(self, seen: Sequence[Seen], budget: float, left: float) -> float:
        """How much of what is left is kept for full runs: for one at least, since it alone makes use of the others."""
        trust = min(max(agreement(seen) / AGREE, 0.0), 1.0)
        full = max(1, int((1.0 - (1.0 - FULL_SHARE) * trust) * budget + 0.5))
        done = len({one.trial for one in seen if one.rung == self.top})
        return float(min(max(full - done, 1), int(left + SMALL)))

    def _informed(self, seen: Sequence[Seen], candidates: Array, left: float, kept: float) -> Step | None:
        points, rungs, values = self._data(seen)
        model = self._model(seen, points, rungs, values)
        highest = {one.trial: max(o.rung for o in seen if o.trial == one.trial) for one in seen}
        places = {one.trial: one.point for one in seen}
        dead = {one.trial for one in seen if one.score == -math.inf}
        open_trials = [trial for trial, rung in highest.items() if rung < self.top and trial not in dead]
        old = np.array([places[trial] for trial in open_trials]).reshape(-1, points.shape[1])
        everything = np.vstack([old, candidates])
        if not len(everything):
            return None
        mean, variance = model.predict(everything, self.top)
        at_top = rungs == self.top
        if at_top.any():
            best = float(values[at_top].max()) - model.level(self.top)
        else:
            best = float(model.predict(points, self.top)[0].max())
        gain = expected_improvement(mean, np.sqrt(variance + model.noise(self.top)), best)
        order = np.argsort(-gain, kind="stable")

        def step(place: int, rung: int) -> Step:
            new = place >= len(open_trials)
            return Step(rung, None, tuple(everything[place].tolist())) if new else Step(rung, open_trials[place])

        if left - self.costs[0] >= kept - SMALL and self.top > 0:
            for place in order.tolist():
                lowest = 0 if place >= len(open_trials) else highest[open_trials[place]] + 1
                rungs_on = [r for r in range(lowest, self.top) if left - self.costs[r] >= kept - SMALL]
                if rungs_on:
                    told = {r: model.share_told(everything[place], r) / self.costs[r] for r in rungs_on}
                    return step(place, max(rungs_on, key=lambda r: told[r]))
        return step(int(order[0]), self.top) if left >= 1.0 - SMALL else None

    def _data(self, seen: Sequence[Seen]) -> tuple[Array, Index, Array]:
        """Points, rungs and standardised values; runs still in training count as seen at the mean of their rung."""
        points = np.array([one.point for one in seen])
        rungs = np.array([one.rung for one in seen], dtype=np.intp)
        values = warped(np.array([one.score for one in seen]), rungs)
        spread = float(values.std())
        return points, rungs, (values - values.mean()) / (spread or 1.0)

    def _model(self, seen: Sequence[Seen], points: Array, rungs: Index, values: Array) -> Surrogate:
        """The surrogate; its parameters are fitted anew whenever a fifth more has been seen, and to that alone."""
        size = _fit_size(len(values))
        if size not in self._fits:
            self._fits[size] = Surrogate(*self._data(seen[:size]), self.top, self._labels).parameters
        return Surrogate(points, rungs, values, self.top, self._labels, self._fits[size])


def _fit_size(count: int) -> int:
    """The largest step of a geometric series from 3 on that is at most ``count``."""
    size = 3
    while math.ceil(size * REFIT) <= count:
        size = math.ceil(size * REFIT)
    return min(size, count)


def warped(scores: Array, rungs: Index) -> Array:
    """Return values on one scale for all rungs: minus the logarithm of the distance to the rung's best score.

    The distance is counted in |median - best| of the rung, so a rung's own unit and level do not matter, and the best
    settings are told apart finely; a diverged run comes below everything, one still in training at its rung's median.

    >>> warped(np.array([1.0, 0.9, 0.0, -np.inf]), np.zeros(4, dtype=np.intp)).round(2)
    array([ 3.91,  2.12, -0.02, -0.52])
    """
    found = np.full(len(scores), np.nan)
    for rung in set(rungs.tolist()):
        here = rungs == rung
        finite = scores[here & np.isfinite(scores)]
        if len(finite):
            best = float(finite.max())
            unit = best - float(np.median(finite) if len(finite) >= 4 else finite.min())
            with np.errstate(invalid="ignore"):
                found[here] = -np.log(np.maximum((best - scores[here]) / (unit or 1.0), 0.0) + CLOSE)
    pending, known = np.isnan(scores), np.isfinite(found)
    floor = float(found[known].min()) if known.any() else 0.0
    for rung in set(rungs[pending].tolist()):
        mine = found[(rungs == rung) & known]
        found[pending & (rungs == rung)] = float(np.median(mine)) if len(mine) else floor
    return np.asarray(np.maximum(np.where(np.isfinite(found), found, floor - 0.5), -3.0))
