"""Search spaces: per arm, the dimensions in the coordinates that are searched, and back to settings.

The coordinates are the ones in which good regions are round and transfer: ``one_minus_momentum`` and
``one_minus_beta1`` on a log scale, ``effective_learning_rate`` = learning_rate / (1 - momentum). A schedule's
have the prefix ``schedule.``, training options ``training.``. How a file is read and what samples is decided elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.catalog import training_options
from tuner.catalog.families import Family
from tuner.catalog.schedules import SCHEDULES, Schedule
from tuner.core.errors import InputError, SpaceError
from tuner.core.records import Setting, Source
from tuner.core.values import Scalar, short

EFFECTIVE = "effective_learning_rate"
ONE_MINUS = "one_minus_"
SCHEDULE, TRAINING = "schedule.", "training."
KIND = "schedule.kind"
_STORED = "recipe."
"""The prefix of training options in Optuna's tables, and in what was stored before they were called so."""
ZERO_SHARE = 1 / 8
"""The share of an ``or_zero`` dimension's axis that stands for exactly 0."""


def to_stored_axis(name: str) -> str:
    """Return a dimension's name as Optuna's tables have it: samplers see dimensions in the order of these names.

    >>> to_stored_axis("training.clip_norm"), to_stored_axis("schedule.kind")
    ('recipe.clip_norm', 'schedule.kind')
    """
    return _STORED + name.removeprefix(TRAINING) if name.startswith(TRAINING) else name


def from_stored_axis(name: str) -> str:
    """Return the name of the dimension that is stored under ``name``.

    >>> from_stored_axis("recipe.clip_norm"), from_stored_axis("training.clip_norm")
    ('training.clip_norm', 'training.clip_norm')
    """
    return TRAINING + name.removeprefix(_STORED) if name.startswith(_STORED) else name


