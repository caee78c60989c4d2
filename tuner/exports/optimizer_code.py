"""An optimizer as Python source: its class with all arguments, and the decay that the class lacks; no schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

from tuner.exports.writing import Plan, call, literal, number

Values: TypeAlias = Mapping[str, float]
Options: TypeAlias = Callable[[Values], Mapping[str, Any]]

L2, DECOUPLED = "l2", "weight_decay"
"""What a class calls ``weight_decay``: the L2 penalty, or decoupled decay (or what the family has instead of it)."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A value that is an expression already."""

    text: str


@dataclass(frozen=True, slots=True)
class Class:
    """A row: the class, its arguments besides rate and decay, what its ``weight_decay`` is.

    ``decoupling`` are the class's own arguments that turn its L2 into decoupled decay, under the name in
    ``decoupled_name`` where that is another class.
    """

    module: str
    name: str
    options: Options
    own: str = L2
    decoupling: Mapping[str, Any] = field(default_factory=dict)
    decoupled_name: str = ""


@dataclass(frozen=True, slots=True)
class Decay:
    """How a setting decays: what goes to the class as ``weight_decay``, and what is done before its step."""

    own: float = 0.0
    l2: float = 0.0
    decoupled: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def is_added(self) -> bool:
        """Whether the class has to be extended."""
        return bool(self.l2 or self.decoupled)

    @property
    def any(self) -> bool:
        return bool(self.own or self.l2 or self.decoupled)


def row(made: Plan) -> Class:
    """Return the class of a plan's family, or of the one that it looks ahead over."""
    return CLASSES[made.base]


def decay(made: Plan) -> Decay:
    """Divide L2 and decoupled decay between the class and what is done before its step, as the study trained."""
    found = row(made)
    l2, later = made.values.get("l2", 0.0), made.values.get("weight_decay", 0.0)
    if found.own == DECOUPLED:
        return Decay(own=later, l2=l2)
    if l2 and later:
        return Decay(l2=l2, decoupled=later)
    if later and (found.decoupling or found.decoupled_name):
        return Decay(own=later, options=found.decoupling, name=found.decoupled_name)
    return Decay(own=l2, decoupled=later)


def arguments(made: Plan) -> dict[str, str]:
    """Return the class's keyword arguments as source, without rate and decay."""
    given = {**row(made).options(made.values), **decay(made).options}
    if made.base in ("adabound", "amsbound") and made.is_plain:
        given["final_lr"] = made.values["final_lr"] * made.factor
    return {key: value.text if isinstance(value, Raw) else literal(value) for key, value in given.items()}


def class_name(made: Plan) -> str:
    """Return the name under which the code builds the class: torch's by its module, or that of the extended class."""
    found, how = row(made), decay(made)
    if how.is_added or made.base == "swats":
        return "Decaying" + found.name if how.is_added else "Scheduled" + found.name
    return _full(made)


def imports(made: Plan) -> list[str]:
    """Return the import lines of the libraries that torch does not come with."""
    names: dict[str, list[str]] = {}
    if row(made).module != "torch.optim":
        names.setdefault(row(made).module, []).append(row(made).name)
    if made.looks_ahead:
        names.setdefault("pytorch_optimizer", []).append("Lookahead")
    return [f"from {module} import {', '.join(sorted(found))}" for module, found in names.items()]


