"""Which coordinates of the finalists lie at an edge of their ranges; what to do about it is decided elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner.analysis.searched.points import used
from tuner.config.space import ArmSpace, Dimension
from tuner.config.widened import LOWER, UPPER
from tuner.core.records import TrialRecord
from tuner.core.values import Scalar, short
from tuner.study_records import StudyRecords

EDGE = 0.1
"""A coordinate in the first or last tenth of its axis lies at the edge."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A trial's coordinate at the ``side`` end (lower or upper) of its range; better settings may lie beyond it."""

    arm: str
    dimension: Dimension
    coordinate: Scalar
    side: str

    @property
    def text(self) -> str:
        d = self.dimension
        return f"{d.name} = {short(self.coordinate)} lies at the {self.side} edge of its range ({d})"

    def to_json(self) -> dict[str, Any]:
        d = self.dimension
        return {"arm": self.arm, "name": d.name, "value": self.coordinate, "side": self.side, "range": str(d)}


def edges(records: StudyRecords, chosen: Mapping[str, int]) -> tuple[Edge, ...]:
    """Return the edges that the chosen trials touch, arm by arm; ``chosen`` maps an arm to the index of its trial."""
    space = records.spec.space
    return tuple(edge for arm, trial in chosen.items() for edge in edges_of(space.arm(arm), records.by_key[arm, trial]))


def edges_of(space: ArmSpace, trial: TrialRecord) -> list[Edge]:
    """Return the edges that one trial touches; none of whole numbers and of axes that its training does not use."""
    touched = []
    for name, coordinate in trial.coordinates.items():
        dimension = space.dimension(name)
        if dimension is None or dimension.integer or not used(name, trial):
            continue
        if side := side_of(dimension, coordinate):
            touched.append(Edge(space.arm, dimension, coordinate, side))
    return touched


def side_of(dimension: Dimension, coordinate: Scalar) -> str | None:
    """Return the end of the range at which a coordinate lies; None inside, and where nothing valid lies beyond it.

    >>> rate = Dimension("learning_rate", 1e-4, 1.0, log=True)
    >>> [side_of(rate, value) for value in (2e-4, 1e-2, 0.9)]
    ['lower', None, 'upper']
    """
    share = dimension.share(coordinate)
    if share is None or (EDGE < share < 1.0 - EDGE) or (dimension.or_zero and share <= 0.5):
        return None
    if share <= EDGE:
        return None if dimension.low <= dimension.least else LOWER
    return None if dimension.high >= dimension.most else UPPER
