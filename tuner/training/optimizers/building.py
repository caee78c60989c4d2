"""The one way from a setting to the optimizers of a model; what a family is stands in ``tuner.catalog.families``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from tuner.catalog.families import ONE_RATE, Family, family
from tuner.catalog.families.optimizer_class import Values
from tuner.catalog.training_options import complete, learning_rate_factor
from tuner.core.errors import InputError
from tuner.core.records import Setting
from tuner.training.optimizers.bundle import MAIN, Bundle
from tuner.training.optimizers.special import ADAPTERS, looking_ahead
from tuner.training.param_groups import Group, check_patterns, groups


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
    row = family(setting.family)
    values = row.complete(setting.hyperparameters)
    training = complete(setting.training)
    factor = learning_rate_factor(training)
    models = {MAIN: model} if isinstance(model, nn.Module) else model
    parts = {}
    if not isinstance(model, nn.Module):
        check_patterns(
            [f"{n}.{p}" for n, m in models.items() for p, _ in m.named_parameters()], training, "these models"
        )
    for name, module in models.items():
        inside = groups(module, training, "" if module is model else name)
        scaled = tuple(replace(group, scale=group.scale * factor) for group in inside)
        parts[name] = optimizer_of(row, values, scaled, horizon)
    return Bundle(parts, training, device)


def optimizer_of(row: Family, values: Values, groups: Sequence[Group], horizon: int) -> torch.optim.Optimizer:
    """Build the optimizer of a row of the catalog.

    Args:
        row: the family.
        values: its hyperparameters, complete.
        groups: the model's parameters.
        horizon: the number of optimizer steps.

    Raises:
        InputError: the family needs one learning rate and the groups have several, or its package is not installed.
    """
    scales = sorted({group.scale for group in groups})
    if ONE_RATE in row.needs and len(scales) > 1:
        raise InputError(
            f"optimizer family {row.name} takes one learning rate for all parameters; the training options "
            f"multiply it by {', '.join(f'{scale:g}' for scale in scales)}. Remove layer_decay and the multipliers."
        )
    optimizer = ADAPTERS[row.optimizer.adapter](row.optimizer, values, groups, horizon)
    return looking_ahead(optimizer, values) if row.looks_ahead else optimizer
