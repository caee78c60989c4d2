from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuner.families import FAMILIES
from tuner.records import Outcome, Phase
from tuner.schedules import SCHEDULES
from tuner.training.optimizers import Bundle
from tuner.training.run import train
from tuner.training.workloads import Batch, Workload
from tuner.training.workloads.digits import DigitsCNN
from tuner.training.workloads.load import load
from tuner.training.workloads.toy import ToyQuadratic

from .helpers import CHARS, DIGITS, TABULAR, TOY, assign, drive, numbers, trained

SMALL: dict[str, dict[str, Any]] = {
    TOY: {"steps": 24, "options": {"dropout": 0.2}},
    DIGITS: {"steps": 25, "options": {"dropout": 0.2}, "metric": "accuracy"},
    TABULAR: {"steps": 20},
    CHARS: {"steps": 4, "options": {"eval_every_steps": 3, "dropout": 0.1, "width": 16}},
}


@pytest.mark.parametrize("path", SMALL)
def test_a_workload_repeats_bit_for_bit(path: str) -> None:
    results = [trained(assign(path, **SMALL[path])) for _ in range(2)]
    assert results[0].outcome is Outcome.COMPLETED, results[0].traceback
    assert numbers(results[0]) == numbers(results[1])
    assert numbers(results[0]) != numbers(trained(assign(path, seed=4, **SMALL[path])))


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_schedule_trains_and_repeats(family: str, kind: str) -> None:
    results = [trained(assign(family=family, schedule={"kind": kind, "warmup": 0.25})) for _ in range(2)]
    assert results[0].outcome is Outcome.COMPLETED, results[0].traceback
    assert numbers(results[0]) == numbers(results[1])
    first, last = results[0].measurements[0], results[0].measurements[-1]
    assert last.values["loss"] < first.values["loss"]


def test_measurements_come_at_each_epoch_and_at_the_horizon() -> None:
    seen, result = drive(train(assign(steps=2.5, unit="epochs")))
    assert [m.step for m in seen] == [16, 32, 40]
    assert tuple(seen) == result.measurements
    assert result.value == seen[-1].values["loss"]
    assert (result.step, result.resumed_at, result.device) == (40, 0, "cpu")
    assert 0 < result.started_at <= result.finished_at
    assert seen[0].train_seconds < seen[1].train_seconds < result.train_seconds
    assert result.eval_seconds >= seen[-1].eval_seconds > 0


def test_how_often_is_evaluated_changes_nothing() -> None:
    class Drawing(ToyQuadratic):
        def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
            torch.rand(1), np.random.rand(), random.random()
            return super().evaluate(model, split)

    values = [trained(assign(), Drawing(dropout=0.5, eval_every_steps=every)).value for every in (1, 7, None)]
    assert values[0] == values[1] == values[2]


def test_what_the_consumer_draws_changes_nothing() -> None:
    generator = train(assign(options={"dropout": 0.5}))
    for _ in range(3):
        next(generator)
        torch.rand(3), np.random.rand(), random.random()
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert numbers(end.value.value) == numbers(trained(assign(options={"dropout": 0.5})))


