"""What a coordinate of a given name may be: a number between bounds, or one of some words; no file is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.catalog import training_options
from tuner.catalog.families import Family
from tuner.catalog.schedules import SCHEDULES, SIGNALS, WARMUP, WARMUP_SHAPES, Parameter
from tuner.catalog.training_options import FREEZE, MULTIPLIER, NO_DECAY
from tuner.config.space import EFFECTIVE, ONE_MINUS, SCHEDULE, TRAINING

YES_NO = ("no", "yes")
PATTERNS = {"multipliers": MULTIPLIER, "freeze": FREEZE, "no_decay_patterns": NO_DECAY}
"""Sections of training options whose keys are patterns on parameter names: what each pattern's option begins with."""
_WORDS: Mapping[str, tuple[str, ...]] = {
    "kind": tuple(SCHEDULES),
    "warmup_shape": tuple(WARMUP_SHAPES),
    "signal": SIGNALS,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a coordinate may be: a number from ``low`` to ``high``, whole where ``integer``, or one of ``words``."""

    low: float = 0.0
    high: float = 0.0
    integer: bool = False
    words: tuple[str, ...] = ()

    @property
    def turned(self) -> Bounds | None:
        """The bounds of one minus the value, or None where one minus the value may be 0 or less."""
        return Bounds(1.0 - self.high, 1.0 - self.low) if not self.words and self.high < 1 else None


def bounds_of(name: str, row: Family | None = None) -> Bounds | None:
    """Return what a coordinate may be, or None if there is no such coordinate.

    Args:
        name: of a schedule's parameter or a training option, with its prefix; of a hyperparameter, as it is.
        row: the family whose hyperparameter it is.

    >>> bounds_of("schedule.warmup_shape").words, bounds_of("training.one_minus_ema_decay").low < 1e-6
    (('linear', 'cosine', 'exponential'), True)
    """
    if name.startswith(SCHEDULE):
        return _of_schedule(name.removeprefix(SCHEDULE))
    if name.startswith(TRAINING):
        return _of_training(name.removeprefix(TRAINING))
    return None if row is None else _of_family(name, row)


def _of_schedule(key: str) -> Bounds | None:
    if key in _WORDS:
        return Bounds(words=_WORDS[key])
    parameter = _parameters().get(key)
    return None if parameter is None else Bounds(parameter.low, parameter.high, parameter.integer)


def _of_training(key: str) -> Bounds | None:
    base = key.removeprefix(ONE_MINUS)
    if not training_options.is_option(base):
        return None
    row = training_options.option(base)
    plain = Bounds(row.low, row.high, row.integer, row.choices)
    return plain if base == key else plain.turned


def _of_family(name: str, row: Family) -> Bounds | None:
    rows = {h.name: Bounds(h.low, h.high, h.integer) for h in row.hyperparameters}
    if name in rows:
        return rows[name]
    if name == EFFECTIVE and row.heavy_ball:
        return Bounds(0.0, 1e6)
    base = rows.get(name.removeprefix(ONE_MINUS)) if name.startswith(ONE_MINUS) else None
    return base.turned if base is not None and base.low >= 0 else None


def names_of(prefix: str, row: Family | None = None) -> list[str]:
    """Return the names that coordinates may have: of a family, with the prefix of schedules, or of training options."""
    if row is not None:
        turned = [ONE_MINUS + h.name for h in row.hyperparameters if h.low >= 0 and h.high < 1]
        return [*(h.name for h in row.hyperparameters), *([EFFECTIVE] if row.heavy_ball else []), *turned]
    if prefix == SCHEDULE:
        return [*_WORDS, *_parameters()]
    return [*training_options.TRAINING_OPTIONS, *PATTERNS]


def _parameters() -> dict[str, Parameter]:
    return {p.name: p for kind in SCHEDULES.values() for p in kind.parameters} | {WARMUP.name: WARMUP}
