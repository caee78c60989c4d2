"""Which arm may spend next, and up to what: equal budgets, or a floor for each and then a bandit. Pure functions.

*compare* serves the arm that has spent least, each up to the same budget. *optimise* gives every arm half of that
budget, then moves the rest, one full run's worth at a time, to the arm with the best prospects of a new best value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuner.config.spec import COMPARE

FLOOR_SHARE = 0.5
"""The share of its budget that *optimise* gives an arm whatever it shows."""
ALPHA = 0.5
"""How much it counts in MaxUCB that an arm was pulled a few times only."""
SMALL = 1e-9


@dataclass(frozen=True, slots=True)
class Offer:
    """An arm that may spend up to ``budget`` full runs in all, with what it has spent."""

    arm: str
    budget: float


def offers(kind: str, budget: float, spent: Mapping[str, float], rewards: Mapping[str, Sequence[float]]) -> list[Offer]:
    """Return the arms that may train next, the first to be asked first; one that has no use for its offer is skipped.

    Args:
        kind: ``compare`` or ``optimise``.
        budget: what each arm gets on average, in full runs.
        spent: arm -> what it has used, in full runs, with its runs in training.
        rewards: arm -> the scores of its full runs (more is better; NaN in training, -inf diverged).
    """
    if kind == COMPARE:
        return [Offer(arm, budget) for arm in sorted(spent, key=lambda arm: spent[arm])]
    return list(_optimise(budget, spent, rewards))


def _optimise(budget: float, spent: Mapping[str, float], rewards: Mapping[str, Sequence[float]]) -> Iterator[Offer]:
    floor, total = floor_of(budget), budget * len(spent)
    left = total - sum(spent.values())
    granted = {arm: max(floor, math.ceil(used - SMALL)) for arm, used in spent.items()}
    for arm in sorted(spent, key=lambda arm: spent[arm]):
        if spent[arm] < granted[arm] - SMALL:
            yield Offer(arm, min(granted[arm], spent[arm] + left))
    upper = max_ucb({arm: rewards.get(arm, ()) for arm in spent}, spent)
    for arm in sorted(spent, key=lambda arm: -upper[arm]):
        yield Offer(arm, min(granted[arm] + 1.0, spent[arm] + left))


def floor_of(budget: float) -> float:
    """Return how many full runs every arm gets, whatever it shows, of an average ``budget``.

    >>> floor_of(12), floor_of(3)
    (6.0, 2.0)
    """
    return float(math.ceil(FLOOR_SHARE * budget))


def max_ucb(rewards: Mapping[str, Sequence[float]], pulls: Mapping[str, float]) -> dict[str, float]:
    """Return each arm's index: its best reward so far + (ALPHA ln t / n)^2, for n of the t pulls of all arms.

    Rewards are scaled to [0.01, 0.99] over all arms; those that are not finite are left out.

    Source: MaxUCB, Balef, Vernade & Eggensperger 2025, arXiv 2505.05226.

    >>> index = max_ucb({"a": [0.5, 0.9], "b": [0.1, 0.2]}, {"a": 2, "b": 2})
    >>> index["a"] > index["b"]
    True
    """
    finite = [reward for row in rewards.values() for reward in row if math.isfinite(reward)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    width = (high - low) or 1.0
    time = max(sum(pulls.values()), 1.0)
    index = {}
    for arm, row in rewards.items():
        best = max((reward for reward in row if math.isfinite(reward)), default=low)
        scaled = 0.01 + 0.98 * (best - low) / width
        index[arm] = scaled + (ALPHA * math.log(time) / max(pulls[arm], 1.0)) ** 2
    return index