def test_the_process_is_left_as_it_was() -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    threads = torch.get_num_threads()
    trained(assign(threads=1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_schedule_is_applied_to_each_update() -> None:
    rates: list[float] = []

    class Watching(ToyQuadratic):
        def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
            rates.append(bundle.learning_rate)
            return super().train_step(model, batch, bundle)

    trained(assign(steps=4, schedule={"kind": "linear"}), Watching())
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


def test_a_loss_that_is_not_finite_ends_the_run_at_once() -> None:
    seen, result = drive(train(assign(options={"diverge_above": 0.099}, schedule={"kind": "constant", "warmup": 0.5})))
    assert result.outcome is Outcome.DIVERGED
    assert (result.step, result.value) == (21, None)
    assert result.reason == "loss became nan at step 21 of 40"
    assert tuple(seen) == result.measurements
    assert [m.step for m in seen] == [16]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_metric_that_is_not_finite_is_divergence(bad: float) -> None:
    class Bad(ToyQuadratic):
        def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
            return {"loss": bad}

    result = trained(assign(), Bad())
    assert result.outcome is Outcome.DIVERGED
    assert result.reason == f"validation loss became {bad} at step 16 of 40"
    assert result.measurements == ()


def test_weights_that_broke_in_the_last_update_are_divergence() -> None:
    class Breaking(ToyQuadratic):
        def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
            loss = super().train_step(model, batch, bundle)
            next(model.parameters()).data.fill_(float("inf"))
            return loss

        def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
            return {"loss": 0.1}

    result = trained(assign(steps=1), Breaking())
    assert result.outcome is Outcome.DIVERGED
    assert "weight" in result.reason


def test_another_value_that_is_not_finite_is_left_out() -> None:
    class Extra(ToyQuadratic):
        def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
            return {**super().evaluate(model, split), "f1": float("nan")}

    result = trained(assign(), Extra())
    assert result.outcome is Outcome.COMPLETED
    assert set(result.measurements[-1].values) == {"loss"}


def test_a_metric_that_is_not_returned_fails_the_run() -> None:
    result = trained(assign(metric="accuracy"))
    assert result.outcome is Outcome.FAILED
    assert "returned loss; expected 'accuracy'" in result.reason


def test_an_epoch_that_is_too_short_fails_the_run() -> None:
    class Short(ToyQuadratic):
        def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
            yield from list(super().train_batches(epoch, seed))[:10]

    result = trained(assign(), Short())
    assert result.outcome is Outcome.FAILED
    assert result.reason.startswith("Short.train_batches() ended before batch 11 of epoch 0; expected")


def test_the_test_split_is_evaluated_once_and_in_its_phase_only() -> None:
    splits: list[str] = []

    class Watching(ToyQuadratic):
        def evaluate(self, model: nn.Module, split: str) -> Mapping[str, float]:
            splits.append(split)
            return super().evaluate(model, split)

    for phase in Phase:
        splits.clear()
        result = trained(assign(phase=phase), Watching())
        assert splits.count("test") == (phase is Phase.TEST)
        assert set(result.tests) == ({"loss"} if phase is Phase.TEST else set())

    class NoTest(ToyQuadratic):
        has_test = False

    assert "has no test split" in trained(assign(phase=Phase.TEST), NoTest()).reason


def test_gradients_are_clipped() -> None:
    class Clipped(ToyQuadratic):
        clip_norm = 1e-3

    spec = assign(steps=1, schedule={"kind": "constant"})
    workload = Clipped()
    seen: list[Tensor] = []

    class Watching(Clipped):
        def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
            loss = super().train_step(model, batch, bundle)
            seen.append(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm())
            return loss

    assert trained(spec, workload).outcome is Outcome.COMPLETED
    trained(spec, Watching())
    assert float(seen[0]) == pytest.approx(1e-3, rel=1e-3)


def test_bfloat16_trains_and_float16_is_refused() -> None:
    whole = trained(assign(DIGITS, metric="accuracy", steps=5))
    half = trained(assign(DIGITS, metric="accuracy", steps=5, precision="bfloat16"))
    assert half.outcome is Outcome.COMPLETED, half.traceback
    assert half.measurements[-1].values["loss"] != whole.measurements[-1].values["loss"]
    refused = trained(assign(DIGITS, metric="accuracy", steps=5, precision="float16"))
    assert refused.outcome is Outcome.FAILED
    assert "expected float32 or bfloat16" in refused.reason


def test_a_device_that_is_not_there_is_named() -> None:
    assert "device is 'gpu'" in trained(assign(device="gpu")).reason


class Gan(Workload):
    metric = "distance"
    direction = "minimize"

    @property
    def steps_per_epoch(self) -> int:
        return 5

    def model(self, seed: int) -> nn.Module:
        return nn.ModuleDict({"generator": nn.Linear(2, 1), "discriminator": nn.Linear(1, 1)})

    def train_batches(self, epoch: int, seed: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed + epoch)
        for _ in range(self.steps_per_epoch):
            yield {"noise": torch.randn(8, 2, generator=generator), "real": torch.ones(8, 1)}

    def optimizer(self, setting: Any, model: nn.Module) -> Bundle:
        from tuner.training.optimizers import build

        return build(setting, dict(model.items()))  # type: ignore[operator]

    def train_step(self, model: Any, batch: Batch, bundle: Bundle) -> Tensor:
        fake = model["generator"](batch["noise"])
        bundle["discriminator"].zero_grad()
        judged = model["discriminator"](batch["real"]) - model["discriminator"](fake.detach())
        (-judged.mean()).backward()
        bundle["discriminator"].step()
        bundle["generator"].zero_grad()
        loss: Tensor = -model["discriminator"](fake).mean()
        loss.backward()
        bundle["generator"].step()
        return loss

    def evaluate(self, model: Any, split: str) -> Mapping[str, float]:
        return {"distance": float((model["generator"](torch.zeros(1, 2)) - 1).abs())}


@pytest.mark.parametrize("family", FAMILIES)
def test_two_networks_need_no_special_case(family: str, tmp_path: Any) -> None:
    spec = assign(family=family, metric="distance", steps=10)
    whole = trained(spec, Gan())
    assert whole.outcome is Outcome.COMPLETED, whole.traceback
    generator = train(assign(family=family, metric="distance", steps=10, checkpoints=str(tmp_path)), Gan())
    next(generator)
    generator.close()
    again = trained(assign(family=family, metric="distance", steps=10, checkpoints=str(tmp_path), attempt=2), Gan())
    assert again.resumed_at == 5
    assert numbers(again) == numbers(whole)


def test_the_digits_can_be_learned_and_do_not_saturate() -> None:
    workload = load(assign(DIGITS).spec.workload)
    assert isinstance(workload, DigitsCNN)
    result = trained(assign(DIGITS, metric="accuracy", steps=5, unit="epochs"), workload)
    assert result.value is not None
    assert 0.85 < result.value < 1.0
    assert {split: len(data[1]) for split, data in workload.data.items()} == {
        "train": 600,
        "validation": 600,
        "test": 597,
    }
