"""The torch half of each row of the table of families; hyperparameters, bounds and defaults stand in ``families``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import nn

from tuner.families import family
from tuner.records import Setting
from tuner.training.optimizers.bundle import MAIN, Bundle
from tuner.training.param_groups import decay_groups

Values: TypeAlias = Mapping[str, float]
Builder: TypeAlias = Callable[[Values, nn.Module], Mapping[str, torch.optim.Optimizer]]
"""From complete hyperparameters and a model to its optimizers: ``main`` alone, or ``main`` with a ``partner``."""

# On the CPU foreach=True gives the bits of torch's default loop, and steps in three quarters of its time
# (AdamW, 38,000 parameters: 0.23 ms for 0.31 ms); on CUDA it is the default. NAdam's bits differ: left alone.


def _sgdm(values: Values, model: nn.Module) -> Mapping[str, torch.optim.Optimizer]:
    return {MAIN: _sgd(values, model, nesterov=False)}


def _nag(values: Values, model: nn.Module) -> Mapping[str, torch.optim.Optimizer]:
    # Without momentum there is nothing to look ahead with, and torch refuses the flag.
    return {MAIN: _sgd(values, model, nesterov=values["momentum"] > 0)}


def _sgd(values: Values, model: nn.Module, nesterov: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        decay_groups(model),
        lr=values["learning_rate"],
        momentum=values["momentum"],
        weight_decay=values["l2"],
        nesterov=nesterov,
        foreach=True,
    )


def _adamw(values: Values, model: nn.Module) -> Mapping[str, torch.optim.Optimizer]:
    return {
        MAIN: torch.optim.AdamW(
            decay_groups(model),
            lr=values["learning_rate"],
            betas=(values["beta1"], values["beta2"]),
            eps=values["eps"],
            weight_decay=values["weight_decay"],
            foreach=True,
        )
    }


def _adam(values: Values, model: nn.Module) -> Mapping[str, torch.optim.Optimizer]:
    return {
        MAIN: torch.optim.Adam(
            decay_groups(model),
            lr=values["learning_rate"],
            betas=(values["beta1"], values["beta2"]),
            eps=values["eps"],
            weight_decay=values["l2"],
            foreach=True,
        )
    }


def _nadam(values: Values, model: nn.Module) -> Mapping[str, torch.optim.Optimizer]:
    return {
        MAIN: torch.optim.NAdam(
            decay_groups(model),
            lr=values["learning_rate"],
            betas=(values["beta1"], values["beta2"]),
            eps=values["eps"],
            weight_decay=values["l2"],
            momentum_decay=values["momentum_decay"],
        )
    }


BUILDERS: Mapping[str, Builder] = MappingProxyType(
    {"sgdm": _sgdm, "nag": _nag, "adamw": _adamw, "adam": _adam, "nadam": _nadam}
)


def build(setting: Setting, model: nn.Module | Mapping[str, nn.Module]) -> Bundle:
    """Build the optimizers of a setting for a model, or for each of several named models.

    Biases and norms get no weight decay. What is not given has the family's default.

    Raises:
        InputError: the family or a hyperparameter is unknown, or a value is out of its bounds.
        WorkloadError: a model has no trainable parameter.
    """
    values = family(setting.family).complete(setting.hyperparameters)
    builder = BUILDERS[setting.family]
    if isinstance(model, nn.Module):
        return Bundle(builder(values, model))
    parts: dict[str, torch.optim.Optimizer] = {}
    for name, module in model.items():
        for part, optimizer in builder(values, module).items():
            parts[name if part == MAIN else f"{name}.{part}"] = optimizer
    return Bundle(parts)
