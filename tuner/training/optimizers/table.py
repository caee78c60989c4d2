"""The torch half of the table of families: a builder for each; hyperparameters and defaults stand in ``families``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import nn

from tuner.catalog.families import FAMILIES, LOOKAHEAD, family
from tuner.catalog.training_options import complete, learning_rate_factor
from tuner.core.records import Setting
from tuner.training.optimizers.bundle import MAIN, Bundle
from tuner.training.optimizers.other_rows import OTHER_ROWS, ademamix, lookahead
from tuner.training.optimizers.torch_rows import TORCH_ROWS, Row, Values
from tuner.training.param_groups import Group, check_patterns, groups

Builder: TypeAlias = Callable[[Values, Sequence[Group], int], torch.optim.Optimizer]
"""From complete hyperparameters, a model's groups and the horizon in steps to its one optimizer."""


def _timeless(row: Row) -> Builder:
    def build(values: Values, found: Sequence[Group], horizon: int) -> torch.optim.Optimizer:  # noqa: ARG001
        return row(values, found)

    return build


def _ahead(base: Builder) -> Builder:
    def build(values: Values, found: Sequence[Group], horizon: int) -> torch.optim.Optimizer:
        return lookahead(base(values, found, horizon), values)

    return build


_BASES = {name: _timeless(row) for name, row in (*TORCH_ROWS.items(), *OTHER_ROWS.items())} | {"ademamix": ademamix}
_AHEAD = {LOOKAHEAD + name: _ahead(base) for name, base in _BASES.items()}

BUILDERS: Mapping[str, Builder] = MappingProxyType({name: (_BASES | _AHEAD)[name] for name in FAMILIES})
"""One for each row. ``builder`` also knows those of the families that look ahead over another row."""


def builder(name: str) -> Builder:
    """Return the builder of a family.

    Raises:
        InputError: there is no such family.
    """
    return BUILDERS.get(name) or _AHEAD[family(name).name]


def build(
    setting: Setting, model: nn.Module | Mapping[str, nn.Module], horizon: int, device: torch.device | str = "cpu"
) -> Bundle:
    """Build the optimizer of a setting for a model, or one for each of several named models.

    ``horizon`` is the number of optimizer steps. What is not given has the family's default. The rule for the batch
    size multiplies every learning rate.

    Raises:
        InputError: the family or a hyperparameter is unknown, a value is out of its bounds, the family cannot do what
            a training option asks, or its package is not installed.
        WorkloadError: a model has no trainable parameter, or a pattern of the training options matches none.
    """
    values = family(setting.family).complete(setting.hyperparameters)
    training = complete(setting.training)
    factor, make = learning_rate_factor(training), builder(setting.family)
    models = {MAIN: model} if isinstance(model, nn.Module) else model
    parts = {}
    if not isinstance(model, nn.Module):
        check_patterns(
            [f"{n}.{p}" for n, m in models.items() for p, _ in m.named_parameters()], training, "these models"
        )
    for name, module in models.items():
        inside = groups(module, training, "" if module is model else name)
        found = tuple(replace(group, scale=group.scale * factor) for group in inside)
        parts[name] = make(values, found, horizon)
    return Bundle(parts, training, device)
