"""What a row of the table of families is made of; no row is written here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tuner.catalog.families.optimizer_class import OptimizerClass, TimmOptimizer, TrainerOptimizer
from tuner.core.errors import InputError
from tuner.core.records import Setting
from tuner.core.values import Scalar, checked

LOOKAHEAD = "lookahead-"
"""What the name of a family begins with that looks ahead over another one."""

UNKNOWN = "unknown"
"""The camp of an optimizer that the table of families does not have."""

SWITCH, ONE_RATE, HORIZON, PARTNER = "switch", "one-rate", "horizon", "partner"
"""What a family may need: a switch between training and evaluation; one learning rate for all parameters; to know the
horizon; a partner that trains the parameters that are no matrices.
"""


@dataclass(frozen=True, slots=True)
class Search:
    """Where a hyperparameter is searched unless a space says otherwise.

    ``coordinate`` names the axis: empty for the hyperparameter itself, or ``one_minus_momentum``,
    ``effective_learning_rate`` and so on (see ``tuner.config.space``); the range is in that coordinate. ``or_zero``
    adds exact zeros to a log axis. ``opens_at`` is the number of trials per arm from which it is searched.
    """

    low: float
    high: float
    log: bool = True
    or_zero: bool = False
    opens_at: int = 1
    coordinate: str = ""


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """A number that the optimizer takes: the family's default, the bounds that make sense, its meaning.

    Without a ``search`` it can be set, and nothing searches it unless a space says so.
    """

    name: str
    default: float
    low: float
    high: float
    meaning: str
    search: Search | None = None
    integer: bool = False


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table: all that the product knows of an optimizer.

    Attributes:
        name: the family's name, as study files write it.
        camp: a key of ``CAMPS``.
        hyperparameters: what can be set, in the order in which it is searched.
        optimizer: the class that trains it, and how the hyperparameters become its arguments.
        state_slots: how many tensors of the parameters' size the optimizer keeps at the defaults (4 bytes per
            parameter each, in float32); where that depends on shapes, the figure of
            ``tuner.training.optimizers.measure.Probe``.
        source: the paper and the class.
        formula: one step, in the notation of ``classical``.
        default_source: where the defaults come from.
        default_schedule: the schedule that people start from.
        momentum: the hyperparameter that a schedule's momentum multiplier acts on.
        heavy_ball: whether a gradient moves the weights by learning_rate / (1 - momentum) in all, so that
            ``effective_learning_rate`` can be searched.
        needs: what the family asks of the loop (see ``SWITCH``).
        schedules: the kinds that may be offered; None for all.
        note: what surprises.
        timm: the optimizer of timm that trains the same; None where there is none.
        trainer: the optimizer that Hugging Face's Trainer has by name and that trains the same; None likewise.
    """

    name: str
    camp: str
    hyperparameters: tuple[Hyperparameter, ...]
    optimizer: OptimizerClass
    state_slots: float
    source: str
    formula: str
    default_source: str
    default_schedule: Mapping[str, Scalar]
    momentum: str | None = None
    heavy_ball: bool = False
    needs: frozenset[str] = frozenset()
    schedules: tuple[str, ...] | None = None
    note: str = ""
    timm: TimmOptimizer | None = None
    trainer: TrainerOptimizer | None = None

    def hyperparameter(self, name: str) -> Hyperparameter:
        """Return the one of that name.

        Raises:
            InputError: the family has none.
        """
        for row in self.hyperparameters:
            if row.name == name:
                return row
        names = ", ".join(row.name for row in self.hyperparameters)
        raise InputError(f"optimizer family {self.name!r} has no hyperparameter {name!r}; expected one of {names}.")

    def complete(self, given: Mapping[str, Scalar]) -> dict[str, float]:
        """Fill what is not given with the defaults, and check every value.

        >>> from tuner.catalog.families import FAMILIES
        >>> FAMILIES["adamw"].complete({"learning_rate": 3e-4})["beta1"]
        0.9

        Raises:
            InputError: a hyperparameter is unknown, not a finite number, out of its bounds, or not whole where it must.
        """
        values = {row.name: float(row.default) for row in self.hyperparameters}
        for name, value in given.items():
            row = self.hyperparameter(name)
            values[name] = checked(name, value, row.low, row.high, row.integer, of=self.name)
        return values

    @property
    def looks_ahead(self) -> bool:
        """Whether it is Lookahead over the family that the rest of its name names."""
        return self.name.startswith(LOOKAHEAD)

    @property
    def has_momentum(self) -> bool:
        """Whether the param groups of its class hold a momentum or betas, which a schedule may multiply."""
        return self.momentum is not None or bool({"momentum", "betas"} & set(self.optimizer.options))

    @property
    def default(self) -> Setting:
        """The setting that people start from, with its schedule."""
        return Setting(self.name, self.complete({}), dict(self.default_schedule))

    @property
    def cost(self) -> tuple[float, int]:
        """What ties are broken by: state per parameter, then how many hyperparameters want tuning."""
        return self.state_slots, sum(row.search is not None for row in self.hyperparameters)

    @property
    def in_catalog(self) -> bool:
        """Whether this is a row of the catalog, and no stand-in (see :func:`unknown`)."""
        return self.camp != UNKNOWN


def unknown(name: str) -> Family:
    """Return a stand-in for an optimizer that only recorded runs name: its camp, state and settings are unknown.

    >>> unknown("their-own").in_catalog, unknown("their-own").state_slots
    (False, nan)
    """
    source = "recorded runs"
    return Family(name, UNKNOWN, (), OptimizerClass(""), math.nan, source, "unknown", source, {"kind": "constant"})
