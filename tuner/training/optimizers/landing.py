"""Which parameter is in which param group of a built bundle, for people to check."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tuner.training.optimizers.bundle import MAIN, Bundle

_DECAYS = ("weight_decay", "decoupled_decay", "coupled_decay")


@dataclass(frozen=True, slots=True)
class Landing:
    """One param group as the optimizer holds it: learning rate and decay before any schedule, parameter names.

    ``optimizer`` is empty for a model with a single one; ``learning_rate`` is None for parameters that do not train;
    ``numbers`` counts their elements.
    """

    optimizer: str
    learning_rate: float | None
    decay: float
    names: tuple[str, ...]
    numbers: int


def landings(bundle: Bundle, model: nn.Module) -> tuple[Landing, ...]:
    """Return every param group of the bundle, and last the parameters of the model that are in none."""
    names = {id(p): name for name, p in model.named_parameters()}
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    rows = []
    for part, optimizer in bundle.parts.items():
        for group in optimizer.param_groups:
            inside = tuple(names.get(id(p), "?") for p in group["params"])
            decay = max(float(group.get(key) or 0.0) for key in _DECAYS)
            count = sum(p.numel() for p in group["params"])
            rows.append(Landing("" if part == MAIN else part, float(group["lr"]), decay, inside, count))
    held = {name for landing in rows for name in landing.names}
    rest = tuple(name for name in sizes if name not in held)
    if rest:
        rows.append(Landing("", None, 0.0, rest, sum(sizes[name] for name in rest)))
    return tuple(rows)
