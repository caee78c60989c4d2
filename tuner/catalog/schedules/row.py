"""What a row of the table of schedules is made of, and the arithmetic that shapes share; no row is written here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tuner.core.values import Scalar, checked

EDGE = 1e-9
"""Tolerance on shares of the horizon: a step on a drop or a restart belongs to what follows it, however the division
was rounded.
"""


@dataclass(frozen=True, slots=True)
class Multipliers:
    """Factors on the setting's own values for one update; ``momentum`` None leaves the momentum alone."""

    lr: float
    momentum: float | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """A dimensionless parameter of a schedule with the bounds inside which it makes sense."""

    name: str
    default: float
    low: float
    high: float
    meaning: str
    integer: bool = False


Values: TypeAlias = Mapping[str, float]
Shape: TypeAlias = Callable[[float, Values], Multipliers]
"""From the share of the horizon after the warm-up, in [0, 1), and the parameters, to the multipliers."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table.

    Attributes:
        name: the kind, as study files write it.
        shape: the multipliers as a function of the share of the horizon that has passed.
        parameters: what can be set, besides the warm-up.
        formula: the factor on the learning rate, in words of the parameters.
        source: the paper, and the same schedule in torch and transformers.
        meaning: where people use it.
        variants: changes of the default that pictures draw beside it; the picture of all kinds takes the first two.
        follows_metric: whether it has a state, which ``Schedule.after`` moves on.
        note: what it does to comparability.
    """

    name: str
    shape: Shape
    parameters: tuple[Parameter, ...]
    formula: str
    source: str
    meaning: str
    variants: tuple[Mapping[str, Scalar], ...] = ()
    follows_metric: bool = False
    note: str = ""


def check_parameter(parameter: Parameter, value: Scalar) -> float:
    """Return the value as a float, if it is a number inside the parameter's bounds.

    Raises:
        InputError: it is not.
    """
    return checked(parameter.name, value, parameter.low, parameter.high, parameter.integer)


def half_wave(u: float, start: float, end: float) -> float:
    """Return the point at ``u`` of half a cosine that goes from ``start`` (u = 0) to ``end`` (u = 1)."""
    return end + (start - end) * (1.0 + math.cos(math.pi * u)) / 2.0
