"""``fidelity: prune``: whether a run in training is stopped early, by one of Optuna's pruners, inside one arm.

Pruning is biased against slow starters: a prefix of a decaying schedule says little about its end, and least for SGD
with momentum. It is a choice, never the default.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import optuna
from optuna.trial import TrialState, create_trial

from tuner.core.records import Outcome, Phase, RunRecord, RunResult, State
from tuner.study_records import StudyRecords

Curve = Sequence[tuple[int, float]]
"""Optimizer steps, and the metric's values measured there."""


REDUCTION = 3
_RUNG = "completed_rung_{}"
"""Where Optuna's successive halving keeps in a trial the value that it had at a rung."""


def hopeless(records: StudyRecords, run: RunRecord) -> bool:
    """Whether the pruner of a study (with ``fidelity: prune``) stops a run in training.

    The run is compared with what its arm's earlier runs had measured. Only runs of the search are stopped, and none
    that has trained as long as a full run.
    """
    spec = records.spec
    if run.spec.phase is not Phase.EXPLORE:
        return False
    if run.curve and run.curve[-1].step >= records.full_steps > 0:
        return False
    ended = [other for other in records.search_runs[run.spec.arm] if other.state is State.ENDED]
    others = [curve_of(other, spec.metric) for other in ended]
    return should_prune(spec.fidelity.pruner, curve_of(run, spec.metric), others, spec.sign)


def curve_of(run: RunRecord, metric: str) -> Curve:
    """Return what a run measured of a metric, where that is finite."""
    return [(m.step, m.values[metric]) for m in run.curve if math.isfinite(m.values.get(metric, math.nan))]


def pruned(run: RunRecord, pruner: str) -> RunResult:
    """Return the result of a run in training that a pruner stops now; it has measured at least once."""
    last = run.curve[-1]
    return RunResult(
        Outcome.PRUNED,
        step=last.step,
        reason=f"stopped by the {pruner} pruner",
        measurements=run.curve,
        train_seconds=last.train_seconds,
        eval_seconds=last.eval_seconds,
        started_at=run.started_at,
        finished_at=time.time(),
    )


def make_pruner(name: str, first_step: int = 1) -> optuna.pruners.BasePruner:
    """Build one of Optuna's pruners; successive halving has its rungs at ``first_step`` times 1, 3, 9, ..."""
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(first_step, 1), reduction_factor=REDUCTION)
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0)


def should_prune(name: str, curve: Curve, others: Sequence[Curve], sign: int) -> bool:
    """Whether a run with this curve is to stop, given the curves of the arm's earlier runs (ended or stopped).

    Args:
        name: ``median`` or ``asha``.
        curve: what the run has measured so far.
        others: the same of the arm's earlier runs.
        sign: +1 where more is better, -1 where less is.

    >>> good = [[(1, 0.5), (2, 0.7)], [(1, 0.4), (2, 0.6)], [(1, 0.6), (2, 0.8)], [(1, 0.5), (2, 0.9)]]
    >>> should_prune("median", [(1, 0.1)], good, sign=1), should_prune("median", [(1, 0.9)], good, sign=1)
    (True, False)
    """
    if not curve or not any(others):
        return False
    first = curve[0][0]
    study = optuna.create_study(direction="maximize" if sign > 0 else "minimize", pruner=make_pruner(name, first))
    for other in others:
        if other:
            attrs = at_rungs(other, first)
            study.add_trial(create_trial(value=other[-1][1], intermediate_values=dict(other), system_attrs=attrs))
    study.add_trial(create_trial(state=TrialState.RUNNING))
    trial = optuna.trial.Trial(study, study.get_trials(deepcopy=False)[-1]._trial_id)
    stops = False
    for step, value in curve:
        trial.report(value, step)
        stops = bool(trial.should_prune())
    return stops


def at_rungs(curve: Curve, first_step: int) -> dict[str, float]:
    """Return what a curve showed at each rung of successive halving that it reached, under Optuna's names.

    >>> at_rungs([(10, 0.5), (20, 0.6), (30, 0.7), (40, 0.8)], first_step=10)
    {'completed_rung_0': 0.5, 'completed_rung_1': 0.7}
    """
    values: dict[str, float] = {}
    for step, value in curve:
        while step >= max(first_step, 1) * REDUCTION ** len(values):
            values[_RUNG.format(len(values))] = value
    return values
