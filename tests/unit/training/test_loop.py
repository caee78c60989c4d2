from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import SCHEDULES
from tuner.core.records import Outcome, Phase
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


def repeats_and_learns(spec: Any) -> None:
    results = [trained(spec) for _ in range(2)]
    assert results[0].outcome is Outcome.COMPLETED, results[0].traceback
    assert numbers(results[0]) == numbers(results[1])
    first, last = results[0].measurements[0], results[0].measurements[-1]
    assert last.values["loss"] < first.values["loss"]


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("family", ["sgdm", "adamw"])
def test_every_schedule_trains_and_repeats(family: str, kind: str) -> None:
    repeats_and_learns(assign(family=family, schedule={"kind": kind, "warmup": 0.25}))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_and_repeats(family: str) -> None:
    hyperparameters = {"trust": 0.1} if family == "lars" else {}  # its default is for thousands of steps
    repeats_and_learns(assign(family=family, hyperparameters=hyperparameters))


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
    torch.set_num_threads(3)
    try:
        trained(assign(threads=2))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.rand(1), expected)
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
    assert set(result.measurements[-1].values) == {"loss", "train_loss"}


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


def test_a_workloads_own_training_options_counts_and_a_settings_counts_more() -> None:
    class Clipped(ToyQuadratic):
        training: Mapping[str, Any] = {"clip_norm": 1e-3}

        def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
            loss = super().train_step(model, batch, bundle)
            seen.append(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm())
            return loss

    seen: list[Tensor] = []
    trained(assign(steps=1, schedule={"kind": "constant"}), Clipped())
    trained(assign(steps=1, schedule={"kind": "constant"}, training={"clip_norm": 0.5}), Clipped())
    assert [float(norm) for norm in seen] == pytest.approx([1e-3, 0.5], rel=1e-3)


def test_a_workloads_own_smoothing_and_batch_size_hold_where_a_setting_says_nothing() -> None:
    seen: list[tuple[int | None, float | None]] = []

    class Own(ToyQuadratic):
        batch_size, label_smoothing = 16, 0.1

        def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
            seen.append((self.batch_size, self.label_smoothing))
            return super().train_step(model, batch, bundle)

    workload = Own()
    for training in ({"label_smoothing": 0.2, "batch_size": 8}, {}):
        trained(assign(steps=1, training=training), workload)
    assert seen == [(8, 0.2), (16, 0.1)]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains(precision: str) -> None:
    whole = trained(assign(DIGITS, metric="accuracy", steps=20))
    half = trained(assign(DIGITS, metric="accuracy", steps=20, training={"precision": precision}))
    assert half.outcome is Outcome.COMPLETED, half.traceback
    assert half.measurements[-1].values["loss"] != whole.measurements[-1].values["loss"]
    assert half.measurements[-1].values["loss"] == pytest.approx(whole.measurements[-1].values["loss"], rel=0.2)


def test_accumulation_is_one_step_of_several_batches() -> None:
    spec = assign(steps=1, unit="epochs", training={"accumulation": 4})
    result = trained(spec)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.step == 4, "an epoch has 16 batches"
    again = [trained(assign(steps=8, training={"accumulation": 3, "precision": "float16"})) for _ in range(2)]
    assert numbers(again[0]) == numbers(again[1])


@pytest.mark.parametrize("training", [{"accumulation": 3}, {"precision": "float16", "clip_norm": 0.1}])
def test_training_goes_on_bit_for_bit(training: dict[str, Any], tmp_path: Any) -> None:
    def spec(**rest: Any) -> Any:
        return assign(steps=20, options={"dropout": 0.3, "eval_every_steps": 3}, training=training, **rest)

    whole = trained(spec())
    generator = train(spec(checkpoints=str(tmp_path)))
    next(generator), next(generator)
    generator.close()
    again = trained(spec(checkpoints=str(tmp_path), attempt=2))
    assert again.resumed_at == 6
    assert numbers(again) == numbers(whole)


@pytest.mark.parametrize("rule", ["none", "linear", "sqrt"])
def test_the_learning_rate_grows_with_the_effective_batch(rule: str) -> None:
    rates: list[float] = []

    class Watching(ToyQuadratic):
        batch_size = 16

        def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
            rates.append(bundle.learning_rate)
            return super().train_step(model, batch, bundle)

    training = {"batch_size": 32, "batch_reference": 16, "accumulation": 2, "batch_scaling": rule}
    trained(assign(steps=1, schedule={"kind": "constant"}, training=training), Watching())
    assert rates[0] == pytest.approx(0.1 * {"none": 1, "linear": 4, "sqrt": 2}[rule])


@pytest.mark.parametrize("signal", ["train_loss", "validation"])
def test_a_plateau_follows_its_signal_and_goes_on_bit_for_bit(signal: str, tmp_path: Any) -> None:
    rates: list[float] = []

    class Watching(ToyQuadratic):
        def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
            rates.append(bundle.learning_rate)
            return super().train_step(model, batch, bundle)

    def spec(**rest: Any) -> Any:
        schedule = {"kind": "plateau", "patience": 0.05, "factor": 0.5, "signal": signal, "threshold": 0.2}
        return assign(steps=60, schedule=schedule, **rest)

    whole = trained(spec(), Watching(eval_every_steps=4))
    assert whole.outcome is Outcome.COMPLETED, whole.traceback
    assert rates[0] == 0.1
    assert len(set(rates)) > 2, "the rate was reduced"
    generator = train(spec(checkpoints=str(tmp_path)), Watching(eval_every_steps=4))
    for _ in range(9):
        next(generator)
    generator.close()
    again = trained(spec(checkpoints=str(tmp_path), attempt=2), Watching(eval_every_steps=4))
    assert again.resumed_at == 36
    assert numbers(again) == numbers(whole)


def test_the_mean_training_loss_is_measured() -> None:
    losses: list[float] = []

    class Watching(ToyQuadratic):
        def train_step(self, model: nn.Module, batch: Batch, bundle: Bundle) -> Tensor:
            losses.append(float(loss := super().train_step(model, batch, bundle)))
            return loss

    result = trained(assign(steps=40), Watching(eval_every_steps=20))
    assert [m.values["train_loss"] for m in result.measurements] == pytest.approx(
        [sum(losses[:20]) / 20, sum(losses[20:]) / 20]
    )


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

    def optimizer(self, setting: Any, model: nn.Module, horizon: int) -> Bundle:
        from tuner.training.optimizers import build

        return build(setting, dict(model.items()), horizon)  # type: ignore[operator]

    def train_step(self, model: Any, batch: Batch, bundle: Bundle) -> Tensor:
        fake = model["generator"](batch["noise"])
        bundle["discriminator"].zero_grad()
        judged = model["discriminator"](batch["real"]) - model["discriminator"](fake.detach())
        bundle["discriminator"].backward(-judged.mean())
        bundle["discriminator"].step()
        bundle["generator"].zero_grad()
        loss: Tensor = -model["discriminator"](fake).mean()
        bundle["generator"].backward(loss)
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
