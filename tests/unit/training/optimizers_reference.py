"""Slow, plain references for the optimizer families: one tensor in float64, one step a call, as the formulas read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

STEPS = 7
"""How many steps the references are asked for; AdEMAMix times its warm-ups to them."""

Values = Mapping[str, float]
Update = Callable[[Tensor, Tensor, dict[str, Any], Values], Tensor]
"""From weights, gradient, state (empty at first; kept from step to step) and hyperparameters to the new weights."""


def _coupled(w: Tensor, g: Tensor, p: Values) -> Tensor:
    return g + p.get("l2", 0.0) * w


def _decayed(w: Tensor, p: Values) -> Tensor:
    return w * (1 - p["learning_rate"] * p.get("weight_decay", 0.0))


def _average(s: dict[str, Any], name: str, beta: float, value: Tensor) -> Tensor:
    s[name] = beta * s.get(name, torch.zeros_like(value)) + (1 - beta) * value
    return s[name]


def _count(s: dict[str, Any]) -> int:
    s["t"] = s.get("t", 0) + 1
    return int(s["t"])


def sgd(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    return w - p["learning_rate"] * _coupled(w, g, p)


def _heavy_ball(s: dict[str, Any], g: Tensor, p: Values) -> Tensor:
    s["m"] = p["momentum"] * s["m"] + (1 - p.get("dampening", 0.0)) * g if "m" in s else g
    m: Tensor = s["m"]
    return m


def sgdm(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    m = _heavy_ball(s, _coupled(w, g, p), p)
    return _decayed(w, p) - p["learning_rate"] * m


def nag(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    g = _coupled(w, g, p)
    m = _heavy_ball(s, g, p)
    return _decayed(w, p) - p["learning_rate"] * (g + p["momentum"] * m)


def adagrad(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    s["v"] = s.get("v", torch.full_like(w, p["initial_accumulator"])) + g * g
    rate = p["learning_rate"] / (1 + (t - 1) * p["lr_decay"])
    return _decayed(w, p) - rate * g / (s["v"].sqrt() + p["eps"])


def rmsprop(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    g = _coupled(w, g, p)
    v = _average(s, "v", p["alpha"], g * g)
    if p["centered"]:
        v = v - _average(s, "mean", p["alpha"], g) ** 2
    s["m"] = p["momentum"] * s.get("m", 0.0) + g / (v.sqrt() + p["eps"])
    return _decayed(w, p) - p["learning_rate"] * s["m"]


def adadelta(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    g = _coupled(w, g, p)
    v = _average(s, "v", p["rho"], g * g)
    step = g * (s.get("u", torch.zeros_like(w)) + p["eps"]).sqrt() / (v + p["eps"]).sqrt()
    _average(s, "u", p["rho"], step * step)
    return _decayed(w, p) - p["learning_rate"] * step


def adam(w: Tensor, g: Tensor, s: dict[str, Any], p: Values, largest: bool = False) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    m, v = _average(s, "m", p["beta1"], g), _average(s, "v", p["beta2"], g * g)
    if largest:
        v = s["most"] = torch.maximum(s.get("most", torch.zeros_like(v)), v)
    m, v = m / (1 - p["beta1"] ** t), v / (1 - p["beta2"] ** t)
    return _decayed(w, p) - p["learning_rate"] * m / (v.sqrt() + p["eps"])


def amsgrad(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    return adam(w, g, s, p, largest=True)


def adamax(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    m = _average(s, "m", p["beta1"], g)
    s["u"] = torch.maximum(p["beta2"] * s.get("u", torch.zeros_like(w)), g.abs() + p["eps"])
    return _decayed(w, p) - p["learning_rate"] * m / (1 - p["beta1"] ** t) / s["u"]


def nadam(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    now, after = (p["beta1"] * (1 - 0.5 * 0.96 ** (i * p["momentum_decay"])) for i in (t, t + 1))
    s["product"] = s.get("product", 1.0) * now
    m, v = _average(s, "m", p["beta1"], g), _average(s, "v", p["beta2"], g * g)
    ahead = after * m / (1 - s["product"] * after) + (1 - now) * g / (1 - s["product"])
    return _decayed(w, p) - p["learning_rate"] * ahead / ((v / (1 - p["beta2"] ** t)).sqrt() + p["eps"])


def radam(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    m = _average(s, "m", p["beta1"], g) / (1 - p["beta1"] ** t)
    v = _average(s, "v", p["beta2"], g * g)
    most = 2 / (1 - p["beta2"]) - 1
    length = most - 2 * t * p["beta2"] ** t / (1 - p["beta2"] ** t)
    if length <= 5:
        return _decayed(w, p) - p["learning_rate"] * m
    factor = math.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    scale = factor * math.sqrt(1 - p["beta2"] ** t) / (v.sqrt() + p["eps"])
    return _decayed(w, p) - p["learning_rate"] * m * scale


def adafactor(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    w = _decayed(w, p)
    beta2 = 1 - t ** p["beta2_decay"]
    rows = _average(s, "rows", beta2, (g * g).mean(1, keepdim=True))
    columns = _average(s, "columns", beta2, (g * g).mean(0, keepdim=True))
    v = (rows @ columns) / rows.mean().clamp(min=p["eps1"])
    u = g / v.clamp(min=p["eps1"] ** 2).sqrt()
    scale = max(p["eps2"], _rms(_raised(w, p))) * min(p["learning_rate"], t**-0.5)
    return w - scale * u / max(1.0, _rms(u) / p["clip"])


def _raised(w: Tensor, p: Values) -> Tensor:
    """Torch takes the scale of the weights from before their decay."""
    return w / (1 - p["learning_rate"] * p["weight_decay"])


def _rms(x: Tensor) -> float:
    return float((x * x).mean().sqrt())


def bounds(t: int, p: Values, factor: float = 1.0) -> tuple[float, float]:
    """The learning rates between which AdaBound clips at step ``t``; ``factor`` is the schedule's."""
    final = p["final_lr"] * factor
    return final * (1 - 1 / (p["gamma"] * t + 1)), final * (1 + 1 / (p["gamma"] * t))