def class_code(made: Plan) -> str:
    """Return the source of the extended class; empty where the library's own does."""
    how = decay(made)
    if made.base == "swats":
        return _swats(made, how)
    if not how.is_added:
        return ""
    return f'''class {class_name(made)}({_full(made)}):
    """{row(made).name} {_added(how)}."""

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
    if single and (how.own or row(made).own == DECOUPLED):
        given["weight_decay"] = number(how.own)
    built = call(class_name(made), {**given, **arguments(made)})
    if not made.looks_ahead:
        return built
    ahead = {
        "*": built,
        "k": number(made.values["lookahead_k"]),
        "alpha": number(made.values["lookahead_alpha"]),
    }
    return call("Lookahead", ahead)


def _full(made: Plan) -> str:
    found, name = row(made), decay(made).name or row(made).name
    return f"{found.module}.{name}" if found.module == "torch.optim" else name


def _added(how: Decay) -> str:
    said = ["with an L2 penalty in the gradient"] if how.l2 else []
    said += ["after decoupled weight decay (w *= 1 - lr * decay, arXiv 1711.05101)"] if how.decoupled else []
    return ", ".join(said)


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


# -- the table


def _betas(v: Values, count: int = 2) -> tuple[float, ...]:
    return tuple(v[f"beta{i}"] for i in range(1, count + 1))


def _moments(v: Values) -> dict[str, Any]:
    return {"betas": _betas(v), "eps": v["eps"]}


def _momentum(v: Values) -> dict[str, Any]:
    return {"momentum": v["momentum"]} | ({"dampening": v["dampening"]} if v["dampening"] else {})


def _nesterov(v: Values) -> dict[str, Any]:
    return {"momentum": v["momentum"], "nesterov": True} if v["momentum"] else {}


def _adagrad(v: Values) -> dict[str, Any]:
    named = {"lr_decay": v["lr_decay"], "initial_accumulator_value": v["initial_accumulator"]}
    return {"eps": v["eps"]} | {key: value for key, value in named.items() if value}


def _rmsprop(v: Values) -> dict[str, Any]:
    rest = {"momentum": v["momentum"]} if v["momentum"] else {}
    return {"alpha": v["alpha"], "eps": v["eps"]} | rest | ({"centered": True} if v["centered"] else {})


def _bounded(v: Values, **more: Any) -> dict[str, Any]:
    return {**_moments(v), "gamma": v["gamma"], "weight_decouple": False, **more}


def _lars(v: Values) -> dict[str, Any]:
    return {**_momentum(v), "trust_coefficient": v["trust"]}


def _prodigy(v: Values) -> dict[str, Any]:
    return {**_moments(v), "d0": v["d0"], "d_coef": v["d_coef"], "safeguard_warmup": True}


def _ademamix(v: Values) -> dict[str, Any]:
    named = {"betas": _betas(v, 3), "alpha": v["alpha"], "eps": v["eps"]}
    return {**named, "t_alpha_beta3": Raw("float(total_steps)"), "weight_decouple": True}


def _torch(name: str, options: Options, own: str = L2, **more: Any) -> Class:
    return Class("torch.optim", name, options, own, **more)


def _library(name: str, options: Options, own: str = DECOUPLED) -> Class:
    return Class("pytorch_optimizer", name, options, own)


_OWN_FLAG = {"decoupled_weight_decay": True}

CLASSES: Mapping[str, Class] = MappingProxyType(
    {
        "sgd": _torch("SGD", lambda v: {}),  # noqa: ARG005
        "sgdm": _torch("SGD", _momentum),
        "nag": _torch("SGD", _nesterov),
        "sgdw": _torch("SGD", _momentum),
        "adagrad": _torch("Adagrad", _adagrad),
        "rmsprop": _torch("RMSprop", _rmsprop),
        "adadelta": _torch("Adadelta", lambda v: {"rho": v["rho"], "eps": v["eps"]}),
        "adam": _torch("Adam", _moments),
        "amsgrad": _torch("Adam", lambda v: {**_moments(v), "amsgrad": True}, decoupled_name="AdamW"),
        "adamax": _torch("Adamax", _moments),
        "nadam": _torch(
            "NAdam", lambda v: {**_moments(v), "momentum_decay": v["momentum_decay"]}, decoupling=_OWN_FLAG
        ),
        "radam": _torch("RAdam", _moments, decoupling=_OWN_FLAG),
        "adamw": _torch("AdamW", _moments, DECOUPLED),
        "adafactor": _torch(
            "Adafactor",
            lambda v: {"beta2_decay": v["beta2_decay"], "eps": (v["eps1"], v["eps2"]), "d": v["clip"]},
            DECOUPLED,
        ),
        "muon": _library("Muon", lambda v: {"use_adjusted_lr": True, "weight_decouple": True}),  # noqa: ARG005
        "adabound": _library("AdaBound", _bounded, L2),
        "amsbound": _library("AdaBound", lambda v: _bounded(v, ams_bound=True), L2),
        "swats": _library("SWATS", _moments, L2),
        "lion": _library("Lion", lambda v: {"betas": _betas(v), "weight_decouple": True}),
        "lamb": _library("Lamb", lambda v: {**_moments(v), "weight_decouple": False, "adam_debias": True}),
        "lars": _library("LARS", _lars, L2),
        "soap": _library("SOAP", lambda v: {**_moments(v), "precondition_frequency": int(v["precondition_frequency"])}),
        "prodigy": _library("Prodigy", _prodigy),
        "ademamix": _library("AdEMAMix", _ademamix),
        "adabelief": _library("AdaBelief", lambda v: {**_moments(v), "weight_decouple": True}),
        "adan": _library("Adan", lambda v: {"betas": _betas(v, 3), "eps": v["eps"], "weight_decouple": False}),
        "schedule-free-adamw": Class("schedulefree", "AdamWScheduleFree", _moments, DECOUPLED),
        "schedule-free-sgd": Class("schedulefree", "SGDScheduleFree", lambda v: {"momentum": v["momentum"]}),
    }
)
"""One for each family; a family that looks ahead has the class of its base inside ``Lookahead``."""
