"""An optimizer as Python source: its class with all arguments, and the decay that the class lacks; no schedule.

The class and its arguments are those of the family's row in ``tuner.catalog.families``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.catalog.families.optimizer_class import DECOUPLED, FINAL_RATE, SGD_PHASE, Options
from tuner.catalog.families.optimizer_class import arguments as arguments_of
from tuner.exports.writing import Plan, call, literal, number


@dataclass(frozen=True, slots=True)
class Raw:
    """A value that is an expression already."""

    text: str


_TOTAL_STEPS = Raw("float(total_steps)")
_TORCH = "torch.optim"


@dataclass(frozen=True, slots=True)
class Decay:
    """How a setting decays: what goes to the class as ``weight_decay``, and what is done before its step."""

    own: float = 0.0
    l2: float = 0.0
    decoupled: float = 0.0
    options: Options = field(default_factory=dict)
    name: str = ""

    @property
    def is_added(self) -> bool:
        """Whether the class has to be extended."""
        return bool(self.l2 or self.decoupled)

    @property
    def any(self) -> bool:
        return bool(self.own or self.l2 or self.decoupled)


def decay(made: Plan) -> Decay:
    """Divide L2 and decoupled decay between the class and what is done before its step, as the study trained."""
    of = made.row.optimizer
    l2, decoupled = made.values.get("l2", 0.0), made.values.get("weight_decay", 0.0)
    if of.weight_decay == DECOUPLED:
        return Decay(own=decoupled, l2=l2)
    if l2 and decoupled:
        return Decay(l2=l2, decoupled=decoupled)
    if decoupled and (of.decoupling or of.decoupled_class):
        return Decay(own=decoupled, options=of.decoupling, name=of.decoupled_class)
    return Decay(own=l2, decoupled=decoupled)


def arguments(made: Plan) -> dict[str, str]:
    """Return the class's keyword arguments as source, without rate and decay."""
    given = arguments_of({**made.row.optimizer.options, **decay(made).options}, made.values, _TOTAL_STEPS)
    if made.row.optimizer.adapter == FINAL_RATE and made.is_plain:
        given["final_lr"] = made.values["final_lr"] * made.factor
    return written(given)


def written(given: Mapping[str, Any]) -> dict[str, str]:
    """Return arguments with their values as source."""
    return {key: value.text if isinstance(value, Raw) else literal(value) for key, value in given.items()}


def class_name(made: Plan) -> str:
    """Return the name under which the code builds the class: torch's by its module, or that of the extended class."""
    of, how = made.row.optimizer, decay(made)
    if how.is_added or of.adapter == SGD_PHASE:
        return "Decaying" + of.name if how.is_added else "Scheduled" + of.name
    return _full(made)


def imports(made: Plan) -> list[str]:
    """Return the import lines of the libraries that torch does not come with."""
    of, names = made.row.optimizer, dict[str, list[str]]()
    if of.module != _TORCH:
        names.setdefault(of.module, []).append(of.name)
    if made.row.looks_ahead:
        names.setdefault("pytorch_optimizer", []).append("Lookahead")
    return [f"from {module} import {', '.join(sorted(classes))}" for module, classes in names.items()]


def class_code(made: Plan) -> str:
    """Return the source of the extended class; empty where the library's own does."""
    how = decay(made)
    if made.row.optimizer.adapter == SGD_PHASE:
        return _swats(made, how)
    if not how.is_added:
        return ""
    return f'''class {class_name(made)}({_full(made)}):
    """{made.row.optimizer.name} {_added(how)}."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
{_loop(how)}        super().step()
        return loss
'''


def constructor(made: Plan, params: str, single: bool) -> str:
    """Return the expression that builds the optimizer; ``single``: one group holds all, and its decay stands here."""
    given = {"*": params, "lr": number(made.rate)}
    how = decay(made)
    if single and (how.own or made.row.optimizer.weight_decay == DECOUPLED):
        given["weight_decay"] = number(how.own)
    built = call(class_name(made), {**given, **arguments(made)})
    if not made.row.looks_ahead:
        return built
    ahead = {
        "*": built,
        "k": number(made.values["lookahead_k"]),
        "alpha": number(made.values["lookahead_alpha"]),
    }
    return call("Lookahead", ahead)


def _full(made: Plan) -> str:
    of = made.row.optimizer
    name = decay(made).name or of.name
    return f"{_TORCH}.{name}" if of.module == _TORCH else name


def _added(how: Decay) -> str:
    parts = ["with an L2 penalty in the gradient"] if how.l2 else []
    parts += ["after decoupled weight decay (w *= 1 - lr * decay, arXiv 1711.05101)"] if how.decoupled else []
    return ", ".join(parts)


def _loop(how: Decay) -> str:
    lines = ['            for p in [p for p in group["params"] if p.grad is not None]:']
    lines += ['                p.grad.add_(p, alpha=group["l2"])'] if how.l2 else []
    lines += ['                p.mul_(1 - group["lr"] * group["decay"])'] if how.decoupled else []
    return "\n".join(lines) + "\n"


def _swats(made: Plan, how: Decay) -> str:
    return f'''class {class_name(made)}(SWATS):
    """SWATS {_added(how) + "; " if how.is_added else ""}the rate that it finds for SGD goes on with the schedule."""

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
{_loop(how) if how.is_added else ""}            group["planned_lr"] = group["lr"]
            group["lr"] *= group.get("sgd_ratio", 1.0)
        super().step()
        for group in self.param_groups:
            if group["phase"] == "sgd" and "sgd_ratio" not in group:
                group["sgd_ratio"] = group["lr"] / group["planned_lr"]
            group["lr"] = group["planned_lr"]
        return loss
'''
