"""The ladder of horizons inside one arm: which setting trains next, and how long. Pure; nothing reaches SQL here.

A share of the arm's budget goes to short runs, which screen settings: each trains from scratch, with its schedule timed
to its own horizon. The rest is kept for full runs, since only a setting with a full run can become a finalist. One
surrogate (:mod:`tuner.search.surrogate`) models all rungs. The setting with the highest expected improvement of its
*full* run trains next, on the rung that tells most about the full horizon for its cost. Where rungs disagree about the
order of settings (:func:`agreement`), short runs mislead: fewer settings are screened and more are trained in full.
Every choice is a function of what the arm's runs showed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.config.fidelity import DESIGN_SHARE, PER_DIMENSION
from tuner.search.surrogate import Array, Index, Parameters, Surrogate, expected_improvement

FULL_SHARE = 0.4
"""The share of the budget that full runs get where the rungs agree; where they do not, it grows up to 1."""
AGREE = 0.8
"""From this rank correlation between rungs on, short runs are trusted."""
PRIOR_AGREEMENT, PRIOR_PAIRS = 0.8, 4
"""The agreement that is assumed before any setting ran on two rungs, and how many pairs of scores that is worth."""
CLOSE = 0.02
"""Scores closer to their rung's best than CLOSE x |median - best| count as about equal to it."""
REFIT = 1.2
"""The surrogate's parameters are fitted anew whenever the number of runs has grown by this factor."""
SMALL = 1e-9
"""Rounding: two amounts in full runs that differ by less are the same."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run showed.

    ``point`` is where its trial lies in the unit cube (one number a dimension), ``rung`` 0 is the shortest horizon.
    ``score``: more is better, -inf if it broke off, NaN while it trains or if it was lost.
    """

    trial: int
    point: tuple[float, ...]
    rung: int
    score: float


@dataclass(frozen=True, slots=True)
class Step:
    """What to train next: a trial on a rung, or, with ``trial`` None, a new setting.

    A new setting lies at ``point`` in the unit cube; with None it is the next one of the design.
    """

    rung: int
    trial: int | None = None
    point: tuple[float, ...] | None = None


def design_size(budget: float, costs: Sequence[float], dimensions: int) -> int:
    """Return how many settings are proposed before the surrogate chooses: initial ones, then the space-filling design.

    Args:
        budget: the arm's, in full runs.
        costs: what a run on each rung takes, as a share of a full run.
        dimensions: how many of them are searched.

    >>> design_size(12, (1 / 9, 1 / 3, 1), 4), design_size(6, (1 / 9, 1 / 3, 1), 1), design_size(12, (1.0,), 4)
    (21, 8, 4)
    """
    wanted = int(DESIGN_SHARE * budget / costs[0] + SMALL)
    return max(3 if len(costs) > 1 else 4, min(wanted, PER_DIMENSION * dimensions, 64))


