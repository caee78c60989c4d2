from __future__ import annotations

import pytest
import torch
from torch import nn

from tuner.errors import WorkloadError
from tuner.training.param_groups import decay_groups
from tuner.training.workloads.chars import CharTransformer
from tuner.training.workloads.digits import DigitsCNN


def names(model: nn.Module) -> tuple[set[str], set[str]]:
    of = {id(p): name for name, p in model.named_parameters()}
    decayed: set[str] = set()
    plain: set[str] = set()
    for group in decay_groups(model):
        chosen = plain if group.get("weight_decay") == 0.0 else decayed
        chosen.update(of[id(p)] for p in group["params"])
    return decayed, plain


def test_biases_and_norms_do_not_decay() -> None:
    decayed, plain = names(DigitsCNN().model(0))
    assert decayed == {"0.weight", "4.weight", "10.weight"}
    assert plain == {"1.weight", "1.bias", "5.weight", "5.bias", "10.bias"}


def test_a_norm_over_two_dimensions_does_not_decay() -> None:
    decayed, plain = names(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm([4, 4])))
    assert decayed == {"0.weight"}
    assert plain == {"0.bias", "1.weight", "1.bias"}


@pytest.mark.parametrize("workload", [CharTransformer(), DigitsCNN()])
def test_every_trainable_parameter_is_in_exactly_one_group(workload: CharTransformer | DigitsCNN) -> None:
    workload.place(torch.device("cpu"), "float32")
    model = workload.model(0)
    first = next(iter(model.parameters()))
    first.requires_grad = False
    grouped = [id(p) for group in decay_groups(model) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert id(first) not in grouped


def test_a_shared_parameter_is_there_once() -> None:
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    b.weight = a.weight
    grouped = [id(p) for group in decay_groups(nn.Sequential(a, b)) for p in group["params"]]
    assert len(grouped) == len(set(grouped)) == 3


def test_a_group_that_would_be_empty_is_left_out() -> None:
    assert len(decay_groups(nn.Linear(2, 2, bias=False))) == 1
    assert len(decay_groups(nn.LayerNorm(2))) == 1


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(WorkloadError, match="no trainable parameter"):
        decay_groups(nn.ReLU())
