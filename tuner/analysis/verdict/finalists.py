"""Which trial stands for each arm after the search. Fresh seeds and verdicts are not known here."""

from __future__ import annotations

import math

from tuner.analysis.searched.spending import equally_paid, in_full_runs
from tuner.core.records import State
from tuner.study_records import StudyRecords, values_at


def finalists(records: StudyRecords) -> dict[str, int]:
    """Return arm -> index of its best trial, in the space's order; arms without a completed full run are left out.

    The best trial has the best value of the search at the full horizon (the mean of its seeds); of equal ones the
    earlier is taken. Budgets are made equal: only the first :func:`competing` proposals of each arm take part, so an
    arm that was served faster before the time ran out has no more draws than the others. Where budgets are counted in
    full runs, the runs of :func:`tuner.analysis.searched.spending.equally_paid` take part instead. A recording says
    itself which trials it confirmed, and has no order of proposals.
    """
    spec = records.spec
    if spec.recording is not None:
        return {arm: spec.recording.finalists[arm] for arm in records.arms if arm in spec.recording.finalists}
    counted = in_full_runs(spec)
    most = math.inf if counted else competing(records)
    values = values_at(equally_paid(records), spec.horizon) if counted else records.search_values
    best: dict[str, int] = {}
    for arm in records.arms:
        scores = {
            trial: value * spec.sign
            for (name, trial), value in values.items()
            if name == arm and trial < most and (name, trial) in records.by_key
        }
        if scores:
            best[arm] = min(scores, key=lambda trial: (-scores[trial], trial))
    return best


def competing(records: StudyRecords) -> int:
    """Return how many proposals of each arm compete: the fewest ended ones of the arms that have any.

    Diverged, failed and lost ones count, too.
    """
    counts = [ended_trials(records, arm) for arm in records.arms]
    return min((count for count in counts if count), default=0)


def ended_trials(records: StudyRecords, arm: str) -> int:
    """Return how many proposals of the arm have ended in the search: from the first one on, without a gap."""
    indices = {run.spec.trial for run in records.search_runs[arm] if run.state is State.ENDED}
    count = 0
    while count in indices:
        count += 1
    return count