def agreement(seen: Sequence[Seen]) -> float:
    """Return how well rungs agree on the order of settings, from -1 to 1.

    For each rung, the scores of its settings there are held against their scores on higher rungs: a rank correlation
    (Spearman's), where there are three such pairs. The result is the mean over the rungs, weighted by their pairs, with
    PRIOR_AGREEMENT as if from PRIOR_PAIRS more.

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
    """The choices of one arm; it holds nothing but the surrogate's fitted parameters, which what was seen determines.

    Args:
        costs: what a run on each rung takes, as a share of a full run; rising, the last one is 1.
        labels: which dimensions hold words, as in :class:`tuner.search.surrogate.Surrogate`.
        dimensions: how many of them are searched.
    """

    def __init__(self, costs: Sequence[float], labels: Index, dimensions: int) -> None:
        self._dimensions = dimensions
        self.costs = tuple(costs)
        self.top = len(costs) - 1
        self._labels = labels
        self._fits: dict[int, Parameters] = {}

    def next(
        self, seen: Sequence[Seen], candidates: Callable[[], Array], budget: float, left: float, proposed: int
    ) -> Step | None:
        """Choose the next run, or None where nothing that can be paid is of use.

        Args:
            seen: what the arm's runs showed, in the order in which they were handed out.
            candidates: draws new points (n by dimensions, in the unit cube) to choose from.
            budget: what the arm may spend in all, in full runs.
            left: what is left of the budget, in full runs.
            proposed: how many settings the arm has proposed.
        """
        if left < self.costs[0] - SMALL:
            return None
        kept = self._kept(seen, budget, left)
        if proposed < design_size(budget, self.costs, self._dimensions):
            affordable = self.top == 0 or left - self.costs[0] >= min(kept, 1) - SMALL
            return Step(0) if affordable else Step(self.top)
        return self._informed(seen, candidates(), left, kept)

    def _kept(self, seen: Sequence[Seen], budget: float, left: float) -> float:
        """How much of what is left is kept for full runs: at least one, without which short runs were for nothing."""
        trust = min(max(agreement(seen) / AGREE, 0.0), 1.0)
        full = max(1, int((1.0 - (1.0 - FULL_SHARE) * trust) * budget + 0.5))
        done = len({one.trial for one in seen if one.rung == self.top})
        return float(min(max(full - done, 1), int(left + SMALL)))

    def _informed(self, seen: Sequence[Seen], candidates: Array, left: float, kept: float) -> Step | None:
        """The setting whose full run promises most, new or from below the full horizon, on the rung that tells most."""
        points, rungs, values = self._data(seen)
        model = self._model(seen, points, rungs, values)
        going = [one for one in _highest(seen) if one.rung < self.top]
        old = np.array([one.point for one in going]).reshape(-1, points.shape[1])
        everything = np.vstack([old, candidates])
        if not len(everything):
            return None
        order = np.argsort(-self._gain(model, everything, points, rungs, values), kind="stable").tolist()

        def step(place: int, rung: int) -> Step:
            new = place >= len(going)
            return Step(rung, None, tuple(everything[place].tolist())) if new else Step(rung, going[place].trial)

        if left - self.costs[0] >= kept - SMALL and self.top > 0:
            for place in order:
                lowest = 0 if place >= len(going) else going[place].rung + 1
                affordable = [r for r in range(lowest, self.top) if left - self.costs[r] >= kept - SMALL]
                if affordable:
                    worth = {r: model.share_told(everything[place], r) / self.costs[r] for r in affordable}
                    return step(place, max(affordable, key=lambda r: worth[r]))
        return step(order[0], self.top) if left >= 1.0 - SMALL else None

    def _gain(self, model: Surrogate, everything: Array, points: Array, rungs: Index, values: Array) -> Array:
        """The expected improvement of a full run at each of ``everything``, over the best full run there is.

        Before there is one, over the best that the model expects of a setting that has run.
        """
        mean, variance = model.predict(everything, self.top)
        full = rungs == self.top
        if full.any():
            best = float(values[full].max()) - model.level(self.top)
        else:
            best = float(model.predict(points, self.top)[0].max())
        return expected_improvement(mean, np.sqrt(variance + model.noise(self.top)), best)

    def _data(self, seen: Sequence[Seen]) -> tuple[Array, Index, Array]:
        """Points (n by dimensions), rungs (n) and values (n): warped scores with mean 0 and standard deviation 1."""
        points = np.array([one.point for one in seen])
        rungs = np.array([one.rung for one in seen], dtype=np.intp)
        values = warped(np.array([one.score for one in seen]), rungs)
        spread = float(values.std())
        return points, rungs, (values - values.mean()) / (spread or 1.0)

    def _model(self, seen: Sequence[Seen], points: Array, rungs: Index, values: Array) -> Surrogate:
        """The surrogate, with parameters that were fitted to the first ``_fit_size`` runs alone."""
        size = _fit_size(len(values))
        if size not in self._fits:
            self._fits[size] = Surrogate(*self._data(seen[:size]), self.top, self._labels).parameters
        return Surrogate(points, rungs, values, self.top, self._labels, self._fits[size])


def _highest(seen: Sequence[Seen]) -> list[Seen]:
    """What each trial showed on its highest rung; those that broke off on any rung are left out."""
    highest: dict[int, Seen] = {}
    for one in seen:
        if one.trial not in highest or one.rung > highest[one.trial].rung:
            highest[one.trial] = one
    broke_off = {one.trial for one in seen if one.score == -math.inf}
    return [one for trial, one in highest.items() if trial not in broke_off]


def _fit_size(count: int) -> int:
    """The largest step of a geometric series from 3 on that is at most ``count``."""
    size = 3
    while math.ceil(size * REFIT) <= count:
        size = math.ceil(size * REFIT)
    return min(size, count)


def warped(scores: Array, rungs: Index) -> Array:
    """Return scores on one scale for all rungs: minus the logarithm of (distance to the rung's best score + CLOSE).

    Distances are in units of the rung's |median - best|, so the rung's own unit and level do not matter. On this scale
    the best settings lie far apart and the bad ones close together. A run that broke off comes below all others; one in
    training counts as its rung's median.

    Args:
        scores: one a run, more is better; -inf if it broke off, NaN while it trains.
        rungs: the rung of each run.

    Returns:
        One finite value a run, -3 at least.

    >>> warped(np.array([1.0, 0.9, 0.0, -np.inf]), np.zeros(4, dtype=np.intp)).round(2)
    array([ 3.91,  2.12, -0.02, -0.52])
    """
    values = np.full(len(scores), np.nan)
    for rung in set(rungs.tolist()):
        here = rungs == rung
        finite = scores[here & np.isfinite(scores)]
        if len(finite):
            best = float(finite.max())
            unit = best - float(np.median(finite) if len(finite) >= 4 else finite.min())
            with np.errstate(invalid="ignore"):
                values[here] = -np.log(np.maximum((best - scores[here]) / (unit or 1.0), 0.0) + CLOSE)
    pending, known = np.isnan(scores), np.isfinite(values)
    floor = float(values[known].min()) if known.any() else 0.0
    for rung in set(rungs[pending].tolist()):
        mine = values[(rungs == rung) & known]
        values[pending & (rungs == rung)] = float(np.median(mine)) if len(mine) else floor
    return np.asarray(np.maximum(np.where(np.isfinite(values), values, floor - 0.5), -3.0))
