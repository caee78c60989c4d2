"""An export and what it is made from, numbers as Python writes them, and the comment above each; no target is known."""

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
    """A setting in another tool's words: ``text`` runs there, ``notes`` say what it leaves to the reader.

    The notes stand in a comment at the top of the text, too.
    """

    target: str
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A complete setting, ready to be written: every default filled in, the batch's scaling in the learning rate.

    ``values`` are the family's hyperparameters; ``horizon`` None is for code that is told how long it trains.
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
        """What the rule for the batch size puts on every learning rate."""
        return learning_rate_factor(self.training)

    @property
    def rate(self) -> float:
        return self.values["learning_rate"] * self.factor

    @property
    def steps(self) -> int | None:
        """The optimizer steps in all, where they are known."""
        return round(self.horizon.amount) if self.horizon and self.horizon.unit == "steps" else None

    @property
    def epochs(self) -> float | None:
        return self.horizon.amount if self.horizon and self.horizon.unit == "epochs" else None

    def patterns(self, prefix: str) -> dict[str, Scalar]:
        """Return the globs of one kind with their values, without those that change nothing."""
        idle = {MULTIPLIER: 1.0, FREEZE: "no", NO_DECAY: "no"}[prefix]
        found = {key.removeprefix(prefix): value for key, value in self.training.items() if key.startswith(prefix)}
        return {glob: value for glob, value in found.items() if value != idle}

    @property
    def is_plain(self) -> bool:
        """Whether all parameters train at one rate, and a rule alone says which of them decay."""
        return self.training["layer_decay"] == 1.0 and not any(
            self.patterns(prefix) for prefix in (MULTIPLIER, FREEZE, NO_DECAY)
        )

    @property
    def batch(self) -> str:
        """What the reader has to set by hand, as a phrase; empty if there is nothing."""
        said = [f"batch size {self.training['batch_size']}"] if self.training["batch_size"] else []
        said += (
            [f"label smoothing {number(self.training['label_smoothing'])}"] if self.training["label_smoothing"] else []
        )
        return " and ".join(said)


def plan(setting: Setting, horizon: Horizon | None, about: Iterable[str] = ()) -> Plan:
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


def header(made: Plan, notes: Iterable[str]) -> str:
    """Return the comment at the top: the setting in words, whence it comes, what it is timed to, what to mind."""
    lines = [told(made.setting), *made.about]
    lines += [f"Timed to {made.horizon}."] if made.horizon is not None else []
    lines += [f"Mind: {note}" for note in notes]
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
