"""The trials of the search as points: coordinates and value at the full horizon, or how they ended without one.

Which of them is best, and what follows from them, is said elsewhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.config.space import EFFECTIVE, ArmSpace, Dimension
from tuner.core.records import Horizon, Outcome, Phase, Source, State, TrialRecord
from tuner.core.values import Scalar
from tuner.study_records import Key, StudyRecords, values_at

INDEPENDENT = frozenset({Source.SOBOL, Source.RANDOM, Source.RECORDED})
"""The sources whose trials do not look at earlier results; where a recording does not say, it is taken at its best."""


@dataclass(frozen=True, slots=True)
class Point:
    """A trial that ended.

    Completed, it has a ``value`` at the full horizon, in the metric's unit. Otherwise it diverged, failed, or was
    pruned: it never reached the full horizon (stopped, or left on a shorter rung). ``wider``: it was proposed after the
    search had widened a range because of what it saw.
    """

    trial: TrialRecord
    outcome: Outcome
    value: float | None = None
    wider: bool = False

    @property
    def independent(self) -> bool:
        return self.trial.source in INDEPENDENT and not self.wider

    def coordinate(self, name: str) -> Scalar | None:
        """Where the trial lies on one axis; None if its setting lies outside the searched space."""
        return self.trial.coordinates.get(name)


Points = Mapping[str, tuple[Point, ...]]
"""Arm -> its points, in the order of proposal."""


def points_of(records: StudyRecords) -> Points:
    """Return the ended trials of each arm; those that are not ended, or lost with their machine, are left out."""
    return points_at(records, records.spec.horizon)


def points_at(records: StudyRecords, horizon: Horizon) -> Points:
    """As :func:`points_of`, with the values that trials had at another horizon."""
    widened = records.spec.widened
    values = values_at(records.in_phase(Phase.EXPLORE), horizon)
    outcomes: dict[Key, set[Outcome]] = defaultdict(set)
    for run in records.in_phase(Phase.EXPLORE):
        if run.state is State.ENDED and run.outcome is not None:
            outcomes[run.spec.arm, run.spec.trial].add(run.outcome)
    points: dict[str, list[Point]] = {arm: [] for arm in records.arms}
    first = widened[0].proposed if widened else {}
    for trial in sorted(records.trials, key=lambda trial: trial.index):
        key = (trial.arm, trial.index)
        wider = trial.index >= first.get(trial.arm, math.inf)
        if key in values:
            points[trial.arm].append(Point(trial, Outcome.COMPLETED, values[key], wider))
        elif outcome := _without_value(outcomes[key]):
            points[trial.arm].append(Point(trial, outcome, wider=wider))
    return {arm: tuple(row) for arm, row in points.items()}


def _without_value(outcomes: set[Outcome]) -> Outcome | None:
    for outcome in (Outcome.DIVERGED, Outcome.FAILED):
        if outcome in outcomes:
            return outcome
    return Outcome.PRUNED if outcomes & {Outcome.PRUNED, Outcome.COMPLETED} else None


def scored(points: Sequence[Point], sign: int) -> list[tuple[Mapping[str, Scalar], float]]:
    """Return coordinates and score (more is better; -inf: diverged or failed) of the trials that tell something."""
    told = [point for point in points if point.outcome is not Outcome.PRUNED]
    return [(p.trial.coordinates, -math.inf if p.value is None else p.value * sign) for p in told]


def rate_dimension(space: ArmSpace) -> Dimension | None:
    """Return the axis of the learning rate, or of the effective one; None if the arm searches neither."""
    return space.dimension("learning_rate") or space.dimension(EFFECTIVE)


def used(dimension: str, trial: TrialRecord) -> bool:
    """Whether the trial's training depends on this axis: a schedule's parameter belongs to some kinds only."""
    key = dimension.removeprefix("schedule.")
    return key == dimension or key in trial.setting.schedule
