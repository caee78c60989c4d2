from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import Multipliers
from tuner.core.errors import WorkloadError
from tuner.training.optimizers import Bundle, build

CYCLED = [name for name, row in FAMILIES.items() if row.momentum is not None]


@pytest.mark.parametrize("name", CYCLED)
def test_apply_acts_on_the_base_values_of_every_family(name: str) -> None:
    bundle = build(FAMILIES[name].default, nn.Linear(3, 2), 10)
    base = [(g["lr"], g["momentum"] if "momentum" in g else g["betas"][0]) for g in bundle.parts["main"].param_groups]
    for factor in (0.5, 0.25):
        bundle.apply(Multipliers(factor, 0.9))
        for group, (rate, momentum) in zip(bundle.parts["main"].param_groups, base, strict=True):
            assert group["lr"] == rate * factor
            assert (group["momentum"] if "momentum" in group else group["betas"][0]) == momentum * 0.9


def test_a_schedule_without_momentum_leaves_it_alone() -> None:
    bundle = build(FAMILIES["adamw"].default, nn.Linear(3, 2), 10)
    bundle.apply(Multipliers(0.5))
    assert bundle.parts["main"].param_groups[0]["betas"] == (0.9, 0.999)


def test_groups_keep_their_own_base_learning_rates() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    bundle = Bundle({"main": torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.01}], lr=0.1)})
    bundle.apply(Multipliers(0.5))
    assert [group["lr"] for group in bundle.parts["main"].param_groups] == [0.05, 0.005]


def test_two_models_step_apart_and_are_scheduled_together() -> None:
    models = {"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)}
    bundle = build(FAMILIES["sgdm"].default, models, 10)
    bundle.apply(Multipliers(0.5))
    before = {name: model.weight.detach().clone() for name, model in models.items()}
    bundle["discriminator"].backward(models["discriminator"](models["generator"](torch.ones(1, 2))).sum())
    assert models["generator"].weight.grad is None, "a loss reaches the bundle's own parameters only"
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


def sgd(model: nn.Module, **training: Any) -> Bundle:
    return Bundle({"main": torch.optim.SGD(model.parameters(), lr=0.1)}, training)


def test_accumulated_batches_step_as_one_batch_of_their_mean() -> None:
    torch.manual_seed(0)
    one, many = nn.Linear(3, 1), nn.Linear(3, 1)
    many.load_state_dict(one.state_dict())
    x = torch.randn(8, 3)
    whole, parts = sgd(one), sgd(many, accumulation=4)
    for _ in range(2):
        whole.zero_grad()
        whole.backward(one(x).square().mean())
        assert whole.step()
        updated = []
        for part in x.split(2):
            parts.zero_grad()
            parts.backward(many(part).square().mean())
            updated.append(parts.step())
        assert updated == [False, False, False, True]
    assert torch.allclose(one.weight, many.weight, atol=1e-7)


@pytest.mark.parametrize("training", [{"accumulation": 2}, {"precision": "float16"}])
def test_gradients_that_were_not_divided_and_scaled_are_refused(training: dict[str, Any]) -> None:
    model = nn.Linear(2, 1)
    bundle = sgd(model, **training)
    model(torch.ones(1, 2)).sum().backward()
    with pytest.raises(WorkloadError, match=r"expected gradients that are divided and scaled. Call bundle.backward"):
        bundle.step()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_gradients_are_clipped_after_they_are_unscaled(precision: str) -> None:
    model = nn.Linear(2, 1, bias=False)
    bundle = sgd(model, clip_norm=0.5, precision=precision)
    bundle.backward(model(torch.tensor([[30.0, 40.0]])).sum())
    bundle.step()
    assert model.weight.grad is not None
    assert model.weight.grad.flatten().tolist() == pytest.approx([0.3, 0.4], abs=1e-4)
    bundle = sgd(model, clip_value=0.1, precision=precision)
    bundle.zero_grad()
    bundle.backward(model(torch.tensor([[30.0, -40.0]])).sum())
    bundle.step()
    assert model.weight.grad.flatten().tolist() == pytest.approx([0.1, -0.1])


def test_float16_skips_updates_that_overflow_and_lowers_its_scale() -> None:
    model = nn.Linear(1, 1, bias=False)
    bundle = sgd(model, precision="float16")
    before = model.weight.item()
    scale = bundle.state_dict()["main"]["scaler"]["scale"]
    bundle.backward(model(torch.tensor([[3e38]])).sum())
    bundle.step()
    assert model.weight.item() == before
    assert bundle.state_dict()["main"]["scaler"]["scale"] == scale / 2


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
    bundle = build(FAMILIES[name].default, model, 10)
    go(model, bundle, 0, 4)
    other = nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    second = build(FAMILIES[name].default, other, 10)
    second.load_state_dict(copy.deepcopy(bundle.state_dict()))
    go(model, bundle, 4, 8)
    go(other, second, 4, 8)
    assert torch.equal(model.weight, other.weight)
    with pytest.raises(ValueError, match="parts"):
        second.load_state_dict({"x": {}})
