"""What the writers of all targets share: the plan that they write, numbers as source, the comment at the top."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.catalog import training_options
from tuner.catalog.families import ONE_RATE, Family, family
from tuner.catalog.schedules import Schedule
from tuner.catalog.training_options import FREEZE, MULTIPLIER, NO_DECAY, learning_rate_factor, told
from tuner.core.errors import InputError
from tuner.core.records import Horizon, Setting
from tuner.core.values import Scalar

_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Export:
    """A setting in another tool's words.

    Attributes:
        target: the tool, a name out of ``TARGETS``.
        text: what runs there.
        notes: what the text leaves to the reader; it also has them in the comment at its top.
    """

    target: str
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A complete setting, ready to be written.

    Attributes:
        setting: the setting, with every default filled in.
        row: its family.
        values: the family's hyperparameters.
        training: the training options.
        schedule: the schedule.
        horizon: how long the training is; None for code that gets the steps when it runs.
        about: lines for the comment at the top.
    """

    setting: Setting
    row: Family
    values: Mapping[str, float]
    training: Mapping[str, Scalar]
    schedule: Schedule
    horizon: Horizon | None
    about: tuple[str, ...] = ()

    @property
    def factor(self) -> float:
        """The factor that the rule for the batch size puts on every learning rate."""
        return learning_rate_factor(self.training)

    @property
    def rate(self) -> float:
        """The peak learning rate, with the factor for the batch size in it."""
        return self.values["learning_rate"] * self.factor

    @property
    def steps(self) -> int | None:
        """The horizon in optimizer steps; None where it is in epochs or not known."""
        return round(self.horizon.amount) if self.horizon and self.horizon.unit == "steps" else None

    @property
    def epochs(self) -> float | None:
        """The horizon in epochs; None where it is in steps or not known."""
        return self.horizon.amount if self.horizon and self.horizon.unit == "epochs" else None

    def patterns(self, prefix: str) -> dict[str, Scalar]:
        """Return the patterns of one kind, as glob to value, without those that change nothing."""
        idle = {MULTIPLIER: 1.0, FREEZE: "no", NO_DECAY: "no"}[prefix]
        globs = {key.removeprefix(prefix): value for key, value in self.training.items() if key.startswith(prefix)}
        return {glob: value for glob, value in globs.items() if value != idle}

    @property
    def is_plain(self) -> bool:
        """Whether all parameters train at one rate, and a rule alone says which of them decay."""
        return self.training["layer_decay"] == 1.0 and not any(
            self.patterns(prefix) for prefix in (MULTIPLIER, FREEZE, NO_DECAY)
        )

    @property
    def batch(self) -> str:
        """What the reader has to set by hand, as a phrase; empty if there is nothing."""
        size, smoothing = self.training["batch_size"], self.training["label_smoothing"]
        phrases = [f"batch size {size}"] if size else []
        phrases += [f"label smoothing {number(smoothing)}"] if smoothing else []
        return " and ".join(phrases)


def completed(setting: Setting, horizon: Horizon | None, about: Iterable[str] = ()) -> Plan:
    """Check a setting and fill in its defaults.

    Raises:
        InputError: the family, a hyperparameter, the schedule, a training option or the horizon is not what it may be.
    """
    if horizon is not None and (horizon.unit not in ("steps", "epochs") or not horizon.amount > 0):
        raise InputError(f"the horizon is {horizon}; expected more than 0 steps or epochs.")
    if horizon is not None and horizon.unit == "steps" and horizon.amount != int(horizon.amount):
        raise InputError(f"the horizon is {horizon}; expected a whole number of steps.")
    row = family(setting.family)
    if ONE_RATE in row.needs and own_rates(setting.training):
        raise InputError(
            f"optimizer family {row.name} takes one learning rate for all parameters, and the training options have "
            f"{', '.join(own_rates(setting.training))}; expected neither layer_decay nor multipliers. Remove them."
        )
    values, rest = row.complete(setting.hyperparameters), training_options.complete(setting.training)
    complete = Setting(row.name, values, setting.schedule, rest)
    return Plan(complete, row, values, rest, Schedule.of(setting.schedule), horizon, tuple(about))


def own_rates(given: Mapping[str, Scalar]) -> list[str]:
    """Return the training options that give parameters learning rates of their own."""
    return [key for key, value in given.items() if key.startswith((MULTIPLIER, "layer_decay")) and value != 1.0]


def header(plan: Plan, notes: Iterable[str]) -> str:
    """Return the comment at the top: the setting in words, where it comes from, its horizon, the notes."""
    lines = [told(plan.setting), *plan.about]
    lines += [f"Timed to {plan.horizon}."] if plan.horizon is not None else []
    lines += [f"Note: {note}" for note in notes]
    wrapped = (textwrap.wrap(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in lines)
    return "".join(f"# {line}\n" for part in wrapped for line in part)


def number(value: Any) -> str:
    """Return a number as short as Python reads back exactly; whole ones without a point.

    >>> number(1.0), number(0.0003), number(1e-08), number(-0.8)
    ('1', '0.0003', '1e-8', '-0.8')
    """
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value).replace("e-0", "e-").replace("e+0", "e+")


def double_quoted(text: str) -> str:
    """Return a text as Python source, in double quotes where it may be.

    >>> print(double_quoted("backbone.*"))
    "backbone.*"
    """
    return f'"{text}"' if text.isprintable() and not {'"', "\\"} & set(text) else repr(text)


def literal(value: Any) -> str:
    """Return a value as Python source.

    >>> print(literal((0.9, 0.999)), literal(True), literal("a"), literal({"b": 2.0}))
    (0.9, 0.999) True "a" {"b": 2}
    """
    if isinstance(value, tuple):
        return f"({', '.join(literal(item) for item in value)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(key)}: {literal(item)}' for key, item in value.items())}}}"
    if isinstance(value, str):
        return double_quoted(value)
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)


def call(name: str, arguments: Mapping[str, str], indent: int = 4) -> str:
    """Return a call with keyword arguments as source: on one line where it fits, else one argument a line.

    A key that begins with ``*`` is a positional argument.

    >>> call("f", {"*": "params", "lr": "0.1"})
    'f(params, lr=0.1)'
    """
    parts = [value if key.startswith("*") else f"{key}={value}" for key, value in arguments.items()]
    line = f"{name}({', '.join(parts)})"
    if len(line) + indent + 12 <= _WIDTH:
        return line
    inner = " " * (indent + 4)
    return f"{name}(\n{inner}" + f",\n{inner}".join(parts) + f",\n{' ' * indent})"
