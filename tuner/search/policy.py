"""What the search trains next: a pure function of a study's records and of its arms' searches; nothing is written here.

Arms take turns by what they have spent (:mod:`tuner.search.allocation`). The arm whose turn it is chooses a setting
and a rung of its ladder (:mod:`tuner.search.ladder`); what was trained before exactly so is not trained again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tuner.catalog.schedules import SCHEDULES
from tuner.config.spec import UNLIMITED_PLAN, StudySpec
from tuner.core.records import Outcome, Phase, RunRecord, RunResult, RunSpec, Source, TrialRecord
from tuner.search.allocation import offers
from tuner.search.arm import ArmSearch
from tuner.search.ladder import Step
from tuner.search.proposals import Proposal
from tuner.study_records import StudyRecords, Training

BLOCK = UNLIMITED_PLAN / 4
"""How many full runs more an arm may plan with where only time limits the search."""
REPEATS = 12
"""After so many proposals in a row that were all made before, an arm's space counts as exhausted."""


@dataclass(frozen=True, slots=True)
class NextRun:
    """What to train next.

    ``proposal`` is the new trial that the run begins, None where a trial goes up its ladder. ``twin`` is an earlier
    run that was the same training and ended by itself, if there is one.
    """

    spec: RunSpec
    proposal: Proposal | None = None
    twin: RunRecord | None = None

    @property
    def result(self) -> RunResult | None:
        """The result without training: the twin's, at no cost in seconds."""
        if self.twin is None or self.twin.result is None:
            return None
        reason = f"the same as {self.twin.run_id}: not trained again"
        return replace(self.twin.result, reason=reason, train_seconds=0.0, eval_seconds=0.0)


def next_run(records: StudyRecords, arms: Mapping[str, ArmSearch]) -> NextRun | None:
    """Return the run that the search trains next, or None where no arm can use what it may still spend.

    Args:
        records: the study as it stands; runs in training count as spent, at the cost of their horizon.
        arms: each arm's search, by the arm's name, in the space's order.
    """
    seen = {name: arm.seen(records) for name, arm in arms.items()}
    spent = {name: records.committed(name) for name in arms}
    top = len(records.spec.rungs) - 1
    rewards = {name: [one.score for one in row if one.rung == top] for name, row in seen.items()}
    for offer in offers(records.spec.allocation, budget_of(records.spec, spent), spent, rewards):
        arm, left = arms[offer.arm], offer.budget - spent[offer.arm]
        proposed = len(records.trials_of(offer.arm))
        step = arm.next(seen[offer.arm], proposed, offer.budget, left, exhausted(records, offer.arm))
        if step is not None:
            return _first(records, arm, step, left) if step.trial is None else _further(records, arm, step)
    return None


def budget_of(spec: StudySpec, spent: Mapping[str, float]) -> float:
    """Return how many full runs each arm may spend; where only time limits the search, a block more when one is spent.

    >>> from types import SimpleNamespace
    >>> hours = SimpleNamespace(budget=SimpleNamespace(trials_per_arm=None))
    >>> [budget_of(hours, {"sgdm": used, "adamw": 99.0}) for used in (0.0, 23.0, 23.5, 29.0)]
    [24, 24, 30.0, 36.0]
    """
    limit = spec.budget.trials_per_arm
    if limit is not None:
        return float(limit)
    least = min(spent.values())
    blocks = math.floor(max(0.0, least + 1.0 - UNLIMITED_PLAN) / BLOCK)
    return UNLIMITED_PLAN + BLOCK * (blocks + 1.0) if least > UNLIMITED_PLAN - 1 else UNLIMITED_PLAN


def exhausted(records: StudyRecords, arm: str) -> bool:
    """Whether an arm has so few settings left that its last ``REPEATS`` proposals had all been made before."""
    prints = [records.fingerprint(arm, trial.index, trial.setting) for trial in records.trials_of(arm)]
    return len(prints) > REPEATS and set(prints[-REPEATS:]) <= set(prints[:-REPEATS])


def first_rung(spec: StudySpec, trial: TrialRecord, rung: int, left: float) -> int:
    """Return the rung on which a new trial begins, ``left`` full runs to spend: ``rung``, or the full horizon.

    The family's default and the user's own setting train in full, since all others are compared with them. So does a
    schedule that follows the metric, which cannot be timed to a short horizon.
    """
    schedule = SCHEDULES.get(str(trial.setting.schedule["kind"]))
    follows_metric = schedule is not None and schedule.follows_metric
    compared_with = trial.source in (Source.DEFAULT, Source.CURRENT) and left >= 1.0
    return len(spec.rungs) - 1 if follows_metric or compared_with else rung


def _first(records: StudyRecords, arm: ArmSearch, step: Step, left: float) -> NextRun:
    """A new trial, on the rung on which it begins."""
    proposal = arm.proposal(len(records.trials_of(arm.space.arm)), step.point)
    rung = first_rung(records.spec, proposal.trial, step.rung, left)
    run = records.run_spec(proposal.trial, Phase.EXPLORE, records.spec.search_seed, rung)
    same = run.setting.fingerprint, run.horizon.amount, run.seed  # not from the records, which do not know it yet
    return NextRun(run, proposal, _twin(records, run.arm, same))


def _further(records: StudyRecords, arm: ArmSearch, step: Step) -> NextRun:
    """A trial that goes up the ladder."""
    assert step.trial is not None
    trial = records.by_key[arm.space.arm, step.trial]
    run = records.run_spec(trial, Phase.EXPLORE, records.spec.search_seed, step.rung)
    return NextRun(run, twin=_twin(records, run.arm, records.training(run)))


def _twin(records: StudyRecords, arm: str, same: Training) -> RunRecord | None:
    """The first run of an arm's search that was the same training, and that completed or diverged."""
    settled = (Outcome.COMPLETED, Outcome.DIVERGED)
    alike = (run for run in records.search_runs[arm] if run.outcome in settled and records.training(run.spec) == same)
    return next(alike, None)
