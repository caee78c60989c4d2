from __future__ import annotations

import pytest
import torch
from torch import nn

from tuner.core.errors import WorkloadError
from tuner.core.records import Setting
from tuner.training.optimizers import build
from tuner.training.param_groups import folded, groups, layer_scales
from tuner.training.workloads.chars import CharTransformer
from tuner.training.workloads.digits import DigitsCNN


def names(model: nn.Module, **training: str) -> tuple[set[str], set[str]]:
    found = groups(model, training)
    decayed = {name for group in found if group.decays for name in group.names}
    return decayed, {name for group in found if not group.decays for name in group.names}


def decoder() -> nn.Module:
    workload = CharTransformer(width=8, heads=2, layers=3)
    workload.place(torch.device("cpu"), {})
    return workload.model(0)


def test_biases_and_norms_do_not_decay() -> None:
    decayed, plain = names(DigitsCNN().model(0))
    assert decayed == {"0.weight", "4.weight", "10.weight"}
    assert plain == {"1.weight", "1.bias", "5.weight", "5.bias", "10.bias"}


def test_a_norm_over_two_dimensions_does_not_decay() -> None:
    decayed, plain = names(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm([4, 4])))
    assert decayed == {"0.weight"}
    assert plain == {"0.bias", "1.weight", "1.bias"}


def test_the_rule_may_spare_nothing_or_embeddings_too() -> None:
    model = decoder()
    assert names(model, no_decay="nothing")[1] == set()
    spared = names(model, no_decay="bias+norm+embedding")[1] - names(model)[1]
    assert spared == {"token.weight"}


def test_a_pattern_spares_what_it_names() -> None:
    spared = groups(decoder(), {"no_decay:position": "yes", "no_decay:head.*": "no"})
    plain = {name for group in spared if not group.decays for name in group.names}
    assert "position" in plain
    assert "head.weight" not in plain


@pytest.mark.parametrize("workload", [CharTransformer(), DigitsCNN()])
def test_every_trainable_parameter_is_in_exactly_one_group(workload: CharTransformer | DigitsCNN) -> None:
    workload.place(torch.device("cpu"), {})
    model = workload.model(0)
    first = next(iter(model.parameters()))
    first.requires_grad = False
    found = groups(model, {"layer_decay": 0.5, "multiplier:*.bias": 2.0})
    grouped = [id(p) for group in found for p in group.params]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert id(first) not in grouped
    assert sum(group.count for group in found) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_a_shared_parameter_is_there_once() -> None:
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    grouped = [id(p) for group in groups(nn.Sequential(a, b), {}) for p in group.params]
    assert len(grouped) == len(set(grouped)) == 3


def test_a_group_that_would_be_empty_is_left_out() -> None:
    assert len(groups(nn.Linear(2, 2, bias=False), {})) == 1
    assert len(groups(nn.LayerNorm(2), {})) == 1


def test_multipliers_multiply() -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    found = groups(model, {"multiplier:backbone.*": 0.1, "multiplier:*.bias": 2.0})
    scales = {name: group.scale for group in found for name in group.names}
    assert scales == {"backbone.weight": 0.1, "backbone.bias": 0.2, "head.weight": 1.0, "head.bias": 2.0}


def test_the_learning_rate_falls_from_layer_to_layer() -> None:
    scales = layer_scales(decoder(), 0.5)
    assert {scales[name] for name in scales if name.startswith("norm.") or name.startswith("head.")} == {1.0}
    assert [scales[f"blocks.{i}.qkv.weight"] for i in (2, 1, 0)] == [0.5, 0.25, 0.125]
    assert scales["token.weight"] == scales["position"] == 0.0625
    assert layer_scales(decoder(), 1.0) == {}


def test_a_model_without_a_container_has_its_children_as_layers() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

    assert layer_scales(Two(), 0.1) == pytest.approx(
        {"body.weight": 0.1, "body.bias": 0.1, "head.weight": 1.0, "head.bias": 1.0}
    )


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
        self.shortcut = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))


class Stages(nn.Module):
    """ResNet's layout: a stem, stages of blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)
        self.stage1, self.stage2 = nn.Sequential(Block(), Block()), nn.Sequential(Block(), Block())
        self.head = nn.Linear(2, 1)


def test_every_block_of_every_stage_is_a_layer_and_a_norm_belongs_to_what_it_follows() -> None:
    scales = layer_scales(Stages(), 0.5)
    parts = ("stem", "stage1.0", "stage1.1", "stage2.0", "stage2.1", "head")
    found = [{scale for name, scale in scales.items() if name.startswith(f"{part}.")} for part in parts]
    assert found == [{0.5**5}, {0.5**4}, {0.5**3}, {0.25}, {0.5}, {1.0}]
    assert scales["norm.weight"] == scales["stem.weight"]
    assert set(layer_scales(DigitsCNN().model(0), 0.5).values()) == {0.25, 0.5, 1.0}


def test_patterns_tell_the_models_of_a_pair_apart() -> None:
    models = {"generator": nn.Linear(2, 2), "discriminator": nn.Linear(2, 1)}
    setting = Setting(
        "sgdm", {}, {"kind": "constant"}, {"multiplier:discriminator.*": 0.5, "freeze:generator.bias": "yes"}
    )
    parts = build(setting, models, 10).parts
    assert {group["lr"] for group in parts["generator"].param_groups} == {0.1}
    assert {group["lr"] for group in parts["discriminator"].param_groups} == {0.05}
    assert not models["generator"].bias.requires_grad
    wrong = Setting("sgdm", {}, {"kind": "constant"}, {"multiplier:critic.*": 0.5})
    with pytest.raises(
        WorkloadError, match="matches no parameter of these models; expected a glob on its names: generator"
    ):
        build(wrong, models, 10)


def test_what_is_frozen_does_not_train() -> None:
    model = DigitsCNN().model(0)
    found = groups(model, {"freeze:[0-5].*": "yes", "freeze:10.*": "no"})
    assert {name for group in found for name in group.names} == {"10.weight", "10.bias"}
    assert not model[0].weight.requires_grad  # type: ignore[index, union-attr]


@pytest.mark.parametrize("key", ["multiplier:backbone.*", "freeze:stem.*", "no_decay:pos*"])
def test_a_pattern_that_matches_nothing_is_an_error(key: str) -> None:
    with pytest.raises(
        WorkloadError, match=r"matches no parameter of Sequential; expected a glob on its names: \[0,1,4"
    ):
        groups(DigitsCNN().model(0), {key: 0.1 if key.startswith("multiplier") else "yes"})


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(WorkloadError, match="no trainable parameter"):
        groups(nn.ReLU(), {})
    with pytest.raises(WorkloadError, match="no trainable parameter"):
        groups(nn.Linear(1, 1), {"freeze:*": "yes"})


def test_embeddings_are_told_apart() -> None:
    found = groups(decoder(), {})
    assert frozenset().union(*(group.embeddings for group in found)) == {"token.weight"}


def test_names_are_folded() -> None:
    assert folded(["0.weight", "3.weight", "a.12.b", "x"]) == "[0,3].weight, a.12.b, x"
    assert folded([f"l.{i}.{j}" for i in range(4) for j in (0, 1)]) == "l.[0-3].[0,1]"
