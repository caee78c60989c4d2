"""The trials of the search as points: coordinates and value at the full horizon, or how they ended without one.

Which of them is best, and what follows from them, is said elsewhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.analysis.verdict.finalists import search_values
from tuner.config.space import EFFECTIVE, ArmSpace, Dimension
from tuner.config.spec import StudySpec
from tuner.core.records import Outcome, Phase, RunRecord, Source, State, TrialRecord
from tuner.core.values import Scalar

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


def explored(spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord]) -> Points:
    """Return the ended trials of each arm; those that are not ended, or lost with their machine, are left out."""
    values = search_values(spec, runs)
    outcomes: dict[tuple[str, int], set[Outcome]] = defaultdict(set)
    for run in runs:
        if run.spec.phase is Phase.EXPLORE and run.state is State.ENDED and run.outcome is not None:
            outcomes[run.spec.arm, run.spec.trial].add(run.outcome)
    found: dict[str, list[Point]] = {arm.arm: [] for arm in spec.arms}
    first = spec.widened[0].proposed if spec.widened else {}
    for trial in sorted(trials, key=lambda trial: trial.index):
        key = (trial.arm, trial.index)
        wider = trial.index >= first.get(trial.arm, math.inf)
        if key in values:
            found[trial.arm].append(Point(trial, Outcome.COMPLETED, values[key], wider))
        elif ended := _without_value(outcomes[key]):
            found[trial.arm].append(Point(trial, ended, wider=wider))
    return {arm: tuple(points) for arm, points in found.items()}


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
