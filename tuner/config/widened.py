"""Ranges that a search widened because its best trial lay at their edge: plain data, which the ledger keeps.

When that happens, and by how much, is decided in :mod:`tuner.analysis.widening`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner.config.documents import Section
from tuner.config.space import ArmSpace, Dimension, SearchSpace

LOWER, UPPER = "lower", "upper"
SIDES = (LOWER, UPPER)


@dataclass(frozen=True, slots=True)
class Moved:
    """One end of one arm's range, moved outwards from ``old`` to ``new``."""

    arm: str
    dimension: str
    side: str
    old: float
    new: float

    def applied(self, dimension: Dimension) -> Dimension:
        return replace(dimension, low=self.new) if self.side == LOWER else replace(dimension, high=self.new)

    def to_json(self) -> dict[str, Any]:
        return {"arm": self.arm, "dimension": self.dimension, "side": self.side, "old": self.old, "new": self.new}


@dataclass(frozen=True, slots=True)
class Widening:
    """What one end of the search widened.

    ``trials`` is the budget that every arm got on top, in full runs; ``proposed`` is how many settings each arm had
    proposed by then.
    """

    trials: int
    proposed: Mapping[str, int]
    moved: tuple[Moved, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that :func:`read_widened` reads back."""
        moved = [one.to_json() for one in self.moved]
        return {"trials": self.trials, "proposed": dict(self.proposed), "moved": moved}


def read_widen(section: Section, trials: int | None, sampler: str) -> bool:
    """Read the key ``widen`` of a study with so many trials per arm (None: hours alone limit it).

    Raises:
        InputError: it is neither true nor false, or true where the search cannot go on in wider ranges.
    """
    wanted: bool = section.flag("widen", False)
    if wanted and trials is None:
        todo = "Hours may be used up by then; of trials, every arm gets a quarter more."
        raise section.error("widen", "is true, but the budget has no trials", "budget: {trials_per_arm: N}", todo)
    if wanted and sampler == "cmaes":
        problem = "is true with sampler: cmaes, which keeps the ranges that it began with"
        raise section.error("widen", problem, "another sampler", "Remove one of the two.")
    return wanted


def read_widened(section: Section) -> tuple[Widening, ...]:
    """Read the key ``widened`` of a study that the ledger keeps.

    Raises:
        InputError: an entry is no widening.
    """
    return tuple(_read(entry) for entry in _entries(section, "widened"))


def _entries(section: Section, key: str) -> list[Section]:
    raw = section.take(key, [])
    if not isinstance(raw, list) or not all(isinstance(entry, Mapping) for entry in raw):
        raise section.error(
            key, f"is {raw!r}", "a list, as the database keeps it", "Leave it out: the search writes it."
        )
    return [section.item(key, i) for i in range(len(raw))]


def _read(entry: Section) -> Widening:
    counts = entry.section("proposed")
    proposed = {arm: counts.integer(arm, low=0) for arm in counts.names()}
    widening = Widening(
        entry.integer("trials", low=1), proposed, tuple(_moved(one) for one in _entries(entry, "moved"))
    )
    entry.finish()
    return widening


def _moved(entry: Section) -> Moved:
    moved = Moved(
        entry.text("arm"),
        entry.text("dimension"),
        entry.choice("side", SIDES),
        entry.number("old"),
        entry.number("new"),
    )
    entry.finish()
    return moved


def with_widened(space: SearchSpace, widenings: Sequence[Widening]) -> SearchSpace:
    """Return the space with the ends of its ranges where the search moved them."""
    moved = [one for widening in widenings for one in widening.moved]
    return replace(space, arms=tuple(_arm(arm, [one for one in moved if one.arm == arm.arm]) for arm in space.arms))


def _arm(arm: ArmSpace, moved: Sequence[Moved]) -> ArmSpace:
    ranges = {d.name: d for d in arm.all_dimensions}
    for one in moved:
        ranges[one.dimension] = one.applied(ranges[one.dimension])
    return replace(arm, all_dimensions=tuple(ranges.values())) if moved else arm
