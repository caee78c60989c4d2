"""Optuna's samplers: the axes they search, and one proposal from one of them. Nothing is stored here."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning

from tuner.config.space import Dimension
from tuner.core.values import Scalar


def distribution(dimension: Dimension) -> BaseDistribution:
    """Return Optuna's counterpart of a dimension's axis.

    >>> distribution(Dimension("n", 1, 4, integer=True))
    IntDistribution(high=4, log=False, low=1, step=1)
    """
    if dimension.choices:
        return CategoricalDistribution(list(dimension.choices))
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.floor, dimension.high, log=dimension.log)


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """Build a model-based sampler (``tpe``, ``gp`` or ``cmaes``) that is seeded for one proposal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=1, deterministic_objective=False)
        if name == "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)


def sampled(
    name: str, seed: int, study: optuna.Study, axes: Mapping[str, BaseDistribution]
) -> tuple[dict[str, Scalar], dict[str, object]]:
    """Ask a sampler for one point, given the trials of a study, which stays as it is.

    Args:
        name: the sampler, as in :func:`make_sampler`.
        seed: the point depends on it, on the trials and on the axes alone.
        study: an Optuna study in memory.
        axes: the distribution of each coordinate.

    Returns:
        The coordinates, and the system attributes that the sampler wants to find again in the trial.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scratch = optuna.create_study(
            directions=study.directions, sampler=make_sampler(name, seed), pruner=optuna.pruners.NopPruner()
        )
        for trial in study.get_trials(deepcopy=False):
            scratch.add_trial(trial)
        asked = scratch.ask(dict(axes))
        attrs = dict(scratch.get_trials(deepcopy=False)[asked.number].system_attrs)
    return dict(asked.params), attrs
