"""Search spaces: per arm, the dimensions in the coordinates that are searched, and back to settings.

The coordinates are the ones in which good regions are round and transfer: ``one_minus_momentum`` and
``one_minus_beta1`` on a log scale, ``effective_learning_rate`` = learning_rate / (1 - momentum). No sampler
is known here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.documents import Section
from tuner.errors import InputError, SpaceError
from tuner.families import FAMILIES, Family
from tuner.records import Scalar, Setting
from tuner.schedules import SCHEDULES, WARMUP, Parameter, Schedule

EFFECTIVE = "effective_learning_rate"
ONE_MINUS = "one_minus_"
KIND = "schedule.kind"
ZERO_SHARE = 1 / 8
"""The share of an ``or_zero`` dimension's axis that stands for exactly 0."""
_ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


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
    choices: Mapping[str, int] = field(default_factory=dict)
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
        """From the axis to what it means."""
        if self.choices or not isinstance(coordinate, int | float):
            return coordinate
        return 0.0 if self.or_zero and coordinate < self.low else coordinate

    def coordinate(self, value: Scalar) -> Scalar:
        """From a meaning back to the axis; the middle of the zero zone for 0."""
        if self.or_zero and value == 0:
            return math.sqrt(self.floor * self.low)
        return value

    def contains(self, coordinate: Scalar) -> bool:
        if self.choices:
            return coordinate in self.choices
        return isinstance(coordinate, int | float) and self.floor <= coordinate <= self.high

    def at(self, u: float) -> Scalar:
        """From [0, 1) to the axis: what a quasi-random point means here."""
        if self.choices:
            names = list(self.choices)
            return names[min(int(u * len(names)), len(names) - 1)]
        if self.integer:
            return min(int(self.low) + int(u * (self.high - self.low + 1)), int(self.high))
        if self.log:
            return min(self.high, max(self.floor, self.floor * math.pow(self.high / self.floor, u)))
        return self.low + u * (self.high - self.low)

    def share(self, coordinate: Scalar) -> float | None:
        """Where a coordinate lies on the axis, from 0 to 1; None for choices."""
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
            return replace(self, choices={**self.choices, str(coordinate): 1})
        assert isinstance(coordinate, int | float)
        if self.integer:
            return replace(self, low=min(self.low, coordinate), high=max(self.high, coordinate))
        spare = 3.0 if self.log else 1.0
        if coordinate < self.low:
            return replace(self, low=max(self.least, coordinate / spare))
        return replace(self, high=min(self.most, coordinate * spare))

    def __str__(self) -> str:
        if self.choices:
            return " | ".join(self.choices)
        zero = "0 or " if self.or_zero else ""
        return f"{zero}{self.low:g} to {self.high:g}{', log' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class ArmSpace:
    """What one arm searches: all its dimensions, those that the budget opens, and what is fixed."""

    arm: str
    family: Family
    all_dimensions: tuple[Dimension, ...]
    trials: int = 10**9
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    known: tuple[Setting, ...] = ()

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The open dimensions, in the file's order."""
        opened = (d.opened(self.trials) for d in self.all_dimensions)
        return tuple(d for d in opened if d is not None)

    @property
    def closed(self) -> tuple[Dimension, ...]:
        names = {d.name for d in self.dimensions}
        return tuple(d for d in self.all_dimensions if d.name not in names)

    def dimension(self, name: str) -> Dimension | None:
        return next((d for d in self.dimensions if d.name == name), None)

    def decode(self, coordinates: Mapping[str, Scalar]) -> Setting:
        """From coordinates of the open dimensions to a complete setting.

        Raises:
            SpaceError: a coordinate is missing or unknown, or the setting breaks a bound of family or schedule.
        """
        wanted = {d.name for d in self.dimensions}
        if wanted != set(coordinates):
            raise SpaceError(f"arm {self.arm!r} has coordinates {sorted(coordinates)}; expected {sorted(wanted)}.")
        values = {d.name: d.value(coordinates[d.name]) for d in self.dimensions}
        try:
            return Setting(self.family.name, self._hyperparameters(values), self._schedule(values))
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
        given = {k: v for k, v in self.fixed.items() if not k.startswith("schedule.")}
        for name, value in values.items():
            if name.startswith(ONE_MINUS):
                given[name.removeprefix(ONE_MINUS)] = 1.0 - float(value)
            elif name != EFFECTIVE and not name.startswith("schedule."):
                given[name] = value
        complete = self.family.complete(given)
        if EFFECTIVE in values:
            assert self.family.momentum is not None
            rate = float(values[EFFECTIVE]) * (1.0 - float(complete[self.family.momentum]))
            complete = self.family.complete({**complete, "learning_rate": rate})
        return dict(complete)

    def _schedule(self, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        given = {k.removeprefix("schedule."): v for k, v in self.fixed.items() if k.startswith("schedule.")}
        given |= {k.removeprefix("schedule."): v for k, v in values.items() if k.startswith("schedule.")}
        kind = str(given.get("kind", self._first_kind()))
        used = {p.name for p in SCHEDULES[kind].parameters} | {WARMUP.name}
        schedule = Schedule.of({"kind": kind, **{k: v for k, v in given.items() if k in used}})
        return {"kind": kind, **schedule.parameters, WARMUP.name: schedule.warmup}

    def _first_kind(self) -> str:
        kinds = next((d.choices for d in self.all_dimensions if d.name == KIND), None)
        return next(iter(kinds)) if kinds else str(self.family.default_schedule["kind"])

    def encode(self, setting: Setting) -> dict[str, Scalar] | None:
        """From a setting to coordinates of the open dimensions; None where one lies outside the space."""
        coordinates = {d.name: d.coordinate(self._meaning(d, setting)) for d in self.dimensions}
        inside = all(d.contains(coordinates[d.name]) for d in self.dimensions)
        return coordinates if inside else None

    def _meaning(self, dimension: Dimension, setting: Setting) -> Scalar:
        name, hyper = dimension.name, setting.hyperparameters
        if name == EFFECTIVE:
            assert self.family.momentum is not None
            return float(hyper["learning_rate"]) / (1.0 - float(hyper[self.family.momentum]))
        if name.startswith(ONE_MINUS):
            return 1.0 - float(hyper[name.removeprefix(ONE_MINUS)])
        if not name.startswith("schedule."):
            return hyper[name]
        key = name.removeprefix("schedule.")
        if key in setting.schedule:
            value = setting.schedule[key]
            return int(value) if dimension.integer else value
        middle = dimension.value(dimension.at(0.5))
        default = next((p.default for k in SCHEDULES.values() for p in k.parameters if p.name == key), middle)
        value = int(default) if dimension.integer else default
        return value if dimension.contains(dimension.coordinate(value)) else middle

    def including(self, setting: Setting) -> ArmSpace:
        """Return the space, widened where needed to contain the user's current setting, which becomes known."""
        wider = []
        for d in self.all_dimensions:
            opened = d.opened(self.trials)
            if opened is None:
                current = str(setting.schedule["kind"])
                kinds_differ = d.name == KIND and current != self._first_kind()
                wider.append(replace(d, choices={**d.choices, current: 1}, opens_at=1) if kinds_differ else d)
            else:
                coordinate = d.coordinate(self._meaning(d, setting))
                wider.append(d if opened.contains(coordinate) else d.widened(coordinate))
                if d.choices:
                    wider[-1] = replace(d, choices={**d.choices, str(coordinate): 1})
        return replace(self, all_dimensions=tuple(wider), known=(*self.known, setting))


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


def read_space(section: Section, only: list[str] | None = None) -> SearchSpace:
    """Read a space: ``name``, ``about``, ``schedule`` (shared dimensions) and ``arms``.

    Raises:
        SpaceError: with file, line, key, what was found, what was expected.
    """
    try:
        name = section.text("name")
        about = section.text("about", "")
        shared = _dimensions(section.section("schedule", {}), "schedule.", None)
        table = section.section("arms")
        if not table.data:
            raise section.error("arms", "is empty", "at least one arm", f"Families: {', '.join(FAMILIES)}.")
        arms = tuple(_arm(table, arm, shared) for arm in table.names())
        section.finish()
    except InputError as error:
        raise SpaceError(str(error)) from None
    if only is not None:
        arms = tuple(arm for arm in arms if arm.arm in only)
    return SearchSpace(name, about, arms, dict(section.data))


def _arm(table: Section, name: str, shared: tuple[tuple[Dimension, ...], dict[str, Scalar]]) -> ArmSpace:
    section = table.section(name, {})
    if not _ARM.fullmatch(name) or name == "current":
        expected = "letters, digits, '.', '_', '-' (40 at most), and not 'current'"
        raise table.error(name, "cannot name an arm", expected)
    family_name = section.choice("family", list(FAMILIES), None) or name
    if family_name not in FAMILIES:
        raise table.error(name, "is not an optimizer family", f"one of {', '.join(FAMILIES)}", "Or add 'family: ...'.")
    family = FAMILIES[family_name]
    own = _dimensions(section.section("schedule", {}), "schedule.", None)
    dimensions, fixed = _dimensions(section, "", family)
    names = {d.name for d in own[0]} | set(own[1])
    schedule = tuple(d for d in shared[0] if d.name not in names) + own[0]
    fixed |= {k: v for k, v in shared[1].items() if k not in names} | own[1]
    space = ArmSpace(name, family, (*dimensions, *schedule), fixed=fixed, known=(family.default,))
    searched = {d.name.removeprefix(ONE_MINUS) for d in dimensions} | {k for k in fixed if "." not in k}
    if EFFECTIVE in searched and "learning_rate" in searched:
        raise section.error("learning_rate", f"stands beside {EFFECTIVE}", "one of the two", "Remove one.")
    if not dimensions:
        raise table.error(name, "searches nothing", "at least the learning rate")
    _corners(table, name, space)
    return space


def _corners(table: Section, name: str, space: ArmSpace) -> None:
    """Refuse a space in which a corner of the cube is no valid setting."""
    table.guard(name, space.check_corners)
    for a, b in (("schedule.warmup", "schedule.decay_fraction"),):
        first, second = space.dimension(a), space.dimension(b)
        if first and second and first.high + second.high > 1.0:
            raise table.error(
                name,
                f"allows a warm-up of {first.high:g} and a decay of {second.high:g} of the horizon",
                "at most 1 together",
                "Lower one of the two 'high'.",
            )


def _dimensions(
    section: Section, prefix: str, family: Family | None
) -> tuple[tuple[Dimension, ...], dict[str, Scalar]]:
    dimensions: list[Dimension] = []
    fixed: dict[str, Scalar] = {}
    for key in section.names():
        if family is not None and key in ("family", "schedule"):
            continue
        low, high, integer = _known(section, key, family)
        value = section.take(key)
        if isinstance(value, Mapping):
            dimensions.append(_dimension(section.section(key), prefix + key, low, high, integer))
        elif key == "kind":
            fixed[prefix + key] = section.choice(key, list(SCHEDULES))
        else:
            fixed[prefix + key] = section.number(key, low=low, high=high)
    section.finish()
    return tuple(dimensions), fixed


def _known(section: Section, key: str, family: Family | None) -> tuple[float, float, bool]:
    """The bounds that a coordinate of this name may have."""
    if family is None:
        parameters: dict[str, Parameter] = {p.name: p for k in SCHEDULES.values() for p in k.parameters}
        parameters[WARMUP.name] = WARMUP
        if key == "kind":
            return 0.0, 0.0, False
        if key not in parameters:
            names = ", ".join(["kind", *parameters])
            raise section.error(key, "is not a parameter of a schedule", f"one of {names}")
        p = parameters[key]
        return p.low, p.high, p.integer
    rows = {row.name: row for row in family.hyperparameters}
    if key in rows:
        return rows[key].low, rows[key].high, False
    if key == EFFECTIVE and family.momentum == "momentum":
        return 0.0, 1e6, False
    base = key.removeprefix(ONE_MINUS)
    if key != base and base in rows and rows[base].high < 1:
        return 1.0 - rows[base].high, 1.0, False
    extra = [EFFECTIVE] if family.momentum == "momentum" else []
    extra += [ONE_MINUS + row.name for row in family.hyperparameters if row.high < 1]
    raise section.error(key, f"is not a hyperparameter of {family.name}", f"one of {', '.join([*rows, *extra])}")


def _dimension(section: Section, name: str, low: float, high: float, integer: bool) -> Dimension:
    opens_at = section.integer("opens_at", 1, low=1)
    if name == KIND:
        choices = _kinds(section)
        section.finish()
        return Dimension(name, choices=choices, opens_at=opens_at)
    number = section.integer if integer else section.number
    first = number("low", low=low, high=high)
    last = number("high", low=low, high=high)
    if not first < last:
        raise section.error("low", f"is {first:g} but high is {last:g}", "low below high", "Swap them or widen.")
    log = section.choice("scale", ["linear", "log"], "linear") == "log"
    or_zero = section.flag("or_zero", False)
    if log and first <= 0:
        raise section.error("low", f"is {first:g} on a log scale", "a number above 0", "Use or_zero for exact zeros.")
    if or_zero and not log:
        raise section.error("or_zero", "is true on a linear scale", "scale: log", "Let low be 0 instead.")
    section.finish()
    found = Dimension(name, first, last, log, integer, or_zero, opens_at=opens_at, least=low, most=high)
    if log and found.floor <= 0:
        raise section.error("low", f"is {first:g} with or_zero", "more room to 0", "Take a larger 'low'.")
    return found


def _kinds(section: Section) -> dict[str, int]:
    raw = section.take("choices")
    if isinstance(raw, list):
        raw = dict.fromkeys((str(item) for item in raw), 1)
        table = Section(
            raw, section.source, (*section.path, "choices"), {section.path: section.place("choices").line or 0}
        )
    else:
        table = section.section("choices")
    for key in table.names():
        if key not in SCHEDULES:
            raise section.error("choices", f"names {key!r}", f"schedules out of {', '.join(SCHEDULES)}")
    if not table.data:
        raise section.error("choices", "is empty", f"some of {', '.join(SCHEDULES)}")
    return {key: table.integer(key, low=1) for key in table.names()}
