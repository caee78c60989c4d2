from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.errors import InputError
from tuner.families import FAMILIES
from tuner.records import Setting
from tuner.training.optimizers import BUILDERS, build

STEPS = 7
Update = Callable[[float, float, dict[str, float], Mapping[str, float]], float]


def test_the_table_has_a_builder_for_every_family() -> None:
    assert set(BUILDERS) == set(FAMILIES)


def sgdm(w: float, g: float, s: dict[str, float], p: Mapping[str, float], nesterov: bool = False) -> float:
    g += p["l2"] * w
    s["b"] = p["momentum"] * s["b"] + g if "b" in s else g
    return w - p["learning_rate"] * (g + p["momentum"] * s["b"] if nesterov else s["b"])


def nag(w: float, g: float, s: dict[str, float], p: Mapping[str, float]) -> float:
    return sgdm(w, g, s, p, nesterov=True)


def adam(w: float, g: float, s: dict[str, float], p: Mapping[str, float]) -> float:
    g += p.get("l2", 0.0) * w
    w -= p["learning_rate"] * p.get("weight_decay", 0.0) * w
    s["t"] = s.get("t", 0) + 1
    s["m"] = p["beta1"] * s.get("m", 0.0) + (1 - p["beta1"]) * g
    s["v"] = p["beta2"] * s.get("v", 0.0) + (1 - p["beta2"]) * g * g
    m, v = s["m"] / (1 - p["beta1"] ** s["t"]), s["v"] / (1 - p["beta2"] ** s["t"])
    return w - p["learning_rate"] * m / (math.sqrt(v) + p["eps"])


def nadam(w: float, g: float, s: dict[str, float], p: Mapping[str, float]) -> float:
    g += p["l2"] * w
    t = s["t"] = s.get("t", 0) + 1
    mu = p["beta1"] * (1 - 0.5 * 0.96 ** (t * p["momentum_decay"]))
    after = p["beta1"] * (1 - 0.5 * 0.96 ** ((t + 1) * p["momentum_decay"]))
    s["mu"] = s.get("mu", 1.0) * mu
    s["m"] = p["beta1"] * s.get("m", 0.0) + (1 - p["beta1"]) * g
    s["v"] = p["beta2"] * s.get("v", 0.0) + (1 - p["beta2"]) * g * g
    m = after * s["m"] / (1 - s["mu"] * after) + (1 - mu) * g / (1 - s["mu"])
    return w - p["learning_rate"] * m / (math.sqrt(s["v"] / (1 - p["beta2"] ** t)) + p["eps"])


REFERENCE: dict[str, tuple[Update, dict[str, Any]]] = {
    "sgdm": (sgdm, {"learning_rate": 0.1, "momentum": 0.8, "l2": 0.05}),
    "nag": (nag, {"learning_rate": 0.1, "momentum": 0.8, "l2": 0.05}),
    "adam": (adam, {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "l2": 0.05}),
    "adamw": (adam, {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.5}),
    "nadam": (
        nadam,
        {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "l2": 0.05, "momentum_decay": 0.1},
    ),
}


def gradients(step: int) -> Tensor:
    return torch.sin(torch.arange(4, dtype=torch.float64) * 1.7 + step).reshape(2, 2)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_does_what_its_formula_says(name: str) -> None:
    """Every hyperparameter is set away from its default, so a swapped or a dropped one shows."""
    update, given = REFERENCE[name]
    assert set(given) == {row.name for row in FAMILIES[name].hyperparameters}
    model = nn.Linear(2, 2, bias=False, dtype=torch.float64)
    expected = [float(w) for w in model.weight.detach().flatten()]
    states: list[dict[str, float]] = [{} for _ in expected]
    bundle = build(Setting(name, given, {"kind": "constant"}), model)
    for step in range(STEPS):
        grad = gradients(step)
        model.weight.grad = grad.clone()
        bundle.step()
        flat = grad.flatten().tolist()
        expected = [update(w, g, s, given) for w, g, s in zip(expected, flat, states, strict=True)]
    torch.testing.assert_close(model.weight.detach().flatten(), torch.tensor(expected, dtype=torch.float64))


def test_biases_do_not_decay() -> None:
    model = nn.Linear(2, 2)
    bundle = build(Setting("adamw", {"weight_decay": 1.0, "learning_rate": 0.5}, {}), model)
    bias, weight = model.bias.detach().clone(), model.weight.detach().clone()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    bundle.step()
    assert torch.equal(model.bias, bias)
    torch.testing.assert_close(model.weight.detach(), weight * 0.5)


def test_nag_without_momentum_is_plain_gradient_descent() -> None:
    model = nn.Linear(2, 1, bias=False)
    start = model.weight.detach().clone()
    bundle = build(Setting("nag", {"learning_rate": 0.5, "momentum": 0.0, "l2": 0.0}, {}), model)
    model.weight.grad = torch.ones(1, 2)
    bundle.step()
    torch.testing.assert_close(model.weight.detach(), start - 0.5)


@pytest.mark.parametrize(
    ("family", "given", "words"),
    [
        ("sgd", {}, "sgdm"),
        ("adam", {"weight_decay": 0.1}, "no hyperparameter 'weight_decay'"),
        ("adam", {"beta1": 1.0}, "beta1"),
        ("sgdm", {"learning_rate": float("nan")}, "learning_rate"),
    ],
)
def test_a_wrong_setting_is_refused(family: str, given: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        build(Setting(family, given, {}), nn.Linear(1, 1))
