from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tuner.core.errors import WorkloadError
from tuner.training.workloads.base import shuffled
from tuner.training.workloads.toy import ToyQuadratic


class Pair(NamedTuple):
    x: Tensor
    name: str


def test_batches_of_any_shape_are_moved() -> None:
    workload = ToyQuadratic()
    workload.device = torch.device("meta")
    moved = workload.to_device({"a": [torch.ones(1), (torch.ones(2), 3)], "b": Pair(torch.ones(1), "x")})
    assert moved["a"][0].is_meta
    assert moved["a"][1][0].is_meta
    assert moved["a"][1][1] == 3
    assert isinstance(moved["b"], Pair)
    assert moved["b"].x.is_meta


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch() -> None:
    def order(epoch: int, seed: int) -> list[int]:
        return torch.cat(list(shuffled(50, 8, epoch, seed))).tolist()

    assert order(0, 1) == order(0, 1)
    assert len(set(order(0, 1))) == 48
    assert order(0, 1) != order(1, 1) != order(1, 2)


def test_data_is_loaded_once_for_a_device() -> None:
    class Counting(ToyQuadratic):
        loaded = 0

        def setup(self) -> None:
            self.loaded += 1
            self.draw = torch.rand(1)

    workload = Counting()
    workload.place(torch.device("cpu"), {})
    workload.place(torch.device("cpu"), {"precision": "bfloat16"})
    assert (workload.loaded, workload.precision) == (1, "bfloat16")
    torch.manual_seed(99)
    other = Counting()
    other.place(torch.device("cpu"), {})
    assert torch.equal(workload.draw, other.draw)


class Sized(ToyQuadratic):
    batch_size = 16
    label_smoothing = 0.0


def test_batch_size_and_smoothing_are_set_for_a_run_and_fall_back() -> None:
    workload = Sized()
    workload.place(torch.device("cpu"), {"batch_size": 64, "label_smoothing": 0.1})
    assert (workload.batch_size, workload.label_smoothing) == (64, 0.1)
    workload.place(torch.device("cpu"), {})
    assert (workload.batch_size, workload.label_smoothing) == (16, 0.0)


@pytest.mark.parametrize("training", [{"batch_size": 64}, {"label_smoothing": 0.1}])
def test_a_workload_that_does_not_take_them_says_so(training: dict[str, float]) -> None:
    name = next(iter(training))
    with pytest.raises(
        WorkloadError, match=rf"workload ToyQuadratic does not take {name} = .* Leave out training.{name}"
    ):
        ToyQuadratic().place(torch.device("cpu"), training)


def test_a_class_that_states_a_recipe_means_its_training_options() -> None:
    class Earlier(ToyQuadratic):
        recipe: Mapping[str, float] = {"clip_norm": 2.0}

    class Both(Earlier):
        training: Mapping[str, float] = {"clip_norm": 3.0}

    assert Earlier().granted == {"clip_norm": 2.0}
    with pytest.raises(WorkloadError, match=r"workload Both has training and recipe, which is the earlier name"):
        _ = Both().granted