def adabound(w: Tensor, g: Tensor, s: dict[str, Any], p: Values, largest: bool = False) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    m, v = _average(s, "m", p["beta1"], g), _average(s, "v", p["beta2"], g * g)
    if largest:
        v = s["most"] = torch.maximum(s.get("most", torch.zeros_like(v)), v)
    rate = p["learning_rate"] * math.sqrt(1 - p["beta2"] ** t) / (1 - p["beta1"] ** t)
    return _decayed(w, p) - (rate / (v.sqrt() + p["eps"])).clamp(*bounds(t, p)) * m


def swats(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    """Until it switches; its eps is added before the bias of the second moment is corrected."""
    t, g = _count(s), _coupled(w, g, p)
    m, v = _average(s, "m", p["beta1"], g), _average(s, "v", p["beta2"], g * g)
    rate = p["learning_rate"] * math.sqrt(1 - p["beta2"] ** t) / (1 - p["beta1"] ** t)
    return _decayed(w, p) - rate * m / (v.sqrt() + p["eps"])


def amsbound(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    return adabound(w, g, s, p, largest=True)


def lookahead_sgdm(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    s.setdefault("slow", w)
    w = sgdm(w, g, s, p)
    if _count(s) % p["lookahead_k"] == 0:
        s["slow"] = w = s["slow"] + p["lookahead_alpha"] * (w - s["slow"])
    return w


def lookahead_adamw(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    s.setdefault("slow", w)
    w = adam(w, g, s, p)
    if s["t"] % p["lookahead_k"] == 0:
        s["slow"] = w = s["slow"] + p["lookahead_alpha"] * (w - s["slow"])
    return w


def lion(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    g = _coupled(w, g, p)
    mixed = p["beta1"] * s.get("m", torch.zeros_like(w)) + (1 - p["beta1"]) * g
    _average(s, "m", p["beta2"], g)
    return _decayed(w, p) - p["learning_rate"] * mixed.sign()


def lamb(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    g = _coupled(w, g, p)
    m, v = _average(s, "m", p["beta1"], g), _average(s, "v", p["beta2"], g * g)
    u = m / (v.sqrt() + p["eps"]) + p["weight_decay"] * w
    return w - p["learning_rate"] * u * w.norm().clamp(max=10) / (u.norm() + p["eps"])


def lars(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    local = p["trust"] * w.norm() / (g.norm() + p["l2"] * w.norm())
    s.setdefault("m", torch.zeros_like(w))
    return w - p["learning_rate"] * _heavy_ball(s, local * _coupled(w, g, p), p)


def ademamix(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    share = min(1.0, t / STEPS)
    b1, b3 = math.log(p["beta1"]), math.log(p["beta3"])
    beta3 = min(p["beta3"], math.exp(b1 * b3 / ((1 - share) * b3 + share * b1)))
    m = _average(s, "m", p["beta1"], g) / (1 - p["beta1"] ** t)
    v = _average(s, "v", p["beta2"], g * g) / (1 - p["beta2"] ** t)
    m = m + p["alpha"] * share * _average(s, "slow", beta3, g)
    return _decayed(w, p) - p["learning_rate"] * m / (v.sqrt() + p["eps"])


def adabelief(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    m = _average(s, "m", p["beta1"], g)
    s["v"] = _average(s, "v", p["beta2"], (g - m) ** 2) + p["eps"]
    m, v = m / (1 - p["beta1"] ** t), s["v"] / (1 - p["beta2"] ** t)
    return _decayed(w, p) - p["learning_rate"] * m / (v.sqrt() + p["eps"])


def adan(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = _count(s), _coupled(w, g, p)
    change = g - s.get("last", g)
    s["last"] = g
    m, d = _average(s, "m", p["beta1"], g), _average(s, "d", p["beta2"], change)
    v = _average(s, "v", p["beta3"], (g + p["beta2"] * change) ** 2) / (1 - p["beta3"] ** t)
    u = m / (1 - p["beta1"] ** t) + p["beta2"] * d / (1 - p["beta2"] ** t)
    w = w - p["learning_rate"] * u / (v.sqrt() + p["eps"])
    return w / (1 + p["learning_rate"] * p["weight_decay"])


def prodigy(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    g, d = _coupled(w, g, p), s.get("d", p["d0"])
    beta3 = math.sqrt(p["beta2"])
    s.setdefault("first", w)
    rate = d * p["learning_rate"]
    s["top"] = beta3 * s.get("top", 0.0) + d / p["d0"] * rate * float((g * (s["first"] - w)).sum())
    s["below"] = beta3 * s.get("below", torch.zeros_like(w)) + d / p["d0"] * d * g
    m = _average(s, "m", p["beta1"], d * g)
    v = _average(s, "v", p["beta2"], d * d * g * g)
    found = p["d_coef"] * s["top"] / float(s["below"].abs().sum())
    start = max(d, found) if d == p["d0"] else d
    s["most"] = max(s.get("most", p["d0"]), found)
    s["d"] = max(s["most"], start) if d == p["d0"] else s["most"]
    return w * (1 - rate * p["weight_decay"]) - rate * m / (v.sqrt() + d * p["eps"])


def _schedule_free(y: Tensor, u: Tensor, s: dict[str, Any], p: Values, share: float) -> Tensor:
    """One step along ``u``; the weights that are trained in, and out. ``x`` of the state is what is evaluated."""
    z, x = s.get("z", y), s.get("x", y)
    s["z"] = z - p["learning_rate"] * u
    s["x"] = x + (s["z"] - x) / _count(s)
    new: Tensor = (1 - share) * s["z"] + share * s["x"]
    return new


def schedule_free_adamw(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    t, g = s.get("t", 0) + 1, _coupled(w, g, p)
    v = _average(s, "v", p["beta2"], g * g) / (1 - p["beta2"] ** t)
    return _schedule_free(w, g / (v.sqrt() + p["eps"]) + p["weight_decay"] * w, s, p, p["beta1"])


def schedule_free_sgd(w: Tensor, g: Tensor, s: dict[str, Any], p: Values) -> Tensor:
    return _schedule_free(w, _coupled(w, g, p), s, p, p["momentum"])


_DECAYS = {"l2": 0.05, "weight_decay": 0.3}
_MOMENTS = {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3}
_BALL = {"learning_rate": 0.1, "momentum": 0.8}

REFERENCE: dict[str, tuple[Update, dict[str, float]]] = {
    "sgd": (sgd, {"learning_rate": 0.1, "l2": 0.05}),
    "sgdm": (sgdm, {**_BALL, "dampening": 0.3, "l2": 0.05}),
    "nag": (nag, {**_BALL, **_DECAYS}),
    "sgdw": (sgdm, {**_BALL, "dampening": 0.0, "weight_decay": 0.3}),
    "adagrad": (adagrad, {"learning_rate": 0.1, "eps": 0.01, "initial_accumulator": 0.5, "lr_decay": 0.2, **_DECAYS}),
    "rmsprop": (rmsprop, {**_BALL, "eps": 0.01, "alpha": 0.9, "centered": 1, **_DECAYS}),
    "adadelta": (adadelta, {"learning_rate": 0.7, "eps": 0.01, "rho": 0.8, **_DECAYS}),
    "adam": (adam, {**_MOMENTS, "l2": 0.05}),
    "amsgrad": (amsgrad, {**_MOMENTS, **_DECAYS}),
    "adamax": (adamax, {**_MOMENTS, **_DECAYS}),
    "nadam": (nadam, {**_MOMENTS, **_DECAYS, "momentum_decay": 0.1}),
    "radam": (radam, {**_MOMENTS, **_DECAYS}),
    "adamw": (adam, {**_MOMENTS, "weight_decay": 0.3}),
    "adafactor": (
        adafactor,
        {"learning_rate": 0.3, "beta2_decay": -0.6, "eps1": 1e-3, "eps2": 1e-2, "clip": 1.1, **_DECAYS},
    ),
    "adabound": (adabound, {**_MOMENTS, **_DECAYS, "final_lr": 0.2, "gamma": 0.3}),
    "amsbound": (amsbound, {**_MOMENTS, **_DECAYS, "final_lr": 0.2, "gamma": 0.3}),
    "swats": (swats, {**_MOMENTS, **_DECAYS, "eps": 1e-6}),
    "lookahead-sgdm": (
        lookahead_sgdm,
        {**_BALL, "dampening": 0.0, "l2": 0.05, "lookahead_k": 3, "lookahead_alpha": 0.4},
    ),
    "lookahead-adamw": (lookahead_adamw, {**_MOMENTS, "weight_decay": 0.3, "lookahead_k": 2, "lookahead_alpha": 0.4}),
    "lion": (lion, {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, **_DECAYS}),
    "lamb": (lamb, {**_MOMENTS, **_DECAYS}),
    "lars": (lars, {**_BALL, "l2": 0.05, "trust": 0.1, "dampening": 0.3}),
    "prodigy": (prodigy, {**_MOMENTS, **_DECAYS, "learning_rate": 0.9, "d_coef": 2.0, "d0": 1e-3}),
    "ademamix": (ademamix, {**_MOMENTS, **_DECAYS, "beta3": 0.99, "alpha": 3.0}),
    "adabelief": (adabelief, {**_MOMENTS, **_DECAYS}),
    "adan": (adan, {**_MOMENTS, "beta3": 0.9, **_DECAYS}),
    "schedule-free-adamw": (schedule_free_adamw, {**_MOMENTS, **_DECAYS}),
    "schedule-free-sgd": (schedule_free_sgd, {**_BALL, "l2": 0.05}),
}
"""Each family with its reference, and with a value for every hyperparameter that is not its default."""
