"""The builders of classes that their arguments alone do not describe; rows of the catalog name them as ``adapter``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import torch

from tuner.catalog.families.optimizer_class import (
    FINAL_RATE,
    MATRICES,
    MOMENTUM_BUFFERS,
    SGD_PHASE,
    OptimizerClass,
    Values,
)
from tuner.training.optimizers.from_row import constructed, decayed, loaded, plain
from tuner.training.optimizers.swats import scheduled
from tuner.training.param_groups import Group

Adapter: TypeAlias = Callable[[OptimizerClass, Values, Sequence[Group], int], torch.optim.Optimizer]
"""From a class, complete hyperparameters, a model's groups and the horizon in steps to the model's optimizer."""

HEADS = frozenset({"head", "lm_head", "classifier"})
"""What a module is called whose weight is the output's, wherever it stands in the model."""


def with_momentum_buffers(
    of: OptimizerClass, values: Values, groups: Sequence[Group], total_steps: int
) -> torch.optim.Optimizer:
    """Build torch's SGD with momentum buffers of zeros, which its fused step needs.

    The fused step wants all momentum buffers or none, and a parameter may get its first gradient late. Buffers of zeros
    are the same as torch's own, which begin as the first gradient, unless there is dampening: then nothing is fused.
    """
    fuses = not values.get("dampening", 0.0)
    optimizer = constructed(of, values, decayed(of, values, groups), total_steps, may_fuse=fuses)
    if values.get("momentum", 0.0) and optimizer.param_groups[0].get("fused"):
        for group in groups:
            for p in group.params:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimizer


def with_final_rates(
    of: OptimizerClass, values: Values, groups: Sequence[Group], total_steps: int
) -> torch.optim.Optimizer:
    """Build AdaBound; its ``final_lr`` is a learning rate, too, so a group's multiplier acts on it."""
    bounded = [
        {**entries, "final_lr": values["final_lr"] * group.scale}
        for entries, group in zip(decayed(of, values, groups), groups, strict=True)
    ]
    return constructed(of, values, bounded, total_steps)


def with_sgd_phase(
    of: OptimizerClass, values: Values, groups: Sequence[Group], total_steps: int
) -> torch.optim.Optimizer:
    """Build SWATS so that its switch to SGD keeps to the schedule.

    The hook for decay comes first, so decoupled decay keeps to Adam's rate when a group turns to SGD.
    """
    return scheduled(plain(of, values, groups, total_steps))


def of_matrices(of: OptimizerClass, values: Values, groups: Sequence[Group], total_steps: int) -> torch.optim.Optimizer:
    """Build Muon for the matrices inside a model, with the AdamW of the same class for all other parameters."""
    inside, divided = hidden(groups), []
    betas = (values["adamw_beta1"], values["adamw_beta2"])
    for entries, group in zip(decayed(of, values, groups), groups, strict=True):
        named = list(zip(group.names, group.params, strict=True))
        matrices = [p for name, p in named if name in inside]
        rest = [p for name, p in named if name not in inside]
        if matrices:
            divided.append({**entries, "params": matrices, "use_muon": True, "momentum": values["momentum"]})
        if rest:
            rate = entries["lr"] * values["adamw_ratio"]
            partner = {"use_muon": False, "lr": rate, "betas": betas, "eps": values["adamw_eps"]}
            divided.append({**entries, "params": rest, **partner})
    return constructed(of, values, divided, total_steps)


def hidden(groups: Sequence[Group]) -> frozenset[str]:
    """Return the names of the parameters that Muon orthogonalises: matrices and convolution kernels inside a model.

    A kernel counts as the matrix of output channels by all the rest. Left to AdamW are embeddings, what has a single
    row or column, and the output's weight: the one of a module called ``head``, ``lm_head`` or ``classifier``, else
    the last matrix of the groups with the highest learning rate. Source: Jordan et al. 2024, "Muon".
    """
    matrices = [
        (group.scale, group.decays, name)
        for group in groups
        for name, p in zip(group.names, group.params, strict=True)
        if name not in group.embeddings and p.ndim >= 2 and min(p.shape[0], p.numel() // p.shape[0]) > 1
    ]
    heads = {name for _, _, name in matrices if name.rpartition(".")[0].rpartition(".")[2] in HEADS}
    if not heads and matrices:
        top = max((scale, decays) for scale, decays, _ in matrices)
        heads = {[name for scale, decays, name in matrices if (scale, decays) == top][-1]}
    return frozenset(name for _, _, name in matrices) - heads


def looking_ahead(base: torch.optim.Optimizer, values: Values) -> torch.optim.Optimizer:
    """Return Lookahead over ``base``; hooks and param groups are those of the base."""
    kind = loaded("pytorch_optimizer", "Lookahead")
    optimizer: torch.optim.Optimizer = kind(base, k=int(values["lookahead_k"]), alpha=values["lookahead_alpha"])
    return optimizer


ADAPTERS: Mapping[str, Adapter] = MappingProxyType(
    {
        "": plain,
        MOMENTUM_BUFFERS: with_momentum_buffers,
        FINAL_RATE: with_final_rates,
        SGD_PHASE: with_sgd_phase,
        MATRICES: of_matrices,
    }
)
"""The special cases by the name that a row gives as ``OptimizerClass.adapter``; the plain builder has none."""
