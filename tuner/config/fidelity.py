"""How long the search's runs train: over the full horizon, on a ladder of horizons, or until a pruner stops them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuner.config.documents import Section
from tuner.core.errors import InputError
from tuner.core.records import Horizon

FULL, LADDER, PRUNE = "full", "ladder", "prune"
FIDELITIES = (FULL, LADDER, PRUNE)
PRUNERS = ("median", "asha")
PER_DIMENSION, DESIGN_SHARE = 8, 0.2
"""A space-filling design screens 8 settings a dimension, with at most 20 % of the budget."""
SCREENED = 4
"""If fewer settings a dimension fit into that share, the ladder gets one more rung."""
FEWEST, MOST = 3, 4
LEAST = {"epochs": 1.0, "steps": 50.0}
"""A rung shorter than this is left out: so short a schedule tells nothing of the full one."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How the search trains.

    ``ladder``: ``rungs`` horizons (0: as many as :func:`rungs_for` says), each ``reduction`` times the one below, or
    the ``horizons`` given (the full one left out). ``prune``: full horizons, stopped on the way by ``pruner``.
    """

    kind: str = FULL
    rungs: int = 0
    reduction: int = 3
    horizons: tuple[float, ...] = ()
    pruner: str = PRUNERS[0]

    def ladder(self, full: Horizon) -> tuple[Horizon, ...]:
        """Return the horizons of the rungs, the full one last; whole epochs and whole steps.

        >>> [str(rung) for rung in Fidelity("ladder").ladder(Horizon(18, "epochs"))]
        ['2 epochs', '6 epochs', '18 epochs']
        >>> [str(rung) for rung in Fidelity("ladder").ladder(Horizon(5, "epochs"))]
        ['1 epoch', '2 epochs', '5 epochs']
        """
        if self.kind != LADDER:
            return (full,)
        steps_down = range((self.rungs or FEWEST) - 1, 0, -1)
        given = self.horizons or [round(full.amount / self.reduction**k) for k in steps_down]
        kept = [amount for amount in given if LEAST[full.unit] <= amount < full.amount or amount in self.horizons]
        return (*(Horizon(amount, full.unit) for amount in sorted(set(kept))), full)

    def check(self, full: Horizon) -> None:
        """Refuse rungs that do not fit under the full horizon (once it is known).

        Raises:
            InputError: one is as long or longer, or shorter than a step.
        """
        for amount in self.horizons if full.amount else ():
            if amount >= full.amount or (full.unit == "steps" and (amount < 1 or amount != int(amount))):
                raise InputError(
                    f"fidelity has a rung of {amount:g} {full.unit}, and the full horizon is {full}; expected shorter "
                    "rungs, in whole steps. Change fidelity.horizons."
                )

    def settled(self, dimensions: int, budget: float) -> Fidelity:
        """Return it with its number of rungs fixed, so that a study that is extended keeps its ladder."""
        if self.kind != LADDER or self.rungs or self.horizons:
            return self
        return replace(self, rungs=rungs_for(dimensions, budget, self.reduction))

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "rungs": self.rungs,
            "reduction": self.reduction,
            "horizons": list(self.horizons),
            "pruner": self.pruner,
        }


def rungs_for(dimensions: int, budget: float, reduction: int = 3) -> int:
    """Return how many rungs a search wants: enough to screen four settings a dimension with a fifth of its budget.

    ``budget`` is in full runs. Three at least; four at most, for a still shorter run tells little of a full one.

    >>> rungs_for(1, 6), rungs_for(4, 12), rungs_for(8, 12)
    (3, 3, 4)
    """
    rungs = FEWEST
    while rungs < MOST and SCREENED * dimensions / reduction ** (rungs - 1) > DESIGN_SHARE * budget:
        rungs += 1
    return rungs


def read_fidelity(section: Section, default: str) -> Fidelity:
    """Read the key ``fidelity``: a word, or ``{kind: ladder, rungs: 3, reduction: 3}``.

    Raises:
        InputError: it is neither, or a part does not belong to the kind.
    """
    raw = section.take("fidelity", default)
    if not isinstance(raw, Mapping):
        return Fidelity(section.choice("fidelity", FIDELITIES, default))
    inner = section.section("fidelity")
    kind = inner.choice("kind", FIDELITIES)
    rungs, reduction = inner.integer("rungs", 0, low=0, high=8), inner.integer("reduction", 3, low=2, high=10)
    horizons = inner.take("horizons", [])
    positive = isinstance(horizons, list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and x > 0 for x in horizons
    )
    if not positive or list(horizons) != sorted(set(horizons)):
        raise inner.error(
            "horizons", f"is {horizons!r}", "a list of positive numbers that grow, without the full horizon"
        )
    pruner = inner.choice("pruner", PRUNERS, PRUNERS[0])
    inner.finish()
    return Fidelity(kind, rungs, reduction, tuple(float(x) for x in horizons), pruner)