@dataclass(frozen=True, slots=True)
class Dimension:
    """One searched coordinate: a range (``low`` to ``high``), or ``choices`` with the budget that opens each.

    ``or_zero`` puts exact zeros below ``low``: on the log axis, everything in [``floor``, ``low``) means 0.
    ``opens_at`` is the number of trials per arm from which the dimension is searched. ``least`` and ``most``
    are the bounds of what it means, beyond which nothing widens it.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    or_zero: bool = False
    choices: Mapping[Scalar, int] = field(default_factory=dict)
    opens_at: int = 1
    least: float = -math.inf
    most: float = math.inf

    @property
    def floor(self) -> float:
        """Where the axis begins: ``low``, or below it the zone that means zero.

        >>> d = Dimension("l2", 1e-7, 1.0, log=True, or_zero=True)
        >>> f"{d.floor:.0e}", d.value(d.floor), d.value(1e-7)
        ('1e-08', 0.0, 1e-07)
        """
        if not self.or_zero:
            return self.low
        return self.low * math.pow(self.low / self.high, ZERO_SHARE / (1 - ZERO_SHARE))

    def value(self, coordinate: Scalar) -> Scalar:
        """Return what a point of the axis means."""
        if self.choices or not isinstance(coordinate, int | float):
            return coordinate
        return 0.0 if self.or_zero and coordinate < self.low else coordinate

    def coordinate(self, value: Scalar) -> Scalar:
        """Return the point of the axis that means the value; for 0, the middle of the zero zone."""
        if self.or_zero and value == 0:
            return math.sqrt(self.floor * self.low)
        return value

    def contains(self, coordinate: Scalar) -> bool:
        if self.choices:
            return coordinate in self.choices
        return isinstance(coordinate, int | float) and self.floor <= coordinate <= self.high

    def snapped(self, coordinate: Scalar) -> Scalar:
        """Return the end of the axis for what rounding put just beyond it: 1 - 0.9 is a little less than 0.1."""
        if self.choices or self.integer or not isinstance(coordinate, int | float):
            return coordinate
        ends = (end for end in (self.floor, self.low, self.high) if math.isclose(coordinate, end, rel_tol=1e-9))
        return next(ends, coordinate)

    def at(self, u: float) -> Scalar:
        """Return the point of the axis at a share ``u`` of it, from 0 to below 1; quasi-random points come this way."""
        if self.choices:
            names = list(self.choices)
            return names[min(int(u * len(names)), len(names) - 1)]
        if self.integer and self.log:
            return min(int(self.low * math.pow((self.high + 1) / self.low, u)), int(self.high))
        if self.integer:
            return min(int(self.low) + int(u * (self.high - self.low + 1)), int(self.high))
        if self.log:
            return min(self.high, max(self.floor, self.floor * math.pow(self.high / self.floor, u)))
        return self.low + u * (self.high - self.low)

    def share(self, coordinate: Scalar) -> float | None:
        """Return where a coordinate lies on the axis, from 0 to 1; None for choices."""
        if self.choices or not isinstance(coordinate, int | float) or self.high == self.floor:
            return None
        if self.log:
            return math.log(coordinate / self.floor) / math.log(self.high / self.floor)
        return (coordinate - self.floor) / (self.high - self.floor)

    def opened(self, trials: int) -> Dimension | None:
        """Return the dimension as this budget searches it; None if it stays closed."""
        if self.choices:
            names = {name: opens for name, opens in self.choices.items() if opens <= trials}
            return replace(self, choices=names) if len(names) > 1 and self.opens_at <= trials else None
        return self if self.opens_at <= trials else None

    def widened(self, coordinate: Scalar) -> Dimension:
        """Return the dimension, made to contain the coordinate (on a log scale, with a factor 3 to spare)."""
        if self.log and coordinate == 0:
            return replace(self, or_zero=True)
        if self.contains(coordinate):
            return self
        if self.choices:
            return replace(self, choices={**self.choices, coordinate: 1})
        assert isinstance(coordinate, int | float)
        if self.integer:
            return replace(self, low=min(self.low, coordinate), high=max(self.high, coordinate))
        spare = 3.0 if self.log else 1.0
        if coordinate < self.low:
            return replace(self, low=max(self.least, coordinate / spare))
        return replace(self, high=min(self.most, coordinate * spare))

    def __str__(self) -> str:
        if self.choices:
            return " | ".join(map(str, self.choices))
        zero = "0 or " if self.or_zero else ""
        return f"{zero}{self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class ArmSpace:
    """What one arm searches: all its dimensions, those that the budget opens, and what is fixed.

    ``base`` holds the training options on which dimensions act: what the workload takes for granted and what the
    space fixes, also of options that a dimension searches; a closed dimension leaves it as it is. Tried first are
    ``current``, the user's own setting, ``earlier``, the best ones of other studies, and ``published``, those of the
    literature; ``origins`` says by fingerprint where a setting was found.
    """

    arm: str
    family: Family
    all_dimensions: tuple[Dimension, ...]
    trials: int = 10**9
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    base: Mapping[str, Scalar] = field(default_factory=dict)
    published: tuple[Setting, ...] = ()
    current: Setting | None = None
    earlier: tuple[Setting, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def default(self) -> Setting:
        """The family's default with its schedule, under the training options that this arm is based on."""
        given = self._training(self._settled)
        for d in self.dimensions:
            if d.name.startswith(TRAINING):
                key, value = self._training_option(d, {})
                given[key] = value
        plain = self.family.default
        return Setting(
            plain.family, plain.hyperparameters, Schedule.of(plain.schedule).setting, training_options.complete(given)
        )

    @property
    def initial_settings(self) -> tuple[Setting, ...]:
        """The settings to try first, in that order."""
        every = [self.default, *([self.current] if self.current else []), *self.earlier, *self.published]
        return tuple(setting for i, setting in enumerate(every) if setting not in every[:i])

    def source_of(self, setting: Setting) -> Source:
        """Return where an initial setting came from."""
        if setting == self.default:
            return Source.DEFAULT
        if setting == self.current:
            return Source.CURRENT
        return Source.EARLIER if setting in self.earlier else Source.PUBLISHED

    def outside(self, setting: Setting) -> tuple[str, ...]:
        """Say in which open dimensions a setting lies outside the space; empty if it can be tried."""
        reasons = []
        for d in self.dimensions:
            coordinate = d.snapped(d.coordinate(self._meaning(d, setting)))
            if not d.contains(coordinate):
                reasons.append(f"{d.name} is {short(coordinate)}, searched is {d}")
        return tuple(reasons)

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The open dimensions, in the file's order."""
        opened = (d.opened(self.trials) for d in self.all_dimensions)
        return tuple(d for d in opened if d is not None)

    @property
    def closed(self) -> tuple[Dimension, ...]:
        names = {d.name for d in self.dimensions}
        return tuple(d for d in self.all_dimensions if d.name not in names)

    @property
    def _settled(self) -> dict[str, Scalar]:
        """What is fixed, and of choices that stay closed the first one, unless the base says which."""
        closed = (d for d in self.closed if d.choices and d.name.removeprefix(TRAINING) not in self.base)
        return {**self.fixed, **{d.name: next(iter(d.choices)) for d in closed}}

    def dimension(self, name: str) -> Dimension | None:
        return next((d for d in self.dimensions if d.name == name), None)

    def decode(self, coordinates: Mapping[str, Scalar]) -> Setting:
        """Return the complete setting at coordinates of the open dimensions.

        Raises:
            SpaceError: a coordinate is missing or unknown, or the setting breaks a bound of family or schedule.
        """
        wanted = {d.name for d in self.dimensions}
        if wanted != set(coordinates):
            raise SpaceError(f"arm {self.arm!r} has coordinates {sorted(coordinates)}; expected {sorted(wanted)}.")
        values = self._settled | {d.name: d.value(coordinates[d.name]) for d in self.dimensions}
        try:
            return Setting(
                self.family.name, self._hyperparameters(values), self._schedule(values), self._training(values)
            )
        except InputError as error:
            raise SpaceError(f"arm {self.arm!r}: {error}") from None

    def check_corners(self) -> None:
        """Decode the lowest and the highest corner of the open cube.

        Raises:
            SpaceError: one of them is no valid setting.
        """
        for u in (0.0, 1.0 - 1e-12):
            self.decode({d.name: d.at(u) for d in self.dimensions})

    def _hyperparameters(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        given: dict[str, Scalar] = {}
        for name, value in values.items():
            if name.startswith(ONE_MINUS):
                given[name.removeprefix(ONE_MINUS)] = 1.0 - float(value)
            elif name != EFFECTIVE and not name.startswith((SCHEDULE, TRAINING)):
                given[name] = value
        complete = self.family.complete(given)
        if EFFECTIVE in values:
            assert self.family.momentum is not None
            rate = float(values[EFFECTIVE]) * (1.0 - float(complete[self.family.momentum]))
            complete = self.family.complete({**complete, "learning_rate": rate})
        return dict(complete)

    def _schedule(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        given = self._under(SCHEDULE, values)
        kind = str(given.get("kind", self._first_kind()))
        used = set(Schedule.of({"kind": kind}).setting)
        given = {**self.family.default_schedule, **given, "kind": kind}
        return Schedule.of({k: v for k, v in given.items() if k in used}).setting

    def _training(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        given: dict[str, Scalar] = dict(self.base)
        for key, value in self._under(TRAINING, values).items():
            base = key.removeprefix(ONE_MINUS)
            given[base] = value if base == key else 1.0 - float(value)
        return training_options.complete(given)

    @staticmethod
    def _under(prefix: str, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}

    def _first_kind(self) -> str:
        kinds = next((d.choices for d in self.all_dimensions if d.name == KIND), None)
        return str(next(iter(kinds))) if kinds else str(self.family.default_schedule["kind"])

    def encode(self, setting: Setting) -> dict[str, Scalar] | None:
        """Return the coordinates of a setting in the open dimensions; None if it lies outside the space."""
        coordinates = {d.name: d.snapped(d.coordinate(self._meaning(d, setting))) for d in self.dimensions}
        return None if self.outside(setting) else coordinates

    def _meaning(self, dimension: Dimension, setting: Setting) -> Scalar:
        name, hyper = dimension.name, setting.hyperparameters
        if name == EFFECTIVE:
            assert self.family.momentum is not None
            return float(hyper["learning_rate"]) / (1.0 - float(hyper[self.family.momentum]))
        if name.startswith(ONE_MINUS):
            return 1.0 - float(hyper[name.removeprefix(ONE_MINUS)])
        if name.startswith(TRAINING):
            key, value = self._training_option(dimension, setting.training)
            return 1.0 - float(value) if name.startswith(TRAINING + ONE_MINUS) else value
        if not name.startswith(SCHEDULE):
            return hyper[name]
        key = name.removeprefix(SCHEDULE)
        if key in setting.schedule:
            value = setting.schedule[key]
            return int(value) if dimension.integer else value
        middle = dimension.value(dimension.at(0.5))
        default = next((p.default for k in SCHEDULES.values() for p in k.parameters if p.name == key), middle)
        value = int(default) if dimension.integer else default
        return value if dimension.contains(dimension.coordinate(value)) else middle

    def _training_option(self, dimension: Dimension, values: Mapping[str, Scalar]) -> tuple[str, Scalar]:
        """The training option that a dimension sets, and its value; where ``values`` has none, one inside the range."""
        written = dimension.name.removeprefix(TRAINING)
        key = written.removeprefix(ONE_MINUS)
        if key in values:
            return key, values[key]
        for value in (*((self.base[key],) if key in self.base else ()), training_options.option(key).default):
            meant = value if key == written else 1.0 - float(value)
            if dimension.contains(dimension.snapped(dimension.coordinate(meant))):
                return key, value
        middle = dimension.value(dimension.at(0.5))
        return key, middle if key == written else 1.0 - float(middle)

    def including(self, setting: Setting) -> ArmSpace:
        """Return the space with the user's current setting among the first ones; ranges are widened to contain it."""
        wider = []
        for d in self.all_dimensions:
            opened = d.opened(self.trials)
            if opened is None:
                current = setting.schedule["kind"]
                kinds_differ = d.name == KIND and current != self._first_kind()
                wider.append(replace(d, choices={**d.choices, current: 1}, opens_at=1) if kinds_differ else d)
            else:
                coordinate = d.coordinate(self._meaning(d, setting))
                wider.append(d if opened.contains(coordinate) else d.widened(coordinate))
                if d.choices:
                    wider[-1] = replace(d, choices={**d.choices, coordinate: 1})
        return replace(self, all_dimensions=tuple(wider), current=setting)


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """A named set of arms. ``document`` is what it was read from: plain JSON that reads back the same."""

    name: str
    about: str
    arms: tuple[ArmSpace, ...]
    document: Mapping[str, Any]

    def __iter__(self) -> Iterator[ArmSpace]:
        return iter(self.arms)

    def arm(self, name: str) -> ArmSpace:
        return next(space for space in self.arms if space.arm == name)
