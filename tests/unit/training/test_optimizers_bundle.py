from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tuner.families import FAMILIES
from tuner.schedules import Multipliers
from tuner.training.optimizers import Bundle, build


@pytest.mark.parametrize("name", FAMILIES)
def test_apply_acts_on_the_base_values_of_every_family(name: str) -> None:
    bundle = build(FAMILIES[name].default, nn.Linear(3, 2))
    values = FAMILIES[name].default.hyperparameters
    for factor in (0.5, 0.25):
        bundle.apply(Multipliers(factor, 0.9))
        for group in bundle.parts["main"].param_groups:
            assert group["lr"] == values["learning_rate"] * factor
            momentum = group["momentum"] if "momentum" in group else group["betas"][0]
            assert momentum == values[FAMILIES[name].momentum or ""] * 0.9
            if "betas" in group:
                assert group["betas"][1] == values["beta2"]
    assert bundle.learning_rate == values["learning_rate"] * 0.25


def test_a_schedule_without_momentum_leaves_it_alone() -> None:
    bundle = build(FAMILIES["adamw"].default, nn.Linear(3, 2))
    bundle.apply(Multipliers(0.5))
    assert bundle.parts["main"].param_groups[0]["betas"] == (0.9, 0.999)


def test_groups_keep_their_own_base_learning_rates() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    bundle = Bundle({"main": torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.01}], lr=0.1)})
    bundle.apply(Multipliers(0.5))
    assert [group["lr"] for group in bundle.parts["main"].param_groups] == [0.05, 0.005]


def test_two_models_step_apart_and_are_scheduled_together() -> None:
    models = {"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)}
    bundle = build(FAMILIES["sgdm"].default, models)
    bundle.apply(Multipliers(0.5))
    before = {name: model.weight.detach().clone() for name, model in models.items()}
    (models["discriminator"](models["generator"](torch.ones(1, 2)))).sum().backward()
    bundle["discriminator"].step()
    assert torch.equal(models["generator"].weight, before["generator"])
    assert not torch.equal(models["discriminator"].weight, before["discriminator"])
    bundle["generator"].apply(Multipliers(0.1))
    assert bundle["generator"].learning_rate == pytest.approx(0.01)
    assert bundle["discriminator"].learning_rate == 0.05
    bundle.zero_grad()
    assert all(p.grad is None for model in models.values() for p in model.parameters())
    with pytest.raises(KeyError, match="critic"):
        bundle["critic"]


def test_a_partner_belongs_to_its_model() -> None:
    p, q = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    bundle = Bundle({"net": torch.optim.SGD([p], lr=1.0), "net.partner": torch.optim.Adam([q], lr=0.1)})
    assert list(bundle["net"].parts) == ["net", "net.partner"]


class Switching(torch.optim.SGD):
    mode = ""

    def train(self) -> None:
        self.mode = "train"

    def eval(self) -> None:
        self.mode = "eval"


def test_an_optimizer_with_a_switch_is_switched() -> None:
    part = Switching([nn.Parameter(torch.ones(1))], lr=0.1)
    bundle = Bundle({"main": part, "other": torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)})
    bundle.eval()
    assert part.mode == "eval"
    bundle.train()
    assert part.mode == "train"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_restored_bundle_goes_on_bit_for_bit(name: str) -> None:
    def grads(model: nn.Linear, step: int) -> None:
        model.weight.grad = torch.sin(torch.arange(6.0) + step).reshape(2, 3)
        model.bias.grad = torch.cos(torch.arange(2.0) + step)

    def go(model: nn.Linear, bundle: Bundle, start: int, stop: int) -> None:
        for step in range(start, stop):
            bundle.apply(Multipliers(1 - step / 10, 1 - step / 20))
            grads(model, step)
            bundle.step()

    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    bundle = build(FAMILIES[name].default, model)
    go(model, bundle, 0, 4)
    other = nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    second = build(FAMILIES[name].default, other)
    second.load_state_dict(copy.deepcopy(bundle.state_dict()))
    go(model, bundle, 4, 8)
    go(other, second, 4, 8)
    assert torch.equal(model.weight, other.weight)
    with pytest.raises(ValueError, match="parts"):
        second.load_state_dict({"x": {}})
