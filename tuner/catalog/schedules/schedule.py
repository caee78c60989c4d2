"""A schedule in use: the multipliers of any step, and what reduce-on-plateau remembers of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tuner.catalog.schedules.kinds import SCHEDULES
from tuner.catalog.schedules.row import EDGE, Kind, Multipliers, Values, check_parameter
from tuner.catalog.schedules.warmups import WARMUP, WARMUP_SHAPES
from tuner.core.errors import InputError
from tuner.core.values import Scalar

SIGNALS = ("train_loss", "validation")
"""What a schedule can follow: the mean training loss since the last measurement, or the study's metric."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """What reduce-on-plateau remembers: its factor, the best value, the step since when it waits for a better one."""

    ratio: float = 1.0
    best: float | None = None
    since: int = 0

    def after(self, step: int, horizon: int, value: float, p: Values) -> Plateau:
        if math.isfinite(value) and (self.best is None or value < _bar(self.best, p["threshold"])):
            return replace(self, best=value, since=step)
        if self.best is None or (step - self.since) / horizon <= p["patience"] + EDGE:
            return self
        return replace(self, ratio=max(self.ratio * p["factor"], p["min_ratio"]), since=step)


def _bar(best: float, threshold: float) -> float:
    """The value below which there is an improvement; below the best one whatever its sign."""
    return best * (1.0 - threshold if best > 0 else 1.0 + threshold)


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
    parameters: Values
    warmup: float
    warmup_shape: str = "linear"
    signal: str | None = None
    state: Plateau | None = None

    @staticmethod
    def of(setting: Mapping[str, Scalar]) -> Schedule:
        """Build from a setting's ``schedule``: its kind, its parameters (defaults where absent), ``warmup``.

        ``warmup_shape`` is a name out of ``WARMUP_SHAPES``, ``signal`` one out of ``SIGNALS``, for kinds that
        follow a metric.

        Raises:
            InputError: the kind is unknown, a parameter is unknown or out of its bounds.
        """
        name = str(setting.get("kind", ""))
        if name not in SCHEDULES:
            raise InputError(f"schedule kind is {name!r}; expected one of {', '.join(SCHEDULES)}.")
        kind = SCHEDULES[name]
        numbers = {p.name: p for p in (*kind.parameters, WARMUP)}
        names = {"warmup_shape": tuple(WARMUP_SHAPES)} | ({"signal": SIGNALS} if kind.follows_metric else {})
        for key in setting:
            if key not in ("kind", *numbers, *names):
                known = ", ".join([*numbers, *names])
                raise InputError(f"schedule {name!r} has no parameter {key!r}; expected one of {known}.")
        values = {key: check_parameter(p, setting.get(key, p.default)) for key, p in numbers.items()}
        texts = {key: _check_name(key, setting.get(key, known[0]), known) for key, known in names.items()}
        state = Plateau() if kind.follows_metric else None
        return Schedule(kind, values, values.pop("warmup"), texts["warmup_shape"], texts.get("signal"), state)

    @property
    def setting(self) -> dict[str, Scalar]:
        """The complete plain mapping: ``Schedule.of`` builds the same schedule from it (without its state).

        >>> Schedule.of({"kind": "linear"}).setting
        {'kind': 'linear', 'end_ratio': 0.0, 'warmup': 0.0, 'warmup_shape': 'linear'}
        """
        names = {"warmup_shape": self.warmup_shape} | ({"signal": self.signal} if self.signal else {})
        return {"kind": self.kind.name, **self.parameters, "warmup": self.warmup, **names}

    def multipliers(self, step: int, horizon: int) -> Multipliers:
        """Return the factors for the update that follows ``step`` of ``horizon`` steps.

        Raises:
            ValueError: ``step`` is not in [0, horizon).
        """
        if not 0 <= step < horizon:
            raise ValueError(f"step is {step}; expected 0 <= step < {horizon}, the horizon")
        x = step / horizon
        if x < self.warmup:
            first = self.kind.shape(0.0, self.parameters)
            return Multipliers(first.lr * WARMUP_SHAPES[self.warmup_shape](x, self.warmup), first.momentum)
        factors = self.kind.shape((x - self.warmup) / (1.0 - self.warmup), self.parameters)
        return factors if self.state is None else replace(factors, lr=factors.lr * self.state.ratio)

    def after(self, step: int, horizon: int, value: float) -> Schedule:
        """Return the schedule that has seen a value measured after ``step`` of ``horizon`` updates.

        Smaller values are better: negate a metric that is maximised. An improvement is a value below
        best - threshold |best|, which for a loss is torch's ``mode='min', threshold_mode='rel'`` and for a
        negated positive metric its ``mode='max'``. Values from inside the warm-up are not looked at. A kind
        that follows no metric returns itself.

        >>> schedule = Schedule.of({"kind": "plateau", "patience": 0.2, "factor": 0.5})
        >>> for step, loss in enumerate([1.0, 0.5, 0.6, 0.7, 0.6], start=1):
        ...     schedule = schedule.after(step, 10, loss)
        >>> schedule.multipliers(5, 10).lr
        0.5

        Raises:
            ValueError: ``step`` is not in (0, horizon].
        """
        if not 0 < step <= horizon:
            raise ValueError(f"step is {step}; expected 0 < step <= {horizon}, the horizon")
        if self.state is None or step / horizon < self.warmup:
            return self
        return replace(self, state=self.state.after(step, horizon, value, self.parameters))

    def state_json(self) -> dict[str, Any] | None:
        """Return what ``after`` has changed, as plain JSON for a checkpoint; None where there is no state."""
        return None if self.state is None else asdict(self.state)

    def with_state(self, state: Mapping[str, Any] | None) -> Schedule:
        """Return the schedule in the state that ``state_json`` returned.

        Raises:
            ValueError: the kind has a state and none is given, or the other way round.
        """
        if (state is None) != (self.state is None):
            wanted = "no state" if self.state is None else "a state"
            raise ValueError(f"the state is {state!r}; expected {wanted} for schedule {self.kind.name!r}")
        return self if state is None else replace(self, state=Plateau(**state))


def _check_name(key: str, value: Scalar, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InputError(f"{key} is {value!r}; expected one of {', '.join(known)}.")
    return str(value)
