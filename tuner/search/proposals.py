"""How an arm's proposals split into initial settings, Sobol points and the model's; and the points without a model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import qmc

from tuner.config.space import ArmSpace
from tuner.core.records import Source, TrialRecord
from tuner.core.values import Scalar, derive_seed

SURROGATE = "surrogate"
MODELS = (SURROGATE, "tpe", "gp", "cmaes")
SOBOL_CAP = 32
"""A model-based sampler starts after so many Sobol points at most."""


@dataclass(frozen=True, slots=True)
class Split:
    """Of an arm's proposals the first ``initial`` are initial settings, the next ``sobol`` Sobol points.

    All others, ``model`` of those that were planned, come from the model.
    """

    initial: int
    sobol: int
    model: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A setting to try: the trial that it would be, and what a sampler wants to find again in Optuna's trial.

    A proposal that a killed driver left in Optuna's tables has its number there, and is not added again.
    """

    trial: TrialRecord
    attrs: Mapping[str, object] = field(default_factory=dict)


def split(sampler: str, trials: int, initial: int, wanted: int = 1) -> Split:
    """Divide ``trials`` proposals among ``initial`` settings, Sobol points and the model.

    Initial settings get half of the proposals at most, and one for each of the first ``wanted``: the family's default
    and the user's own. About half of what they leave over goes to Sobol points, rounded down to a power of two, since
    a Sobol sequence is even only there.

    >>> split("tpe", 12, initial=1), split("tpe", 3, initial=1)
    (Split(initial=1, sobol=4, model=7), Split(initial=1, sobol=1, model=1))
    >>> split("sobol", 12, initial=2)
    Split(initial=2, sobol=10, model=0)
    >>> split("tpe", 12, initial=9), split("tpe", 3, initial=5, wanted=2)
    (Split(initial=6, sobol=2, model=4), Split(initial=2, sobol=1, model=0))
    """
    initial = min(initial, max(trials // 2, wanted), trials)
    left = trials - initial
    if sampler == "sobol":
        return Split(initial, left, 0)
    if sampler not in MODELS:
        return Split(initial, 0, left)
    sobol = min(SOBOL_CAP, 1 << ((left // 2).bit_length() - 1)) if left >= 2 else left
    return Split(initial, sobol, left - sobol)


def split_for(sampler: str, trials: int, space: ArmSpace) -> Split:
    """Divide an arm's ``trials`` proposals, by how many of its initial settings lie inside its space."""
    inside = [space.source_of(setting) for setting in space.initial_settings if not space.outside(setting)]
    return split(sampler, trials, len(inside), sum(source in (Source.DEFAULT, Source.CURRENT) for source in inside))


def sobol_point(space: ArmSpace, seed: int, index: int) -> dict[str, Scalar]:
    """Return the coordinates of point ``index`` of the arm's one scrambled Sobol sequence over its open dimensions.

    The sequence depends on the study's ``seed`` and the arm alone.

    Source: Owen 1998, "Scrambling Sobol' and Niederreiter-Xing points", as in ``scipy.stats.qmc.Sobol``.
    """
    dimensions = space.dimensions
    engine = qmc.Sobol(len(dimensions), scramble=True, rng=np.random.default_rng(derive_seed(seed, space.arm, "sobol")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # one point at a time is no power of two
        if index:
            engine.fast_forward(index)
        point = engine.random(1)[0]
    return {d.name: d.at(float(u)) for d, u in zip(dimensions, point, strict=True)}


def random_point(space: ArmSpace, seed: int, index: int) -> dict[str, Scalar]:
    """Return the coordinates of an independent uniform point; a function of the study's seed, the arm and the index."""
    draws = np.random.default_rng(derive_seed(seed, space.arm, "random", index)).random(len(space.dimensions))
    return {d.name: d.at(float(u)) for d, u in zip(space.dimensions, draws, strict=True)}
