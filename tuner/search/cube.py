"""An arm's space as a unit cube for the surrogate, and candidates in it; what they are worth is said elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tuner.config.space import KIND, SCHEDULE, ZERO_SHARE, ArmSpace
from tuner.core.records import Setting, TrialRecord
from tuner.core.values import Scalar
from tuner.search.surrogate import Array, Index

UNIFORM, AROUND, NEAR, CROSSED = 200, 80, 60, 80
"""How many candidates are drawn anywhere, around the best point so far, near it, and crossed with it."""
WIDE, NARROW, MUTATED = 0.15, 0.04, 0.3
"""The standard deviations of those around and near, and the share of coordinates that a crossed one draws anew."""
UNUSED = 0.5
"""The coordinate of a schedule's parameter that the schedule's kind does not have."""


class Cube:
    """Maps coordinates of the open dimensions to [0, 1] and back.

    Words become the middles of equal intervals. The zone that means zero is one point, and so is a parameter that the
    schedule's kind does not have, since there is nothing to learn from it.

    Args:
        space: the arm's.
        catalogue: restricts the space to the settings of these trials, such as those of a recorded table; every
            candidate becomes the nearest of them.
    """

    def __init__(self, space: ArmSpace, catalogue: Sequence[TrialRecord] = ()) -> None:
        self.space = space
        self._dimensions = space.dimensions  # once: the space looks for them each time
        self.labels: Index = np.array([i for i, d in enumerate(self._dimensions) if d.choices], dtype=np.intp)
        self._used: dict[Scalar | None, frozenset[str]] = {}
        self._catalogue = list(catalogue)
        self._places = np.array([self.point(one.coordinates) for one in self._catalogue])

    def point(self, coordinates: Mapping[str, Scalar]) -> tuple[float, ...]:
        """Return where coordinates lie in the cube, one number a dimension."""
        place = []
        for d in self._dimensions:
            value = coordinates[d.name]
            if d.name.startswith(SCHEDULE) and d.name != KIND and not self._uses(coordinates, d.name):
                place.append(UNUSED)
            elif d.choices:
                place.append((list(d.choices).index(value) + 0.5) / len(d.choices))
            else:
                share = d.share(value)
                assert share is not None
                place.append(ZERO_SHARE / 2 if d.or_zero and d.value(value) == 0 else min(max(share, 0.0), 1.0))
        return tuple(place)

    def _uses(self, coordinates: Mapping[str, Scalar], name: str) -> bool:
        """Whether the schedule's kind has this parameter."""
        kind = coordinates.get(KIND)
        if kind not in self._used:
            self._used[kind] = frozenset(self.space.decode(coordinates).schedule)
        return name.removeprefix(SCHEDULE) in self._used[kind]

    def coordinates(self, point: Sequence[float]) -> dict[str, Scalar]:
        """Return the coordinates of a point; with a catalogue, those of its trial that is nearest to the point."""
        if self._catalogue:
            return dict(self._catalogue[self._index(point)].coordinates)
        return {d.name: d.at(min(u, 1.0 - 1e-12)) for d, u in zip(self._dimensions, point, strict=True)}

    def nearest(self, coordinates: Mapping[str, Scalar]) -> int:
        """Return the place in the catalogue of the trial that is nearest to coordinates."""
        return self._index(self.point(coordinates))

    def _index(self, point: Sequence[float]) -> int:
        return int(self._nearest(np.array([point]))[0])

    def setting(self, coordinates: Mapping[str, Scalar]) -> Setting:
        """Return the setting that coordinates stand for; with a catalogue, that of the nearest trial."""
        if self._catalogue:
            return self._catalogue[self.nearest(coordinates)].setting
        return self.space.decode(coordinates)

    def snapped(self, coordinates: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Return the coordinates of the nearest trial in the catalogue; without one, the same coordinates."""
        return self.coordinates(self.point(coordinates)) if self._catalogue else dict(coordinates)

    def _nearest(self, points: Array) -> Index:
        gaps = points[:, None, :] - self._places[None]
        gaps[..., self.labels] = np.abs(gaps[..., self.labels]) > 1e-9
        return np.asarray((gaps * gaps).sum(axis=-1).argmin(axis=1), dtype=np.intp)

    def candidates(self, best: Sequence[float] | None, taken: Sequence[Sequence[float]], seed: int) -> Array:
        """Return new points, drawn everywhere and around the best one so far.

        Args:
            best: the point of the best run so far; None before there is one.
            taken: the points that have been tried; none of them is drawn again.
            seed: of the draw.

        Returns:
            n points by dimensions; with a catalogue, n may be 0.
        """
        rng, size = np.random.default_rng(seed), len(self._dimensions)
        parts = [rng.random((UNIFORM, size))]
        if best is not None:
            centre = np.asarray(best)
            parts += [centre + rng.normal(0.0, width, (n, size)) for n, width in ((AROUND, WIDE), (NEAR, NARROW))]
            if size > 2:
                parts.append(np.where(rng.random((CROSSED, size)) < MUTATED, rng.random((CROSSED, size)), centre))
        drawn = np.clip(np.vstack(parts), 0.0, 1.0)
        if self._catalogue:
            points = self._places[np.unique(self._nearest(drawn))]
        else:
            points = np.array([self.point(self.coordinates(row.tolist())) for row in drawn])
        old = {tuple(np.round(point, 9)) for point in taken}
        fresh = [row for row in points if tuple(np.round(row, 9)) not in old]
        return np.array(fresh).reshape(-1, size)
