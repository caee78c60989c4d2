"""The hyperparameters that families share, with their published search ranges; no family is written here.

The ranges come from Choi et al. 2019 (arXiv 1910.05446), AlgoPerf's tuning_search_space.json files, Schmidt et al. 2021
(arXiv 2007.01547) and TaskSet (arXiv 2002.11887); the order in which they open from the Tuning Playbook.
"""

from __future__ import annotations

from tuner.catalog.families.row import Hyperparameter, Search

MOMENTUM_AT, EPS_AT, BETA2_AT = 10, 25, 60
"""The numbers of trials per arm from which more than the learning rate is searched."""


def learning_rate(default: float, low: float = 1e-5, high: float = 3e-2, coordinate: str = "") -> Hyperparameter:
    meaning = "peak learning rate, before the schedule's factor"
    return Hyperparameter("learning_rate", default, 0.0, 1e4, meaning, Search(low, high, coordinate=coordinate))


def heavy_ball(default: float = 0.1) -> tuple[Hyperparameter, Hyperparameter]:
    """Return learning rate and momentum, searched by learning_rate / (1 - momentum) and 1 - momentum."""
    return learning_rate(default, 0.01, 100.0, "effective_learning_rate"), momentum()


def momentum(default: float = 0.9, low: float = 5e-3, high: float = 0.5) -> Hyperparameter:
    search = Search(low, high, opens_at=MOMENTUM_AT, coordinate="one_minus_momentum")
    return Hyperparameter("momentum", default, 0.0, 0.99999, "share of the last update that is kept", search)


def decaying(
    name: str, default: float, low: float, high: float, opens_at: int, meaning: str, least: float = 0.0
) -> Hyperparameter:
    """Return the decay rate of an average; 1 minus it is searched on a log axis from ``low`` to ``high``."""
    search = Search(low, high, opens_at=opens_at, coordinate=f"one_minus_{name}")
    return Hyperparameter(name, default, least, 0.9999999, meaning, search)


def beta1(default: float = 0.9, low: float = 4e-3, high: float = 0.5, least: float = 0.0) -> Hyperparameter:
    return decaying("beta1", default, low, high, MOMENTUM_AT, "decay of the average of gradients", least)


def beta2(default: float = 0.999, low: float = 1e-4, high: float = 0.4) -> Hyperparameter:
    return decaying("beta2", default, low, high, BETA2_AT, "decay of the average of squared gradients")


def eps(default: float = 1e-8, low: float = 1e-10, high: float = 1e-3, meaning: str = "") -> Hyperparameter:
    meaning = meaning or "added to the root of the second moment"
    return Hyperparameter("eps", default, 1e-30, 1e10, meaning, Search(low, high, opens_at=EPS_AT))


def l2(default: float = 0.0, opens_at: int | None = MOMENTUM_AT) -> Hyperparameter:
    search = None if opens_at is None else Search(1e-7, 1e-2, or_zero=True, opens_at=opens_at)
    return Hyperparameter("l2", default, 0.0, 10.0, "L2 penalty, added to the gradient (not decoupled)", search)


def weight_decay(
    default: float = 0.0, low: float = 1e-4, high: float = 1.0, opens_at: int = MOMENTUM_AT, how: str = ""
) -> Hyperparameter:
    meaning = how or "decoupled weight decay, multiplied by the learning rate"
    search = Search(low, high, or_zero=True, opens_at=opens_at)
    return Hyperparameter("weight_decay", default, 0.0, 100.0, meaning, search)


def exposed(name: str, default: float, low: float, high: float, meaning: str, integer: bool = False) -> Hyperparameter:
    """Return a hyperparameter that can be set and is not searched."""
    return Hyperparameter(name, default, low, high, meaning, None, integer)


DAMPENING = exposed("dampening", 0.0, 0.0, 0.99999, "share of a gradient that does not enter the momentum")
LATE_DECAY = weight_decay(opens_at=BETA2_AT)
"""Decoupled decay of families that were published with L2."""
PLAIN_L2 = l2(opens_at=None)
"""L2 of families that were published with decoupled decay: no range is published, so it is not searched."""
