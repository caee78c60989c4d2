"""``fidelity: prune``: whether a run in training is stopped early, by one of Optuna's pruners, inside one arm.

Biased against slow starters: a prefix of a decaying schedule says little about its end, and least for SGD with
momentum. It is a choice, never the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.trial import TrialState, create_trial

Curve = Sequence[tuple[int, float]]
"""Steps, and the values measured there."""


REDUCTION = 3
_RUNG = "completed_rung_{}"
"""Where Optuna's successive halving keeps in a trial the value that it had at a rung."""


def make_pruner(name: str, first_step: int = 1) -> optuna.pruners.BasePruner:
    """Build one of Optuna's pruners; successive halving has its rungs at ``first_step`` times 1, 3, 9, ..."""
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(first_step, 1), reduction_factor=REDUCTION)
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0)


def should_prune(name: str, curve: Curve, others: Sequence[Curve], sign: int) -> bool:
    """Whether a run with this curve is to stop, given the curves of the arm's earlier runs (ended or stopped).

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
            at = at_rungs(other, first)
            study.add_trial(create_trial(value=other[-1][1], intermediate_values=dict(other), system_attrs=at))
    running = create_trial(state=TrialState.RUNNING)
    study.add_trial(running)
    trial = optuna.trial.Trial(study, study.get_trials(deepcopy=False)[-1]._trial_id)
    pruned = False
    for step, value in curve:
        trial.report(value, step)
        pruned = bool(trial.should_prune())
    return pruned


def at_rungs(curve: Curve, first_step: int) -> dict[str, float]:
    """Return what a curve showed at each rung of successive halving that it reached, in Optuna's words.

    >>> at_rungs([(10, 0.5), (20, 0.6), (30, 0.7), (40, 0.8)], first_step=10)
    {'completed_rung_0': 0.5, 'completed_rung_1': 0.7}
    """
    found: dict[str, float] = {}
    for step, value in curve:
        while step >= max(first_step, 1) * REDUCTION ** len(found):
            found[_RUNG.format(len(found))] = value
    return found
