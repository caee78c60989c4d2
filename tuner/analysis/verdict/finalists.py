"""Which trial stands for each arm after the search; fresh seeds and verdicts do not belong here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from tuner.analysis.searched.spending import equally_paid, in_full_runs
from tuner.config.spec import StudySpec
from tuner.core.records import Outcome, Phase, RunRecord, State, TrialRecord


def finalists(spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord]) -> dict[str, int]:
    """Return arm -> index of its best trial, in the space's order; arms without a completed run have none.

    The best is the best value of the search at the full horizon (several seeds of one trial: their mean); of equal
    ones the earlier trial. Budgets are equal: only the first :func:`competing` proposals of each arm take part, so
    that an arm that was served faster before the time ran out has no more draws than the others; where budgets are
    counted in full runs, see :func:`tuner.analysis.searched.spending.equally_paid`. A recording says itself which
    trials it confirmed, and knows no order of proposals.
    """
    if spec.recording is not None:
        return {arm.arm: spec.recording.finalists[arm.arm] for arm in spec.arms if arm.arm in spec.recording.finalists}
    counted = in_full_runs(spec)
    most = math.inf if counted else competing(spec, runs)
    known = {(trial.arm, trial.index) for trial in trials}
    values = search_values(spec, equally_paid(spec, runs) if counted else runs)
    found: dict[str, int] = {}
    for arm in spec.arms:
        mine = {
            trial: value * spec.sign
            for (name, trial), value in values.items()
            if name == arm.arm and trial < most and (name, trial) in known
        }
        if mine:
            found[arm.arm] = min(mine, key=lambda trial: (-mine[trial], trial))
    return found


def competing(spec: StudySpec, runs: Sequence[RunRecord]) -> int:
    """Return how many proposals of each arm compete: the fewest that any arm with an ended trial has ended.

    Diverged, failed and lost ones count: nobody gets a refund.
    """
    counts = [ended_trials(runs, arm.arm) for arm in spec.arms]
    return min((count for count in counts if count), default=0)


def ended_trials(runs: Sequence[RunRecord], arm: str) -> int:
    """Return how many proposals of the arm have ended in the search, counted from 0 without a gap."""
    ended = {
        run.spec.trial
        for run in runs
        if run.spec.arm == arm and run.spec.phase is Phase.EXPLORE and run.state is State.ENDED
    }
    count = 0
    while count in ended:
        count += 1
    return count


def search_values(spec: StudySpec, runs: Sequence[RunRecord]) -> dict[tuple[str, int], float]:
    """Return (arm, trial) -> value of the search at the full horizon, in the metric's unit."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.run_id):
        full = run.spec.phase is Phase.EXPLORE and run.spec.horizon == spec.horizon
        if full and run.outcome is Outcome.COMPLETED and run.value is not None:
            found[run.spec.arm, run.spec.trial].append(run.value)
    return {key: sum(values) / len(values) for key, values in found.items()}
