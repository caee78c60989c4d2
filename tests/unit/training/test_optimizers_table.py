"""One walk over the table of families; what only some of them do comes after it.

Whatever compares two computations, or one with a golden figure, trains a network in double precision whose gradients
have full rank: there the last bit, which depends on the processor, decides nothing.

Golden losses are written anew, after a change that is meant to move them, by
``python -m tests.unit.training.test_optimizers_table`` in the repository's root.
"""

from __future__ import annotations

import copy
import inspect
import io
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.catalog.families import FAMILIES, SWITCH, family
from tuner.catalog.schedules import Multipliers
from tuner.core.errors import InputError
from tuner.core.records import Outcome, Setting
from tuner.training.optimizers import Bundle, build
from tuner.training.optimizers.building import optimizer_of
from tuner.training.optimizers.from_row import loaded
from tuner.training.optimizers.special import ADAPTERS, hidden
from tuner.training.param_groups import Group, groups

from .helpers import TOY, assign, trained
from .optimizers_reference import REFERENCE, STEPS, bounds

GOLDEN = Path(__file__).with_name("golden_losses.json")
DERIVED = ("lookahead-lion", "lookahead-soap", "lookahead-prodigy", "lookahead-muon", "lookahead-swats")
WALK = (*FAMILIES, *DERIVED)

# Settings at which a few steps get somewhere; the others learn at a rate of 0.1.
SETTINGS: dict[str, dict[str, float]] = {
    "adadelta": {"learning_rate": 30.0},
    "adafactor": {"learning_rate": 0.3},
    "adagrad": {"learning_rate": 0.3},
    "radam": {"learning_rate": 0.3},
    "prodigy": {},
    "lars": {"learning_rate": 0.1, "trust": 0.1},
    "lookahead-prodigy": {},
}

SINGULAR = ("soap", "lookahead-soap")
"""Families that cannot train the toy the same on two processors.

SOAP steps along the eigenvectors of GG' and G'G. The toy's gradient is one row, so G'G has an eigenvalue 0 seven times,
and rounding chooses the basis of its eigenvectors: two roundings part ways by 7 %.
"""

TOY_TOLERANCE = {"muon": 0.02, "lookahead-muon": 0.02, "prodigy": 0.01, "lookahead-prodigy": 0.01}
"""How far a loss of the toy, in single precision, may be from its golden value, relatively; else 1e-4.

Another rounding moves losses by 1e-5 at most, but Prodigy's by 2e-3 (it divides by the distance from the first weights,
which is a rounding error at first), and Muon's bfloat16 products are summed otherwise on other processors.
"""

NETWORK_TOLERANCE = {"muon": 0.02, "lookahead-muon": 0.02}
"""The same for the network in double precision; else 1e-6. A change of 1e-15 moves no loss by more than 1e-8."""


