"""Whether a search that is over goes on in wider ranges, and in which; nothing is trained or stored here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tuner.analysis.searched.edges import Edge, edges
from tuner.analysis.verdict.finalists import finalists
from tuner.config.space import ArmSpace, Dimension, SearchSpace
from tuner.config.spec import StudySpec
from tuner.config.widened import LOWER, Moved, Widening, with_widened
from tuner.core.errors import SpaceError
from tuner.study_records import StudyRecords

MOST = 2
"""A study's ranges are widened at most this often."""
SHARE, FEWEST = 0.25, 2
"""With each widening every arm gets this share of the trials that were asked for on top, but at least ``FEWEST``."""
DECADE, THIRD = 10.0, 1 / 3
"""How far the end of a range moves: a factor on a log axis, a share of the range on a linear one."""


def widened(records: StudyRecords) -> StudySpec | None:
    """Return the spec with wider ranges and more trials, or None where the search is over for good.

    Call it at the end of the search. An end of a range moves if the arm's best trial lies at it, and if the meaning of
    the dimension allows values beyond it. Every arm gets the same number of trials on top, so budgets stay equal. It is
    a pure function of the records.
    """
    spec = records.spec
    if not spec.widen or len(spec.widened) >= MOST:
        return None
    moved = _movable(spec.space, edges(records, finalists(records)))
    if not moved:
        return None
    assert spec.budget.trials_per_arm is not None
    counts = Counter(trial.arm for trial in records.trials)
    widening = Widening(more_trials(spec), {arm: counts[arm] for arm in records.arms}, moved)
    budget = replace(spec.budget, trials_per_arm=spec.budget.trials_per_arm + widening.trials)
    space = with_widened(spec.space, (widening,))
    return replace(spec, space=space, budget=budget, widened=(*spec.widened, widening))


def more_trials(spec: StudySpec) -> int:
    """Return how many full runs' worth every arm gets with each widening: a share of what was asked for at first."""
    assert spec.budget.trials_per_arm is not None
    asked = spec.budget.trials_per_arm - sum(widening.trials for widening in spec.widened)
    return max(FEWEST, math.ceil(SHARE * asked))


def _movable(space: SearchSpace, touched: Sequence[Edge]) -> tuple[Moved, ...]:
    """The ends that move: those after whose move every corner of the arm's cube is still a valid setting."""
    kept: list[Moved] = []
    for edge in touched:
        end = moved(edge)
        ends = [*(other for other in kept if other.arm == edge.arm), end]
        if _valid(space.arm(edge.arm), ends):
            kept.append(end)
    return tuple(kept)


def _valid(arm: ArmSpace, ends: Sequence[Moved]) -> bool:
    """Whether every corner of the arm's cube is a valid setting after these ends have moved."""
    space = with_widened(SearchSpace("", "", (arm,), {}), [Widening(FEWEST, {}, tuple(ends))])
    try:
        space.arm(arm.arm).check_corners()
    except SpaceError:
        return False
    return True


def moved(edge: Edge) -> Moved:
    """Return how the end of a range that a trial touches moves: outwards, and not beyond what the dimension means.

    >>> def ends(low, high, side, **axis):
    ...     end = moved(Edge("sgdm", Dimension("x", low, high, **axis), low, side))
    ...     return round(end.old, 9), round(end.new, 9)
    >>> ends(1e-3, 1.0, "upper", log=True), ends(1e-3, 1.0, "lower", log=True)
    ((1.0, 10.0), (0.001, 0.0001))
    >>> ends(0.0, 0.3, "upper"), ends(0.1, 0.4, "lower", least=0.05), ends(0.1, 0.6, "upper", log=True, most=1.0)
    ((0.3, 0.4), (0.1, 0.05), (0.6, 1.0))
    """
    d = edge.dimension
    if edge.side == LOWER:
        return Moved(edge.arm, d.name, edge.side, d.low, max(d.least, _further(d, d.low, -1)))
    return Moved(edge.arm, d.name, edge.side, d.high, min(d.most, _further(d, d.high, 1)))


def _further(d: Dimension, end: float, sign: int) -> float:
    """The end of a range, moved up (+1) or down (-1)."""
    return end * DECADE**sign if d.log else end + sign * THIRD * (d.high - d.low)
