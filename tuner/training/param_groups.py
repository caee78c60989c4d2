"""Which parameters of a model decay; no optimizer is built here."""

from __future__ import annotations

from typing import Any

from torch import nn

from tuner.errors import WorkloadError

NORMS: tuple[type[nn.Module], ...] = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)
"""The modules none of whose parameters decay, whatever their shape."""


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Split the trainable parameters into those that decay and those that do not (weight decay 0).

    Biases, every other parameter of at most one dimension and all parameters of norms do not decay. A
    parameter that modules share is in one group only; if any of its modules is a norm it does not decay.
    Source: Goyal et al. 2017, arXiv 1706.02677, section 5.3 (no decay on BatchNorm); Jia et al. 2018, arXiv
    1807.11205, section 3.1 (none on biases).

    Returns:
        One or two param groups in the model's own order; an empty group is left out.

    Raises:
        WorkloadError: the model has no trainable parameter.
    """
    norms = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters(recurse=False)}
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise WorkloadError(f"the model {type(model).__name__} has no trainable parameter; expected at least one.")
    plain = [p for p in trainable if p.ndim <= 1 or id(p) in norms]
    held = {id(p) for p in plain}
    decayed = [p for p in trainable if id(p) not in held]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
