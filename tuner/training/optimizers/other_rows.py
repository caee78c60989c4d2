"""Builders of the families that torch lacks, from ``pytorch_optimizer`` and ``schedulefree``, which load when needed.

What the families are stands in ``tuner.catalog.families.modern``; here is what it takes to make each class do that.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from tuner.core.errors import InputError
from tuner.training.optimizers.decay import with_decay
from tuner.training.optimizers.swats import scheduled
from tuner.training.optimizers.torch_rows import Row, Values, coupled, decoupled
from tuner.training.param_groups import Group

HEADS = frozenset({"head", "lm_head", "classifier"})
"""What a module is called whose weight is the output's, wherever it stands in the model."""


def _load(name: str) -> Any:
    """Import a library: not with this module, for it takes a second or two.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise InputError(f"the package {name} is not installed; this optimizer family needs it. Install it.") from None


def _library(kind: str, groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = getattr(_load("pytorch_optimizer"), kind)(groups, **options)
    return with_decay(optimizer)


def _betas(values: Values, count: int = 2) -> tuple[float, ...]:
    return tuple(values[f"beta{i}"] for i in range(1, count + 1))


def _bounded(values: Values, found: Sequence[Group], ams: bool) -> torch.optim.Optimizer:
    groups = coupled(values, found)
    for group, of in zip(groups, found, strict=True):  # it is a learning rate, too
        group["final_lr"] = values["final_lr"] * of.scale
    options = {"betas": _betas(values), "gamma": values["gamma"], "eps": values["eps"], "ams_bound": ams}
    return _library("AdaBound", groups, **options, weight_decouple=False, foreach=True)


def adabound(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    return _bounded(values, found, ams=False)


def amsbound(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    return _bounded(values, found, ams=True)


def swats(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    # The hook for decay is the first, so that decoupled decay keeps to Adam's rate when the group turns to SGD.
    groups = coupled(values, found)
    return scheduled(_library("SWATS", groups, betas=_betas(values), eps=values["eps"], foreach=True))


def lion(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    return _library("Lion", decoupled(values, found), betas=_betas(values), weight_decouple=True, foreach=True)


def lamb(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    # weight_decouple=False is the paper's decay, inside the update. adam_debias=True leaves out a division of the
    # learning rate by 1 - beta1^t, which would make the first step ten times too long: the norms cancel scales already.
    options = {"betas": _betas(values), "eps": values["eps"], "weight_decouple": False, "adam_debias": True}
    return _library("Lamb", decoupled(values, found), **options, foreach=True)


def lars(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    options = {"momentum": values["momentum"], "dampening": values["dampening"], "trust_coefficient": values["trust"]}
    return _library("LARS", coupled(values, found), **options, foreach=True)


def soap(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    every = int(values["precondition_frequency"])
    groups = decoupled(values, found)
    return _library("SOAP", groups, betas=_betas(values), eps=values["eps"], precondition_frequency=every)


def prodigy(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    # It reads the first group's learning rate alone. Its own L2 comes after the moments have been taken.
    scales = sorted({group.scale for group in found})
    if len(scales) > 1:
        raise InputError(
            "optimizer family prodigy takes one learning rate for all parameters; the training options multiply it by "
            f"{', '.join(f'{scale:g}' for scale in scales)}. Remove layer_decay and the multipliers."
        )
    options = {"betas": _betas(values), "eps": values["eps"], "d0": values["d0"], "d_coef": values["d_coef"]}
    return _library("Prodigy", decoupled(values, found), **options, safeguard_warmup=True, foreach=True)


def ademamix(values: Values, found: Sequence[Group], horizon: int) -> torch.optim.Optimizer:
    options = {"betas": _betas(values, 3), "alpha": values["alpha"], "eps": values["eps"]}
    groups = decoupled(values, found)
    return _library("AdEMAMix", groups, **options, t_alpha_beta3=float(horizon), weight_decouple=True, foreach=True)


def adabelief(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    options = {"betas": _betas(values), "eps": values["eps"]}
    return _library("AdaBelief", decoupled(values, found), **options, weight_decouple=True, foreach=True)


def adan(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    # weight_decouple=False is the paper's proximal decay.
    options = {"betas": _betas(values, 3), "eps": values["eps"]}
    return _library("Adan", decoupled(values, found), **options, weight_decouple=False, foreach=True)


def muon(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    inside, groups = hidden(found), []
    plain = decoupled(values, found)
    for group, of in zip(plain, found, strict=True):
        named = list(zip(of.names, of.params, strict=True))
        matrices = [p for name, p in named if name in inside]
        rest = [p for name, p in named if name not in inside]
        if matrices:
            groups.append({**group, "params": matrices, "use_muon": True, "momentum": values["momentum"]})
        if rest:
            betas = (values["adamw_beta1"], values["adamw_beta2"])
            rate = group["lr"] * values["adamw_ratio"]
            partner = {"use_muon": False, "lr": rate, "betas": betas, "eps": values["adamw_eps"]}
            groups.append({**group, "params": rest, **partner})
    return _library("Muon", groups, use_adjusted_lr=True, weight_decouple=True, foreach=True)


def hidden(found: Sequence[Group]) -> frozenset[str]:
    """Return the names of the parameters that Muon orthogonalises: matrices and convolution kernels inside a model.

    A kernel counts as the matrix of output channels by all the rest. Left to AdamW are embeddings, what has a single
    row or column, and the output's weight: the one of a module called ``head``, ``lm_head`` or ``classifier``, else
    the last matrix of the groups with the highest learning rate. Source: Jordan et al. 2024, "Muon".
    """
    matrices = [
        (group.scale, group.decays, name)
        for group in found
        for name, p in zip(group.names, group.params, strict=True)
        if name not in group.embeddings and p.ndim >= 2 and min(p.shape[0], p.numel() // p.shape[0]) > 1
    ]
    heads = {name for _, _, name in matrices if name.rpartition(".")[0].rpartition(".")[2] in HEADS}
    if not heads and matrices:
        top = max((scale, decays) for scale, decays, _ in matrices)
        heads = {[name for scale, decays, name in matrices if (scale, decays) == top][-1]}
    return frozenset(name for _, _, name in matrices) - heads


def schedule_free_adamw(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    kind = _load("schedulefree").AdamWScheduleFree
    return with_decay(kind(decoupled(values, found), betas=_betas(values), eps=values["eps"], foreach=True))


def schedule_free_sgd(values: Values, found: Sequence[Group]) -> torch.optim.Optimizer:
    kind = _load("schedulefree").SGDScheduleFree
    return with_decay(kind(coupled(values, found), momentum=values["momentum"], foreach=True))


def lookahead(base: torch.optim.Optimizer, values: Values) -> torch.optim.Optimizer:
    """Return an optimizer that looks ahead over ``base``; hooks and param groups are those of the base."""
    kind = _load("pytorch_optimizer").Lookahead
    optimizer: torch.optim.Optimizer = kind(base, k=int(values["lookahead_k"]), alpha=values["lookahead_alpha"])
    return optimizer


OTHER_ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "muon": muon,
        "adabound": adabound,
        "amsbound": amsbound,
        "swats": swats,
        "lion": lion,
        "lamb": lamb,
        "lars": lars,
        "soap": soap,
        "prodigy": prodigy,
        "adabelief": adabelief,
        "adan": adan,
        "schedule-free-adamw": schedule_free_adamw,
        "schedule-free-sgd": schedule_free_sgd,
    }
)
