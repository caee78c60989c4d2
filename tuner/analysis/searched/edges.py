"""Which settings of the finalists lie at the edge of what was searched; what to do about it is not decided here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    """A finalist's coordinate at the ``side`` end of its range, beyond which better settings may lie."""

    arm: str
    dimension: Dimension
    coordinate: Scalar
    side: str

    @property
    def text(self) -> str:
        d = self.dimension
        return f"{d.name} = {short(self.coordinate)} lies at the {self.side} edge of its range ({d})"


def edges(records: StudyRecords, chosen: Mapping[str, int]) -> tuple[Edge, ...]:
    """Return the edges that the finalists touch, arm by arm; those beyond which nothing lies are none."""
    space = records.spec.space
    return tuple(edge for key in chosen.items() for edge in edges_of(space.arm(key[0]), records.by_key[key]))


def edges_of(space: ArmSpace, trial: TrialRecord) -> list[Edge]:
    """Return the edges that one trial touches."""
    touched = []
    for name, coordinate in trial.coordinates.items():
        dimension = space.dimension(name)
        if dimension is None or dimension.integer or not used(name, trial):
            continue
        if side := side_of(dimension, coordinate):
            touched.append(Edge(space.arm, dimension, coordinate, side))
    return touched


def side_of(dimension: Dimension, coordinate: Scalar) -> str | None:
    """Return the end of the range at which a coordinate lies; None inside, and where the range cannot be widened.

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
