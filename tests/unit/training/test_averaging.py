"""Averaged weights against torch's own classes, and BatchNorm's statistics against ``update_bn``."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from tuner.catalog.training_options import complete
from tuner.core.records import Outcome
from tuner.training.averaging import CALIBRATION_BATCHES, Average, calibrated
from tuner.training.run import train
from tuner.training.workloads import Workload
from tuner.training.workloads.digits import DigitsCNN

from .helpers import DIGITS, TOY, assign, numbers, trained


def walk(model: nn.Module, step: int) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.sin(torch.arange(p.numel()) + step).reshape(p.shape))


def test_the_exponential_average_is_torchs_once_it_is_warm() -> None:
    model = nn.Linear(3, 2)
    ours = Average(model, complete({"average": "ema", "ema_decay": 0.9}), horizon=400)
    for step in range(1, 101):  # (1 + t) / (10 + t) passes 0.9 at t = 80
        walk(model, step)
        ours.update(step)
    oracle = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]
    oracle.module.load_state_dict(copy.deepcopy(ours.model.state_dict()))
    oracle.n_averaged += 100
    for step in range(101, 110):
        walk(model, step)
        ours.update(step)
        oracle.update_parameters(model)
    for a, b in zip(ours.model.parameters(), oracle.module.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_plain_average_is_torchs_buffers_included() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    ours = Average(model, complete({"average": "swa", "swa_start": 0.0}), horizon=20)
    oracle = AveragedModel(model)
    for step in range(1, 21):
        walk(model, step)
        model(torch.randn(4, 3) + step)
        ours.update(step)
        oracle.update_parameters(model)
    for a, b in zip(ours.model.state_dict().values(), oracle.module.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_short_run_is_not_averaged_with_its_initialisation() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, complete({"average": "ema", "ema_decay": 0.9999}), horizon=100)
    for step in range(1, 101):
        model.weight.data.fill_(float(step > 20))
        average.update(step)
    assert average.model.weight.item() > 0.99  # type: ignore[operator, union-attr]


def test_the_plain_average_begins_late() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, complete({"average": "swa", "swa_start": 0.5}), horizon=10)
    for step in range(1, 11):
        model.weight.data.fill_(float(step))
        average.update(step)
        if step <= 5:
            assert average.model is model
    assert average.model is not model
    assert average.model.weight.item() == pytest.approx(8.0)  # type: ignore[operator, union-attr]


def norm_net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def test_batchnorm_gets_the_statistics_of_the_batches_for_a_while() -> None:
    model = norm_net()
    batches = [torch.randn(16, 4) + 3 for _ in range(CALIBRATION_BATCHES + 5)]
    twin = copy.deepcopy(model)
    update_bn(batches[:CALIBRATION_BATCHES], twin)
    before = copy.deepcopy(model.state_dict())
    model.train()
    with calibrated(model, batches, lambda net, batch: net(batch)):
        found = model[1]  # type: ignore[index]
        assert torch.allclose(found.running_mean, twin[1].running_mean, atol=1e-6)  # type: ignore[index, arg-type]
        assert torch.allclose(found.running_var, twin[1].running_var, atol=1e-5)  # type: ignore[index, arg-type]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert model[1].momentum == 0.1  # type: ignore[index]


def test_a_model_without_batchnorm_draws_no_batch() -> None:
    def never() -> Any:
        raise AssertionError("a batch was drawn")
        yield

    with calibrated(nn.Linear(2, 2), never(), lambda net, batch: net(batch)):
        pass


def averaged(path: str, kind: str, **rest: Any) -> Any:
    return assign(path, training={"average": kind, "ema_decay": 0.95, "swa_start": 0.5}, **rest)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_the_loop_evaluates_the_average_and_trains_as_without(kind: str) -> None:
    plain = trained(assign(DIGITS, metric="accuracy", steps=54))
    found = trained(averaged(DIGITS, kind, metric="accuracy", steps=54))
    assert found.outcome is Outcome.COMPLETED, found.traceback
    assert [m.values["train_loss"] for m in found.measurements] == [m.values["train_loss"] for m in plain.measurements]
    assert found.measurements[-1].values["loss"] != plain.measurements[-1].values["loss"]
    assert found.value is not None
    assert found.value > 0.8


def test_batchnorm_without_a_loss_is_refused_before_anything_trains() -> None:
    class NoLoss(DigitsCNN):
        loss = Workload.loss

        def train_step(self, model: nn.Module, batch: Any, bundle: Any) -> torch.Tensor:
            raise AssertionError("a step was trained")

    for spec in (
        averaged(DIGITS, "ema", metric="accuracy"),
        assign(DIGITS, metric="accuracy", family="schedule-free-sgd"),
    ):
        result = trained(spec, NoLoss())
        assert result.outcome is Outcome.FAILED
        assert "has no loss(); expected a forward pass" in result.reason
        assert "Override calibrate(model, batch)" in result.reason


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_an_averaged_run_goes_on_bit_for_bit(kind: str, tmp_path: Path) -> None:
    whole = trained(averaged(TOY, kind, steps=40, options={"dropout": 0.3}))
    stopped = train(averaged(TOY, kind, steps=40, options={"dropout": 0.3}, checkpoints=str(tmp_path)))
    next(stopped), next(stopped)
    stopped.close()
    again = trained(averaged(TOY, kind, steps=40, options={"dropout": 0.3}, checkpoints=str(tmp_path), attempt=2))
    assert again.resumed_at == 32
    assert numbers(again) == numbers(whole)
