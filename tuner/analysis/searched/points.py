"""The trials of the search as points: coordinates and value at the full horizon, or how they ended without one.

Which of them stands for its arm is decided in ``verdict/finalists.py``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.config.space import EFFECTIVE, ArmSpace, Dimension
from tuner.core.records import Horizon, Outcome, Phase, Source, TrialRecord
from tuner.core.values import Scalar
from tuner.study_records import Key, StudyRecords, ended, values_at

INDEPENDENT = frozenset({Source.SOBOL, Source.RANDOM, Source.RECORDED})
"""The sources whose settings do not depend on earlier results; a recording that does not say counts as one."""


@dataclass(frozen=True, slots=True)
class Point:
    """A trial that ended.

    A completed one has a ``value`` at the full horizon, in the metric's unit. Another one diverged, failed, or counts
    as pruned: it did not reach the full horizon, because it was stopped or left on a shorter rung. ``wider`` says that
    it was proposed after the search had widened a range because of its results.
    """

    trial: TrialRecord
    outcome: Outcome
    value: float | None = None
    wider: bool = False

    @property
    def independent(self) -> bool:
        """Whether the setting was proposed without regard to earlier results."""
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
    runs, widened = records.in_phase(Phase.EXPLORE), records.spec.widened
    values = records.search_values if horizon == records.spec.horizon else values_at(runs, horizon)
    outcomes: dict[Key, set[Outcome]] = defaultdict(set)
    for run in ended(runs):
        if run.outcome is not None:
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
    """How a trial without a value ended, the gravest outcome of its runs; None if no run ended but lost ones."""
    for outcome in (Outcome.DIVERGED, Outcome.FAILED):
        if outcome in outcomes:
            return outcome
    return Outcome.PRUNED if outcomes & {Outcome.PRUNED, Outcome.COMPLETED} else None


def scored(points: Sequence[Point], sign: int) -> list[tuple[Mapping[str, Scalar], float]]:
    """Return coordinates and score of the points that were not pruned: more is better, -inf diverged or failed."""
    kept = [point for point in points if point.outcome is not Outcome.PRUNED]
    return [(p.trial.coordinates, -math.inf if p.value is None else p.value * sign) for p in kept]


def rate_dimension(space: ArmSpace) -> Dimension | None:
    """Return the axis of the learning rate, or of the effective one; None if the arm searches neither."""
    return space.dimension("learning_rate") or space.dimension(EFFECTIVE)


def used(dimension: str, trial: TrialRecord) -> bool:
    """Whether the trial's training depends on this axis: a schedule's parameter belongs to some kinds only."""
    key = dimension.removeprefix("schedule.")
    return key == dimension or key in trial.setting.schedule
