"""From a model's groups to torch's param groups, with the L2 or decoupled decay that an optimizer lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tuner.training.param_groups import Group

COUPLED, DECOUPLED = "coupled_decay", "decoupled_decay"
"""Keys of a param group that the hook reads; they travel in the optimizer's state like any other."""


def param_groups(
    groups: Sequence[Group], rate: float, own: float = 0.0, coupled: float = 0.0, decoupled: float = 0.0
) -> list[dict[str, Any]]:
    """Return torch's param groups, one for each group, in their order.

    Args:
        groups: the model's groups; ``scale`` multiplies the rate, and where not ``decays`` all three decays are 0.
        rate: the learning rate.
        own: what the optimizer itself calls ``weight_decay``, whatever it does with it.
        coupled: L2 that ``with_decay`` adds to the gradients.
        decoupled: decay that ``with_decay`` multiplies the weights by.
    """
    return [
        {
            "params": list(group.params),
            "lr": rate * group.scale,
            "weight_decay": own if group.decays else 0.0,
            **({COUPLED: coupled if group.decays else 0.0} if coupled else {}),
            **({DECOUPLED: decoupled if group.decays else 0.0} if decoupled else {}),
        }
        for group in groups
    ]


def with_decay(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer, with a hook that decays before each step if a param group asks for it.

    L2: g += coupled_decay w. Decoupled: w *= 1 - lr decoupled_decay, with the group's learning rate of that moment,
    so that it follows the schedule (Loshchilov & Hutter 2019, arXiv 1711.05101). L2 comes first, from weights that
    have not decayed. Parameters without a gradient do not decay, as in torch.
    """
    if any(COUPLED in group or DECOUPLED in group for group in optimizer.param_groups):
        optimizer.register_step_pre_hook(_decay)
    return optimizer


@torch.no_grad()
def _decay(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:  # noqa: ARG001
    # A fused optimizer skips a step of a GradScaler on the device, without the host knowing: so does the decay.
    skipped: torch.Tensor | None = getattr(optimizer, "found_inf", None)
    for group in optimizer.param_groups:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            continue
        if coupled := group.get(COUPLED, 0.0):
            assert getattr(optimizer, "grad_scale", None) is None, "L2 of a fused optimizer is its own"
            torch._foreach_add_([p.grad for p in params], params, alpha=coupled)
        if decoupled := group.get(DECOUPLED, 0.0):
            if skipped is None:
                torch._foreach_mul_(params, 1.0 - group["lr"] * decoupled)
            else:
                torch._foreach_mul_(params, 1.0 - group["lr"] * decoupled * (1.0 - skipped.reshape(())))