class Network(nn.Module):
    """A convolution, a norm, a hidden and an output layer with their biases: six classes.

    The matrices are square, so that a gradient can have full rank on both sides; see ``SINGULAR``.
    """

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.hidden, self.output = nn.Linear(6, 6), nn.Linear(6, 6)
        self.to(kind)
        self.x = uniform(torch.Generator().manual_seed(1), 60, 2, 4, 4).to(kind)
        self.y = (self.x[:, 0].mean((1, 2)) > 0).long() * 3 + self.x[:, 1, :3, 0].argmax(1)

    def loss(self) -> Tensor:
        x = torch.relu(self.norm(self.convolution(self.x))).amax((2, 3))
        return nn.functional.cross_entropy(self.output(torch.tanh(self.hidden(x))), self.y)


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers of mean 0 and variance 1 that are the same on every processor; those of ``torch.randn`` are not."""
    return 12**0.5 * (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5)


def network(kind: torch.dtype = torch.float64) -> Network:
    torch.manual_seed(0)
    return Network(kind)


def train(
    model: Network, bundle: Bundle, start: int, stop: int, horizon: int = 20, momentum: float = 0.8
) -> list[float]:
    losses = []
    for step in range(start, stop):
        bundle.apply(Multipliers(1 - step / horizon, None if bundle.switches else 1 - (1 - momentum) * step / horizon))
        bundle.zero_grad()
        loss = model.loss()
        bundle.backward(loss)
        bundle.step()
        losses.append(loss.item())
    return losses


def network_losses(name: str) -> list[float]:
    model = network()
    bundle = build(Setting(name, settings(name), {}), model, 20)
    bundle.train()
    return train(model, bundle, 0, 20)[9::10]


def settings(name: str) -> dict[str, float]:
    return SETTINGS.get(name, {"learning_rate": 0.1})


def toy_losses(name: str) -> list[float]:
    schedule = dict(family(name).default_schedule)
    result = trained(assign(TOY, name, 64, hyperparameters=settings(name), schedule=schedule))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    return [measurement.values["loss"] for measurement in result.measurements]


class Read(dict[str, float]):
    """Hyperparameters that note which of them were read."""

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("name", WALK)
def test_every_hyperparameter_of_a_row_reaches_its_optimizer(name: str) -> None:
    """None is forgotten in ``OptimizerClass.options``; and the adapter that the row names exists."""
    row = family(name)
    assert row.optimizer.adapter in ADAPTERS, f"{row.name}: special.ADAPTERS has no {row.optimizer.adapter!r}"
    values = Read(row.complete({}))
    optimizer_of(row, values, groups(network(), {}), 20)
    unread = set(values) - values.names
    assert not unread, f"{row.name}: no argument of its class takes {', '.join(sorted(unread))}"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_class_of_a_row_takes_its_arguments(name: str) -> None:
    of = FAMILIES[name].optimizer
    taken = inspect.signature(loaded(of.module, of.name)).parameters
    refused = {"lr", "weight_decay", of.step, *of.options, *of.decoupling} - {""} - set(taken)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):  # it names only some of them
        assert not refused, f"{of.path} takes no {', '.join(sorted(refused))}"
    assert not of.decoupled_class or loaded(of.module, of.decoupled_class)


def test_the_walk_is_over_every_family() -> None:
    missing = set(WALK) - set(json.loads(GOLDEN.read_text())["network"])
    assert not missing, f"no golden losses of {', '.join(sorted(missing))}: see the top of this file"
    with pytest.raises(InputError, match="expected one of sgd"):
        build(Setting("lookahead", {}, {}), network(), 20)


@pytest.mark.parametrize("name", WALK)
def test_a_family_trains_the_toy_down_as_it_did_before(name: str) -> None:
    losses = toy_losses(name)
    assert losses[-1] < 0.25 * 3.6191, "the loss of the first weights is 3.6191"
    if name not in SINGULAR:
        golden = json.loads(GOLDEN.read_text())["toy"][name]
        assert losses == pytest.approx(golden, rel=TOY_TOLERANCE.get(name, 1e-4))


@pytest.mark.parametrize("name", WALK)
def test_a_family_trains_a_network_as_it_did_before(name: str) -> None:
    losses = network_losses(name)
    assert losses[1] < losses[0] < network().loss().item()
    golden = json.loads(GOLDEN.read_text())["network"][name]
    assert losses == pytest.approx(golden, rel=NETWORK_TOLERANCE.get(name, 1e-6))


def saved(state: Mapping[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("name", WALK)
def test_a_checkpoint_goes_on_bit_for_bit(name: str) -> None:
    setting = Setting(name, decays(name), {})
    model, other = network(torch.float32), network(torch.float32)
    bundle = build(setting, model, 20)
    bundle.train()
    train(model, bundle, 0, 9)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1.0)  # a fresh model that has nothing in common
    second = build(setting, other, 20)
    second.train()
    other.load_state_dict(saved(model.state_dict()))
    second.load_state_dict(saved(bundle.state_dict()))
    assert train(model, bundle, 9, 20) == train(other, second, 9, 20)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def decays(name: str, l2: float = 0.02, weight_decay: float = 0.2) -> dict[str, float]:
    """Both decays of a family, where it has them."""
    names = {row.name for row in family(name).hyperparameters}
    return {key: value for key, value in (("l2", l2), ("weight_decay", weight_decay)) if key in names}


@pytest.mark.parametrize("name", WALK)
def test_a_wrong_setting_is_refused(name: str) -> None:
    def refused(given: Mapping[str, Any], words: str) -> None:
        with pytest.raises(InputError, match=words):
            build(Setting(name, given, {}), nn.Linear(1, 1), 10)

    refused({"alpha_omega": 1.0}, f"family '{name}' has no hyperparameter 'alpha_omega'; expected one of learning_rate")
    for row in family(name).hyperparameters:
        refused({row.name: row.high * 2 + 1}, f"{row.name} of {name} is .*; expected")
        refused({row.name: row.low - 1}, f"{row.name} of {name} is .*; expected")
        refused({row.name: float("nan")}, f"{row.name} of {name} is nan; expected a number")
        if row.integer:
            refused({row.name: row.low + 0.5}, "expected a whole number")


@pytest.mark.parametrize("name", [*REFERENCE])
def test_a_family_does_what_its_formula_says(name: str) -> None:
    """Every hyperparameter is away from its default, so a swapped or a dropped one shows."""
    update, given = REFERENCE[name]
    assert set(given) == {row.name for row in family(name).hyperparameters}
    model = nn.Linear(2, 3, bias=False, dtype=torch.float64)
    weight, state = model.weight.detach().clone(), dict[str, Any]()
    bundle = build(Setting(name, given, {}), model, STEPS)
    bundle.train()
    for step in range(STEPS):
        grad = torch.sin(torch.arange(6, dtype=torch.float64) * 1.7 + step).reshape(3, 2)
        model.weight.grad = grad.clone()
        bundle.step()
        weight = update(weight, grad, state, given)
        torch.testing.assert_close(model.weight.detach(), weight, rtol=1e-7, atol=1e-8)
    if SWITCH in family(name).needs:
        bundle.eval()
        torch.testing.assert_close(model.weight.detach(), state["x"])


def test_only_soap_and_muon_have_no_reference() -> None:
    assert set(FAMILIES) - set(REFERENCE) == {"soap", "muon"}


def walked(name: str, given: Mapping[str, float], by_hand: Any = None, momentum: float | None = None) -> list[Tensor]:
    """The weights after six steps along given gradients; ``by_hand`` changes weights and gradients before each."""
    model = network()
    bundle = build(Setting(name, {**decays(name, 0.0, 0.0), **given}, {}), model, 6)
    bundle.train()
    optimizer = bundle.parts["main"]
    for step in range(6):
        bundle.apply(Multipliers(1 - step / 10, momentum))
        generator = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = uniform(generator, *p.shape)
                if by_hand is not None:
                    with torch.no_grad():
                        by_hand(p, group["lr"])
        bundle.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.parametrize("name", [n for n in WALK if "l2" in decays(n) and n != "lars"])
def test_l2_is_a_penalty_in_the_gradient_and_spares_biases_and_norms(name: str) -> None:
    def by_hand(p: Tensor, rate: float) -> None:
        if p.ndim > 1:
            p.grad += 0.02 * p

    torch.testing.assert_close(walked(name, {"l2": 0.02}), walked(name, {}, by_hand))


OWN_DECAY = {
    "adafactor",
    "lamb",
    "adan",
    "prodigy",
    "lookahead-prodigy",
    "soap",
    "lookahead-soap",
    "schedule-free-adamw",
}
"""Families whose decay is their own, at another place or of another strength."""


@pytest.mark.parametrize("name", [n for n in WALK if "weight_decay" in decays(n) and n not in OWN_DECAY])
def test_decoupled_decay_shrinks_the_weights_by_the_scheduled_rate(name: str) -> None:
    def by_hand(p: Tensor, rate: float) -> None:
        if p.ndim > 1:
            p.mul_(1 - rate * 0.2)

    torch.testing.assert_close(walked(name, {"weight_decay": 0.2}), walked(name, {}, by_hand))


@pytest.mark.parametrize("name", sorted(OWN_DECAY))
def test_decay_of_a_familys_own_shrinks_weights_and_spares_biases_and_norms(name: str) -> None:
    rate = {} if "prodigy" in name else {"learning_rate": 0.05}
    found = walked(name, {**rate, "weight_decay": 5.0}), walked(name, {**rate, "weight_decay": 0.0})
    for p, q in zip(*found, strict=True):
        if p.ndim > 1:
            assert p.norm() < q.norm()
        elif "prodigy" not in name:  # its distance is that of all parameters together
            torch.testing.assert_close(p, q)


@pytest.mark.parametrize("name", [n for n in WALK if family(n).momentum])
def test_a_schedules_momentum_reaches_the_update(name: str) -> None:
    given = {"momentum": 0.5} if name == "rmsprop" else {}
    alone, scheduled = walked(name, given), walked(name, given, momentum=0.5)
    assert not torch.equal(alone[0], scheduled[0])


# -- what only some do


def test_decoupled_decay_is_torchs_own() -> None:
    """The hook against the flags that torch has."""
    for name, kind in (("nadam", torch.optim.NAdam), ("radam", torch.optim.RAdam)):
        w, v = (nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in range(2))
        v.load_state_dict(w.state_dict())
        ours = build(Setting(name, {"learning_rate": 0.1, "weight_decay": 0.3}, {}), w, 10).parts["main"]
        own = kind(v.parameters(), lr=0.1, weight_decay=0.3, decoupled_weight_decay=True, foreach=True)
        for step in range(10):
            for model, optimizer in ((w, ours), (v, own)):
                model.weight.grad = torch.sin(torch.arange(16, dtype=torch.float64) + step).reshape(4, 4)
                optimizer.step()
        torch.testing.assert_close(w.weight, v.weight, rtol=1e-12, atol=1e-12)


def test_adam_after_our_decay_is_adamw_and_with_l2_it_is_not() -> None:
    def after(name: str, given: Mapping[str, float]) -> Tensor:
        return walked(name, {"learning_rate": 0.05, **given})[0]

    decayed, coupled, plain = after("adamw", {"weight_decay": 0.3}), after("adam", {"l2": 0.3}), after("adam", {})
    assert not torch.allclose(decayed, coupled, atol=1e-3)
    assert not torch.allclose(decayed, plain, atol=1e-3)
    torch.testing.assert_close(after("adamw", {"weight_decay": 0.0}), plain, rtol=1e-12, atol=1e-12)


def test_sgdw_is_the_one_of_pytorch_optimizer() -> None:
    from pytorch_optimizer import SGDW

    w, v = (nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in range(2))
    v.load_state_dict(w.state_dict())
    given = {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.3, "dampening": 0.2}
    ours = build(Setting("sgdw", given, {}), w, 10).parts["main"]
    other = SGDW(v.parameters(), lr=0.1, momentum=0.8, weight_decay=0.3, dampening=0.2)
    for step in range(10):
        for model, optimizer in ((w, ours), (v, other)):
            model.weight.grad = torch.sin(torch.arange(16, dtype=torch.float64) + step).reshape(4, 4)
            optimizer.step()
    torch.testing.assert_close(w.weight, v.weight)


@pytest.mark.parametrize("name", ["sgd", "sgdm", "nag", "sgdw", "adagrad", "adam", "amsgrad", "adamw"])
def test_a_family_with_a_fused_step_takes_it(name: str) -> None:
    group = build(FAMILIES[name].default, nn.Linear(2, 2), 10).parts["main"].param_groups[0]
    assert group["fused"]
    assert not group.get("foreach")


def test_a_parameter_may_get_its_first_gradient_late() -> None:
    model = nn.Linear(2, 2)
    bundle = build(Setting("sgdm", {"learning_rate": 0.5, "momentum": 0.9, "l2": 0.0}, {}), model, 10)
    weight, bias = model.weight.detach().clone(), model.bias.detach().clone()
    for step in range(2):
        model.weight.grad = torch.ones(2, 2)
        model.bias.grad = torch.ones(2) if step else None
        bundle.step()
    torch.testing.assert_close(model.weight.detach(), weight - 0.5 - 0.5 * 1.9)
    torch.testing.assert_close(model.bias.detach(), bias - 0.5)


def test_a_step_that_a_scaler_skips_does_not_decay() -> None:
    """A fused optimizer skips by itself: the host does not know, and the hook runs."""
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    optimizer = build(Setting("sgdw", {"learning_rate": 0.1, "weight_decay": 1.0}, {}), model, 10).parts["main"]
    model.weight.grad = torch.zeros(2, 2)
    for found, expected in ((1.0, before), (0.0, before * 0.9)):
        optimizer.found_inf = torch.tensor([found])  # type: ignore[attr-defined]
        optimizer.step()
        torch.testing.assert_close(model.weight.detach(), expected)


def test_nag_without_momentum_is_plain_gradient_descent() -> None:
    model = nn.Linear(2, 1, bias=False)
    start = model.weight.detach().clone()
    bundle = build(Setting("nag", {"learning_rate": 0.5, "momentum": 0.0, "l2": 0.0}, {}), model, 10)
    model.weight.grad = torch.ones(1, 2)
    bundle.step()
    torch.testing.assert_close(model.weight.detach(), start - 0.5)


@pytest.mark.parametrize("name", ["adabound", "amsbound"])
@pytest.mark.parametrize("gradient", [1e-6, 1e6])
def test_adabound_clips_between_its_bounds_under_a_schedule(name: str, gradient: float) -> None:
    """A tiny and a huge gradient want rates beyond both bounds; beta1 0 makes the step that rate times it."""
    given = {"learning_rate": 1.0, "beta1": 0.0, "beta2": 0.99, "final_lr": 0.1, "gamma": 0.05, "eps": 1e-20}
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    bundle = build(Setting(name, given, {}), model, 40)
    for step in range(40):
        bundle.apply(Multipliers(1 - step / 40))
        before = model.weight.detach().clone()
        model.weight.grad = torch.full_like(before, gradient)
        bundle.step()
        rate = ((before - model.weight.detach()) / gradient)[0, 0].item()
        low, high = bounds(step + 1, given, 1 - step / 40)
        assert rate == pytest.approx(high if gradient < 1 else low, rel=1e-6, abs=1e-9)


def test_adabounds_final_rate_follows_a_groups_multiplier() -> None:
    training = {"multiplier:output.*": 0.1, "batch_size": 64, "batch_reference": 32, "batch_scaling": "linear"}
    setting = Setting("adabound", {"final_lr": 0.2, "learning_rate": 0.01}, {}, training)
    found = build(setting, network(), 10).parts["main"].param_groups
    assert {(round(g["lr"], 6), round(g["final_lr"], 6)) for g in found} == {(0.02, 0.4), (0.002, 0.04)}


def test_swats_turns_to_sgd_and_stays_under_the_schedule() -> None:
    model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
    given = {"learning_rate": 0.1, "beta1": 0.5, "eps": 0.5}  # eps is its tolerance, too: it switches at once
    bundle = build(Setting("swats", given, {}), model, 10)
    group, moves = bundle.parts["main"].param_groups[0], []
    for step in range(6):
        bundle.apply(Multipliers(1.0 if step < 4 else 0.5))
        before = model.weight.detach().clone()
        model.weight.grad = torch.ones(1, 2, dtype=torch.float64)
        bundle.step()
        moves.append((before - model.weight.detach())[0, 0].item())
        assert group["lr"] == (0.1 if step < 4 else 0.05), "the schedule's, before and after"
    assert group["phase"] == "sgd"
    start, ratio = 2, group["sgd_ratio"]
    averages = [0.5, 0.75, 0.875, 0.9375]
    expected = [0.1 * ratio * a * (1.0 if step < 2 else 0.5) for step, a in enumerate(averages)]
    assert moves[start:] == pytest.approx(expected, rel=1e-9)


def test_muon_takes_matrices_and_kernels_inside_a_model_and_adamw_the_rest() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.convolution = nn.Embedding(9, 4), nn.Conv2d(4, 8, 3)
            self.row, self.norm = nn.Parameter(torch.ones(1, 1, 4)), nn.LayerNorm(8)
            self.middle, self.last = nn.Linear(8, 8), nn.Linear(8, 5)

    model = Model()
    assert hidden(groups(model, {})) == {"convolution.weight", "middle.weight"}
    given = {"adamw_ratio": 0.5, "learning_rate": 0.02, "momentum": 0.9, "adamw_beta1": 0.8}
    found = build(Setting("muon", given, {}, {"no_decay": "bias+norm+embedding"}), model, 10).parts["main"].param_groups
    told = [(g["use_muon"], g["lr"], len(g["params"]), g["weight_decay"]) for g in found]
    # Convolution and middle; row and last; embedding, norm and biases, which the training spares the decay.
    assert told == [(True, 0.02, 2, 0.1), (False, 0.01, 2, 0.1), (False, 0.01, 6, 0.0)]
    assert [(g.get("momentum"), g.get("betas", (None,))[0]) for g in found] == [(0.9, None), (None, 0.8), (None, 0.8)]
    before = model.middle.weight.detach().clone()
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    build(Setting("muon", {**given, "weight_decay": 0.0}, {}), model, 10).step()
    step = (before - model.middle.weight.detach()) / (0.02 * 0.2 * 8**0.5)
    singular = torch.linalg.svdvals(step)
    assert singular.min() > 0.5
    assert singular.max() < 1.3, "five steps of Newton-Schulz leave them near 1"


def test_muon_finds_the_output_by_its_name_or_by_its_place() -> None:
    def group(scale: float, *names: str) -> Group:
        return Group(names, tuple(nn.Parameter(torch.ones(3, 3)) for _ in names), scale, True)

    assert hidden([group(1.0, "lm_head.weight", "a.weight", "b.weight")]) == {"a.weight", "b.weight"}
    assert hidden([group(1.0, "c.weight", "fc.weight"), group(0.1, "a.weight", "b.weight")]) == {
        "a.weight",
        "b.weight",
        "c.weight",
    }
    assert hidden([]) == frozenset()


def test_prodigy_refuses_learning_rates_of_different_size() -> None:
    with pytest.raises(InputError, match=r"prodigy takes one learning rate.*multiply it by 0\.1, 1\. Remove"):
        build(Setting("prodigy", {}, {}, {"multiplier:output.*": 0.1}), network(), 10)
    training = {"batch_size": 64, "batch_reference": 32, "batch_scaling": "linear"}
    found = build(Setting("prodigy", {}, {}, training), network(), 10).parts["main"].param_groups
    assert {group["lr"] for group in found} == {2.0}


def test_ademamix_warms_up_over_the_horizon() -> None:
    assert build(FAMILIES["ademamix"].default, network(), 77).parts["main"].param_groups[0]["t_alpha_beta3"] == 77


def test_lookahead_goes_over_any_base_but_one_that_averages_itself() -> None:
    ahead, base = (build(Setting(name, {}, {}), network(), 20).parts["main"] for name in ("lookahead-adan", "adan"))
    assert type(ahead) is not type(base)
    assert [set(p.shape) for g in ahead.param_groups for p in g["params"]] == [
        set(p.shape) for g in base.param_groups for p in g["params"]
    ]
    with pytest.raises(InputError, match="schedule-free-sgd averages its weights itself"):
        build(Setting("lookahead-schedule-free-sgd", {}, {}), network(), 20)
    with pytest.raises(InputError, match="expected one of sgd"):
        build(Setting("lookahead-lookahead-sgdm", {}, {}), network(), 20)


def test_groups_multiply_the_learning_rate_and_keep_their_order() -> None:
    model = network()
    setting = Setting("adamw", {"learning_rate": 0.5}, {}, {"multiplier:output.*": 0.1})
    found = build(setting, model, 10).parts["main"].param_groups
    assert [(g["lr"], g["weight_decay"]) for g in found] == [
        (0.5 * group.scale, 0.01 if group.decays else 0.0) for group in groups(model, setting.training)
    ]
    assert [p for g in found for p in g["params"]] == [p for g in groups(model, setting.training) for p in g.params]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(InputError, match="package schedulefree is not installed"):
        build(FAMILIES["schedule-free-sgd"].default, nn.Linear(1, 1), 10)


def test_other_libraries_load_with_the_first_optimizer_that_needs_them() -> None:
    code = (
        "import sys, tuner.training.optimizers.measure; print(*{'pytorch_optimizer', 'schedulefree'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b""


def test_both_decays_survive_in_the_state() -> None:
    bundle = build(Setting("adamax", {"l2": 0.1, "weight_decay": 0.2}, {}), nn.Linear(2, 2), 10)
    state = copy.deepcopy(bundle.state_dict())
    other = build(Setting("adamax", {"l2": 0.3, "weight_decay": 0.4}, {}), nn.Linear(2, 2), 10)
    other.load_state_dict(state)
    group = other.parts["main"].param_groups[0]
    assert (group["coupled_decay"], group["decoupled_decay"], group["weight_decay"]) == (0.1, 0.2, 0.0)


if __name__ == "__main__":
    losses = {
        "toy": {n: toy_losses(n) for n in WALK if n not in SINGULAR},
        "network": {n: network_losses(n) for n in WALK},
    }
    GOLDEN.write_text(json.dumps(losses, indent=1) + "\n")
