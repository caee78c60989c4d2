"""The learning-rate schedules: a frozen table of pure functions of the step; no torch, no state.

Every schedule is a function of ``t/T`` whose parameters are dimensionless, so timing it to another
horizon needs no translation. ``multipliers(step, horizon)`` belong to the update that leads from
``step`` to ``step + 1`` (steps count from 0), as in ``torch.optim.lr_scheduler``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tuner.errors import InputError
from tuner.records import Scalar

WARMUP_START = 0.01
"""The share of the peak learning rate at which a warm-up begins."""


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


Shape = Callable[[float, Mapping[str, float]], Multipliers]
"""From the share of the horizon after the warm-up, in [0, 1), and the parameters, to the multipliers."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table."""

    name: str
    shape: Shape
    parameters: tuple[Parameter, ...]
    formula: str
    source: str


WARMUP = Parameter("warmup", 0.0, 0.0, 0.5, "share of the horizon in which the rate rises linearly to its peak")
_END = Parameter("end_ratio", 0.0, 0.0, 1.0, "learning rate at the horizon, relative to the peak")


def _constant(x: float, p: Mapping[str, float]) -> Multipliers:  # noqa: ARG001
    return Multipliers(1.0)


def _linear(x: float, p: Mapping[str, float]) -> Multipliers:
    return Multipliers(1.0 + (p["end_ratio"] - 1.0) * x)


def _cosine(x: float, p: Mapping[str, float]) -> Multipliers:
    return Multipliers(p["end_ratio"] + (1.0 - p["end_ratio"]) * (1.0 + math.cos(math.pi * x)) / 2.0)


def _step(x: float, p: Mapping[str, float]) -> Multipliers:
    return Multipliers(p["gamma"] ** math.floor(x * (p["drops"] + 1) + 1e-9))


def _wsd(x: float, p: Mapping[str, float]) -> Multipliers:
    into = (x - (1.0 - p["decay_fraction"])) / p["decay_fraction"]
    return Multipliers(1.0 + (p["end_ratio"] - 1.0) * max(0.0, into))


def _table(*rows: Kind) -> Mapping[str, Kind]:
    names = [row.name for row in rows]
    assert len(set(names)) == len(names), f"a duplicate row in {names}"
    return MappingProxyType({row.name: row for row in rows})


SCHEDULES: Mapping[str, Kind] = _table(
    Kind("constant", _constant, (), "1", "torch.optim.lr_scheduler.ConstantLR(factor=1)"),
    Kind(
        "linear",
        _linear,
        (_END,),
        "1 + (end_ratio - 1) x",
        "Defazio et al. 2023, arXiv 2310.07831; torch.optim.lr_scheduler.LinearLR",
    ),
    Kind(
        "cosine",
        _cosine,
        (_END,),
        "end_ratio + (1 - end_ratio) (1 + cos(pi x)) / 2",
        "Loshchilov & Hutter 2017, arXiv 1608.03983; torch.optim.lr_scheduler.CosineAnnealingLR",
    ),
    Kind(
        "step",
        _step,
        (
            Parameter("drops", 2, 1, 4, "how often the rate drops, at equal distances", integer=True),
            Parameter("gamma", 0.1, 0.01, 0.9, "factor of each drop"),
        ),
        "gamma ** floor((drops + 1) x)",
        "He et al. 2016, arXiv 1512.03385; torch.optim.lr_scheduler.StepLR",
    ),
    Kind(
        "wsd",
        _wsd,
        (Parameter("decay_fraction", 0.2, 0.01, 1.0, "share of the horizon, after the warm-up, that decays"), _END),
        "1, then linearly to end_ratio over the last decay_fraction",
        "Hägele et al. 2024, arXiv 2405.18392 (warm-up, stable, decay; also trapezoid)",
    ),
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule with its parameters; ask it for the multipliers of any step.

    >>> halfway = Schedule.of({"kind": "cosine", "warmup": 0.0}).multipliers(50, 100)
    >>> round(halfway.lr, 6)
    0.5
    >>> warm = Schedule.of({"kind": "constant", "warmup": 0.1})
    >>> [round(warm.multipliers(t, 100).lr, 3) for t in (0, 5, 10, 99)]
    [0.01, 0.505, 1.0, 1.0]
    """

    kind: Kind
    parameters: Mapping[str, float]
    warmup: float

    @staticmethod
    def of(setting: Mapping[str, Scalar]) -> Schedule:
        """Build from a setting's ``schedule``: its kind, its parameters (defaults where absent), ``warmup``.

        Raises:
            InputError: the kind is unknown, a parameter is unknown or out of its bounds.
        """
        name = str(setting.get("kind", ""))
        if name not in SCHEDULES:
            raise InputError(f"schedule kind is {name!r}; expected one of {', '.join(SCHEDULES)}.")
        kind = SCHEDULES[name]
        known = {p.name: p for p in (*kind.parameters, WARMUP)}
        values = {p.name: p.default for p in known.values()}
        for key, value in setting.items():
            if key == "kind":
                continue
            if key not in known:
                raise InputError(f"schedule {name!r} has no parameter {key!r}; expected one of {', '.join(known)}.")
            values[key] = check_parameter(known[key], value)
        return Schedule(kind, values, values.pop("warmup"))

    def multipliers(self, step: int, horizon: int) -> Multipliers:
        """Return the factors for the update that follows ``step`` of ``horizon`` steps.

        Raises:
            ValueError: ``step`` is not in [0, horizon).
        """
        if not 0 <= step < horizon:
            raise ValueError(f"step is {step}; expected 0 <= step < {horizon}, the horizon")
        x = step / horizon
        if x < self.warmup:
            peak = self.kind.shape(0.0, self.parameters)
            rise = WARMUP_START + (1.0 - WARMUP_START) * x / self.warmup
            return Multipliers(peak.lr * rise, peak.momentum)
        return self.kind.shape((x - self.warmup) / (1.0 - self.warmup), self.parameters)


def check_parameter(parameter: Parameter, value: Scalar) -> float:
    """Return the value as a float, if it is a number inside the parameter's bounds.

    Raises:
        InputError: it is not; nothing is clamped, for clamping merges distinct points of a search.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{parameter.name} is {value!r}; expected a number.")
    if not parameter.low <= value <= parameter.high:
        raise InputError(f"{parameter.name} is {value:g}; expected {parameter.low:g} to {parameter.high:g}.")
    if parameter.integer and value != int(value):
        raise InputError(f"{parameter.name} is {value:g}; expected a whole number.")
    return float(value)
