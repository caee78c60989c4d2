"""SWATS under a schedule: it keeps the rate of its SGD phase although the schedule sets the rate at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

PLANNED, RATIO = "planned_lr", "sgd_ratio"
"""Keys of a param group: the schedule's learning rate during a step, and what SGD multiplies it by after the switch."""


def scheduled(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return a ``pytorch_optimizer.SWATS`` whose group's learning rate is always the schedule's, before and after.

    At its switch the class writes SGD's rate into ``group["lr"]``, where the next step of any schedule
    overwrites it. Here its ratio to the rate of that moment is kept, and multiplies the rate within each later step:
    the schedule goes on (Keskar & Socher 2017, arXiv 1712.07628, drop Adam's and SGD's rate alike).
    """
    optimizer.register_step_pre_hook(_before)
    optimizer.register_step_post_hook(_after)
    return optimizer


def _before(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:  # noqa: ARG001
    for group in optimizer.param_groups:
        group[PLANNED] = group["lr"]
        group["lr"] *= group.get(RATIO, 1.0)


def _after(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:  # noqa: ARG001
    for group in optimizer.param_groups:
        if group["phase"] == "sgd" and RATIO not in group:
            group[RATIO] = group["lr"] / group[PLANNED]
        group["lr"] = group[PLANNED]
