from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn

from tuner.core.records import Outcome
from tuner.training.environment import capture_rng, filled_memory, prepared, restore_rng, seed_everything
from tuner.training.workloads.toy import ToyQuadratic

from .helpers import assign, trained


def draws() -> tuple[Any, ...]:
    return random.random(), np.random.rand(), np.random.randn(), float(torch.rand(()))


def test_seeds_are_those_of_python_numpy_and_torch() -> None:
    seed_everything(5)
    found = draws()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert found == draws()


def test_a_run_leaves_the_process_as_it_was() -> None:
    memory: Any = torch.utils.deterministic
    flags = memory.fill_uninitialized_memory, torch.are_deterministic_algorithms_enabled()
    state = capture_rng()
    expected = draws()
    restore_rng(state)
    with prepared(assign().spec, torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
        assert not memory.fill_uninitialized_memory
        draws()
    assert flags == (memory.fill_uninitialized_memory, torch.are_deterministic_algorithms_enabled())
    assert draws() == expected


def test_memory_is_filled_while_a_model_is_made() -> None:
    with prepared(assign().spec, torch.device("cpu")), filled_memory():
        assert torch.empty(1000).isnan().all()


class Idle(ToyQuadratic):
    """A parameter that takes no part in the loss; nobody initialises it unless there is a value for it."""

    def __init__(self, value: float | None) -> None:
        super().__init__()
        self.value = value

    def model(self, seed: int) -> nn.Module:
        model = super().model(seed)
        model.idle = nn.Parameter(torch.empty(3) if self.value is None else torch.full((3,), self.value))
        return model


def test_a_parameter_that_nobody_initialised_is_seen() -> None:
    result = trained(assign(), Idle(None))
    assert (result.outcome, result.reason) == (Outcome.DIVERGED, "a weight is not finite at step 40 of 40")


def test_a_weight_whose_square_overflows_is_finite() -> None:
    assert trained(assign(), Idle(1e30)).outcome is Outcome.COMPLETED
