"""The importance of the dimensions of one arm, as plain values; :mod:`tuner.search.importance` computes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tuner.core.records import Horizon
from tuner.core.values import Scalar

SHUFFLES = 39
"""How often the scores are shuffled, to see what chance alone reaches."""
CHANCE = 0.1
"""A dimension stands out if at most this share of the shuffles, itself counted as one, reaches its figure."""

Row = tuple[Mapping[str, Scalar], float]
"""Coordinates, and a score of which more is better (-inf: diverged)."""


@dataclass(frozen=True, slots=True)
class Share:
    """One dimension's share of the arm's importances, which add up to 1; ``chance`` is how often luck reaches it."""

    name: str
    share: float
    chance: float

    @property
    def stands_out(self) -> bool:
        return self.chance <= CHANCE


@dataclass(frozen=True, slots=True)
class Importance:
    """The shares of one arm, largest first, from ``n`` trials; ``reason`` says why there are none.

    ``horizon`` is how long those trials trained, where that is not the full horizon.
    """

    arm: str
    n: int
    shares: tuple[Share, ...] = ()
    reason: str = ""
    horizon: Horizon | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"horizon": "" if self.horizon is None else str(self.horizon)}
