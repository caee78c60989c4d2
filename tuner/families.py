"""The optimizer families: a frozen table of what can be set, and with which bounds; no torch.

``tuner.training.optimizers`` holds the torch half of each row. L2 in the gradient (``l2``) and decoupled
weight decay (``weight_decay``) are two hyperparameters with two names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tuner.errors import InputError
from tuner.records import Scalar, Setting


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """A number that the optimizer takes: the family's default, the bounds that make sense, its meaning."""

    name: str
    default: float
    low: float
    high: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Family:
    """A row of the table.

    ``state_slots`` counts the tensors of the parameter's size that the optimizer keeps (4 bytes per
    parameter each, in float32). ``momentum`` names the hyperparameter that a schedule's momentum
    multiplier acts on. ``needs`` lists what a family asks of the loop: ``partner`` (another optimizer for
    weights that are not 2-D), ``switch`` (train/eval), ``no-schedule``.
    """

    name: str
    camp: str
    hyperparameters: tuple[Hyperparameter, ...]
    state_slots: int
    source: str
    default_schedule: Mapping[str, Scalar]
    default_source: str
    momentum: str | None = None
    needs: frozenset[str] = frozenset()

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

        >>> FAMILIES["adamw"].complete({"learning_rate": 3e-4})["beta1"]
        0.9

        Raises:
            InputError: a hyperparameter is unknown, not a finite number, or out of its bounds.
        """
        values = {row.name: row.default for row in self.hyperparameters}
        for name, value in given.items():
            row = self.hyperparameter(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InputError(f"{name} of {self.name} is {value!r}; expected a number.")
            if not row.low <= value <= row.high:
                raise InputError(f"{name} of {self.name} is {value:g}; expected {row.low:g} to {row.high:g}.")
            values[name] = float(value)
        return values

    @property
    def default(self) -> Setting:
        """The setting that people start from, with its schedule."""
        return Setting(self.name, self.complete({}), dict(self.default_schedule))

    @property
    def cost(self) -> tuple[int, int]:
        """What ties are broken by: state per parameter, then how many hyperparameters want tuning."""
        return self.state_slots, len(self.hyperparameters)


def _lr(default: float) -> Hyperparameter:
    return Hyperparameter("learning_rate", default, 0.0, 1e4, "peak learning rate, before the schedule's factor")


def _betas(beta1: float = 0.9, beta2: float = 0.999) -> tuple[Hyperparameter, Hyperparameter]:
    return (
        Hyperparameter("beta1", beta1, 0.0, 0.99999, "decay of the average of gradients"),
        Hyperparameter("beta2", beta2, 0.0, 0.9999999, "decay of the average of squared gradients"),
    )


_MOMENTUM = Hyperparameter("momentum", 0.9, 0.0, 0.99999, "share of the last update that is kept")
_EPS = Hyperparameter("eps", 1e-8, 1e-30, 1e10, "added to the root of the second moment")
_COSINE: Mapping[str, Scalar] = MappingProxyType({"kind": "cosine", "warmup": 0.0, "end_ratio": 0.0})


def _l2(default: float) -> Hyperparameter:
    return Hyperparameter("l2", default, 0.0, 10.0, "L2 penalty, added to the gradient (not decoupled)")


_DECAY = Hyperparameter("weight_decay", 0.01, 0.0, 100.0, "decoupled weight decay, multiplied by the learning rate")

_TORCH_ADAM = "torch 2.13 defaults, with the cosine schedule"


def _table(*rows: Family) -> Mapping[str, Family]:
    names = [row.name for row in rows]
    assert len(set(names)) == len(names), f"a duplicate row in {names}"
    return MappingProxyType({row.name: row for row in rows})


FAMILIES: Mapping[str, Family] = _table(
    Family(
        name="sgdm",
        camp="sgdm",
        hyperparameters=(_lr(0.1), _MOMENTUM, _l2(1e-4)),
        state_slots=1,
        source="Polyak 1964; torch.optim.SGD(momentum)",
        default_schedule=_COSINE,
        default_source="torchvision references/classification: 0.1, 0.9, weight decay 1e-4; cosine for its steps",
        momentum="momentum",
    ),
    Family(
        name="nag",
        camp="sgdm",
        hyperparameters=(_lr(0.1), _MOMENTUM, _l2(1e-4)),
        state_slots=1,
        source="Nesterov 1983, Sutskever et al. 2013; torch.optim.SGD(momentum, nesterov=True)",
        default_schedule=_COSINE,
        default_source="as sgdm",
        momentum="momentum",
    ),
    Family(
        name="adamw",
        camp="adam",
        hyperparameters=(_lr(1e-3), *_betas(), _EPS, _DECAY),
        state_slots=2,
        source="Loshchilov & Hutter 2019, arXiv 1711.05101; torch.optim.AdamW",
        default_schedule=_COSINE,
        default_source=_TORCH_ADAM,
        momentum="beta1",
    ),
    Family(
        name="adam",
        camp="adam",
        hyperparameters=(_lr(1e-3), *_betas(), _EPS, _l2(0.0)),
        state_slots=2,
        source="Kingma & Ba 2015, arXiv 1412.6980; torch.optim.Adam (weight decay is L2 in the gradient)",
        default_schedule=_COSINE,
        default_source=_TORCH_ADAM,
        momentum="beta1",
    ),
    Family(
        name="nadam",
        camp="adam",
        hyperparameters=(
            _lr(2e-3),
            *_betas(),
            _EPS,
            _l2(0.0),
            Hyperparameter("momentum_decay", 4e-3, 0.0, 1.0, "decay of the momentum's own schedule"),
        ),
        state_slots=2,
        source="Dozat 2016; torch.optim.NAdam",
        default_schedule=_COSINE,
        default_source=_TORCH_ADAM,
        momentum="beta1",
    ),
)

CAMPS = MappingProxyType({"sgdm": "SGDM", "adam": "Adam family", "other": "other"})


def family(name: str) -> Family:
    """Return the row of that name.

    Raises:
        InputError: there is none.
    """
    if name not in FAMILIES:
        raise InputError(f"optimizer family is {name!r}; expected one of {', '.join(FAMILIES)}.")
    return FAMILIES[name]
