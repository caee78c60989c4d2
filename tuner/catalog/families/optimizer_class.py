"""Which class trains a family, and how hyperparameters become its keyword arguments; no class is imported here.

The optimizer's builder (``tuner.training.optimizers``) and every export (``tuner.exports``) read these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

Values: TypeAlias = Mapping[str, float]
"""A family's hyperparameters by name, complete."""

L2, DECOUPLED = "l2", "weight_decay"
"""What a class does with its own ``weight_decay``: an L2 penalty, or decoupled decay (or its own kind of decay).

Both are also the names of the hyperparameters that the class's ``weight_decay`` takes its value from.
"""

FUSED, FOREACH = "fused", "foreach"
"""The flag of a class's fastest step; a class that has ``fused`` also has ``foreach``."""

MOMENTUM_BUFFERS, FINAL_RATE, MATRICES, SGD_PHASE = "momentum-buffers", "final-rate", "matrices", "sgd-phase"
"""The special cases, by name: see ``tuner.training.optimizers.special.ADAPTERS``."""


@dataclass(frozen=True, slots=True)
class Whole:
    """An argument that takes the hyperparameter ``name`` as an int."""

    name: str


@dataclass(frozen=True, slots=True)
class OnlyWith:
    """An argument that is left out where the hyperparameter ``name`` is 0, which is then the class's own default.

    ``value`` is what it takes otherwise; None: the hyperparameter itself.
    """

    name: str
    value: float | bool | None = None


@dataclass(frozen=True, slots=True)
class TotalSteps:
    """An argument that takes the horizon in optimizer steps."""


Option: TypeAlias = str | tuple[str, ...] | float | bool | Whole | OnlyWith | TotalSteps | None
Options: TypeAlias = Mapping[str, Option]
"""Keyword arguments. A text is a hyperparameter's name, a tuple several of them; a number, bool or None is a constant.

The learning rate and ``weight_decay`` are in no ``Options``: they belong to the param groups.
"""


MOMENTS: Options = MappingProxyType({"betas": ("beta1", "beta2"), "eps": "eps"})
"""The arguments of the Adam family."""
HEAVY_BALL: Options = MappingProxyType({"momentum": "momentum", "dampening": OnlyWith("dampening")})
"""The arguments of SGD with momentum."""


def arguments(options: Options, values: Values, total_steps: Any = None) -> dict[str, Any]:
    """Return keyword arguments with their values, in the order of ``options``.

    Args:
        options: where each value comes from.
        values: the family's hyperparameters, complete.
        total_steps: what ``TotalSteps`` becomes.

    >>> arguments({"betas": ("beta1", "beta2"), "amsgrad": True}, {"beta1": 0.9, "beta2": 0.999})
    {'betas': (0.9, 0.999), 'amsgrad': True}
    >>> arguments({"dampening": OnlyWith("dampening")}, {"dampening": 0.0})
    {}
    """
    kept = {key: option for key, option in options.items() if not isinstance(option, OnlyWith) or values[option.name]}
    return {key: _value(option, values, total_steps) for key, option in kept.items()}


def _value(option: Option, values: Values, total_steps: Any) -> Any:
    match option:
        case str():
            return values[option]
        case tuple():
            return tuple(values[name] for name in option)
        case Whole():
            return int(values[option.name])
        case OnlyWith():
            return values[option.name] if option.value is None else option.value
        case TotalSteps():
            return total_steps
    return option


@dataclass(frozen=True, slots=True)
class OptimizerClass:
    """The class of a family.

    Attributes:
        path: module and class, such as ``torch.optim:AdamW``; the module is imported when the optimizer is built.
            Empty for an optimizer that only recorded runs name.
        options: the class's arguments besides learning rate and ``weight_decay``.
        weight_decay: what the class does with its own ``weight_decay``, ``L2`` or ``DECOUPLED``. The other kind is
            added before its step, in training as in exported code.
        step: the flag of its fastest step, ``FUSED`` or ``FOREACH``; empty if it has none.
        decoupling: the class's own arguments that turn its L2 into decoupled decay. Exported code uses them;
            training always decays before the step, to the same weights bit for bit.
        decoupled_class: the class that decays decoupled, where it is another one of the same module.
        adapter: the special case that builds it; empty for a class that its arguments alone describe.
    """

    path: str
    options: Options = field(default_factory=dict)
    weight_decay: str = L2
    step: str = FOREACH
    decoupling: Options = field(default_factory=dict)
    decoupled_class: str = ""
    adapter: str = ""

    @property
    def module(self) -> str:
        return self.path.partition(":")[0]

    @property
    def name(self) -> str:
        return self.path.partition(":")[2]


@dataclass(frozen=True, slots=True)
class TimmOptimizer:
    """The optimizer of timm that has a family's formulas.

    Attributes:
        opt: its name, the value of ``--opt``.
        arguments: its further arguments, those of ``--opt-kwargs``.
        decoupled: its name where ``weight_decay`` is not 0; empty: the same.
        without_momentum: its name where ``momentum`` is 0; empty: the same.
        l2_only: whether it takes ``--weight-decay`` as L2 though the family's ``weight_decay`` is decoupled.
        note: what it does otherwise than the study's class.
    """

    opt: str
    arguments: Options = field(default_factory=dict)
    decoupled: str = ""
    without_momentum: str = ""
    l2_only: bool = False
    note: str = ""

    def name(self, values: Values) -> str:
        """Return the value of ``--opt`` for these hyperparameters.

        >>> TimmOptimizer("sgd", decoupled="sgdw", without_momentum="momentum").name({"momentum": 0.0})
        'momentum'
        """
        if self.without_momentum and values["momentum"] == 0.0:
            return self.without_momentum
        return self.decoupled if self.decoupled and values["weight_decay"] else self.opt


@dataclass(frozen=True, slots=True)
class TrainerOptimizer:
    """The optimizer of Hugging Face's Trainer that is a family's class.

    Attributes:
        optim: its name, the value of ``TrainingArguments(optim=...)``.
        arguments: its arguments that ``TrainingArguments`` has fields for; None: all are written in ``optim_args``.
    """

    optim: str
    arguments: Options | None = None
