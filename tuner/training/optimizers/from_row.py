"""From a row of the catalog to its torch optimizer: class, param groups, decay, fastest step; no family by name.

What a class's arguments alone do not describe is in ``special``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch

from tuner.catalog.families.optimizer_class import DECOUPLED, FUSED, OptimizerClass, Values, arguments
from tuner.core.errors import InputError
from tuner.training.optimizers.decay import COUPLED, param_groups, with_decay
from tuner.training.param_groups import Group

TorchGroups: TypeAlias = Sequence[dict[str, Any]]
"""Param groups as a torch optimizer takes them."""

# On the CPU (eight tensors, 30,000 parameters) a fused step takes 0.09 ms for SGD with momentum and 0.17 ms for Adam,
# with foreach 0.26 and 0.88 ms, in torch's default loop 1.4 ms. Where nothing is fused, foreach saves 10 to 40 %.


def plain(of: OptimizerClass, values: Values, groups: Sequence[Group], total_steps: int) -> torch.optim.Optimizer:
    """Build the optimizer of a class that its arguments alone describe.

    Args:
        of: the class.
        values: the family's hyperparameters, complete.
        groups: the model's parameters.
        total_steps: the horizon in optimizer steps.

    Raises:
        InputError: the class's package is not installed.
    """
    return constructed(of, values, decayed(of, values, groups), total_steps)


def constructed(
    of: OptimizerClass, values: Values, groups: TorchGroups, total_steps: int, may_fuse: bool = True
) -> torch.optim.Optimizer:
    """Build the class with its arguments on its fastest step, for param groups that ``decayed`` made.

    Raises:
        InputError: the class's package is not installed.
    """
    options = arguments(of.options, values, float(total_steps))
    optimizer: torch.optim.Optimizer = loaded(of.module, of.name)(groups, **options, **_step(of, groups, may_fuse))
    return with_decay(optimizer)


def decayed(of: OptimizerClass, values: Values, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return a model's groups as torch's, with one kind of decay left to the class and the other to the hook."""
    rate, l2, decoupled = values["learning_rate"], values.get("l2", 0.0), values.get("weight_decay", 0.0)
    if of.weight_decay == DECOUPLED:
        return param_groups(groups, rate, own=decoupled, coupled=l2)
    if l2 and decoupled:  # the class's own L2 would come after the decay
        return param_groups(groups, rate, coupled=l2, decoupled=decoupled)
    return param_groups(groups, rate, own=l2, decoupled=decoupled)


def loaded(module: str, name: str) -> Any:
    """Import a class: only when it is built, for a library takes a second or two.

    Raises:
        InputError: the library is not installed.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:
        raise InputError(
            f"the package {module} is not installed; this optimizer family needs it. Install it."
        ) from None


def _step(of: OptimizerClass, groups: Sequence[Mapping[str, Any]], may_fuse: bool) -> dict[str, Any]:
    """The flag of the fastest step that these groups allow.

    A fused step takes gradients that a GradScaler has scaled, and L2 from the hook does not.
    """
    if not of.step:
        return {}
    params = [p for group in groups for p in group["params"]]
    fits = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in params)
    fused = of.step == FUSED and may_fuse and fits and not any(COUPLED in group for group in groups)
    return {"fused": True} if fused else {"foreach": True}
