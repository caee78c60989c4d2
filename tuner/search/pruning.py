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


def make_pruner(name: str) -> optuna.pruners.BasePruner:
    """Build one of Optuna's pruners."""
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource="auto", reduction_factor=3)
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0)


def should_prune(name: str, curve: Curve, others: Sequence[Curve], sign: int) -> bool:
    """Whether a run with this curve is to stop, given the curves of the arm's earlier runs (ended or stopped).

    >>> good = [[(1, 0.5), (2, 0.7)], [(1, 0.4), (2, 0.6)], [(1, 0.6), (2, 0.8)], [(1, 0.5), (2, 0.9)]]
    >>> should_prune("median", [(1, 0.1)], good, sign=1), should_prune("median", [(1, 0.9)], good, sign=1)
    (True, False)
    """
    if not curve:
        return False
    study = optuna.create_study(direction="maximize" if sign > 0 else "minimize", pruner=make_pruner(name))
    for other in others:
        if other:
            study.add_trial(create_trial(value=other[-1][1], intermediate_values=dict(other)))
    running = create_trial(state=TrialState.RUNNING)
    study.add_trial(running)
    trial = optuna.trial.Trial(study, study.get_trials(deepcopy=False)[-1]._trial_id)
    pruned = False
    for step, value in curve:
        trial.report(value, step)
        pruned = bool(trial.should_prune())
    return pruned
