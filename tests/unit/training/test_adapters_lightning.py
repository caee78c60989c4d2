"""Lightning's ``Trainer``: what it alone has. What every library promises is in ``test_adapters``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tuner.catalog.families import FAMILIES
from tuner.core.records import Assignment, Outcome, Phase
from tuner.training.adapters.lightning import fit
from tuner.training.handle import Run

from .adapters_lightning import PER_EPOCH, RATE, Endless, Net, body, data, lightning
from .helpers import assign, curve, numbers, setting, trained

pytestmark = [
    pytest.mark.usefixtures("temporary", "little_garbage"),
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec"),
]


def adamw(training: Mapping[str, Any] | None = None, **given: Any) -> Assignment:
    return setting(assign(family="adamw", **{"metric": "val_loss", **given}), training, learning_rate=RATE)


def test_a_loss_is_looked_at_between_validations() -> None:
    rare = {"val_check_interval": None, "check_val_every_n_epoch": 1000}
    assignment = setting(assign(steps=400, metric="val_loss"), learning_rate=1e4, l2=10.0)
    result = trained(assignment, body(**rare))
    assert result.outcome is Outcome.DIVERGED
    assert result.step == 50


class Noisy(TensorDataset):
    """Augmented from the global generator."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn(4), y


def test_augmented_data_goes_on_bit_for_bit(tmp_path: Path) -> None:
    given = {"val_check_interval": 2, "train_dataloaders": DataLoader(Noisy(*data(48, 0).tensors), 8, shuffle=True)}
    place = adamw(steps=10, checkpoints=str(tmp_path / "run"))
    with pytest.raises(SystemExit):
        trained(place, body(die_at=10, **given))
    result = trained(replace(place, attempt=2), body(**given))
    assert result.resumed_at == 8
    assert numbers(result) == numbers(trained(adamw(steps=10), body(**given)))


class Plain(Net):
    """The same on every machine and in every loop: no dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers[3] = nn.Identity()


def by_hand(run: Run) -> None:
    """The loop that a user would write, over the same batches."""
    net, total = Plain(), run.total_steps(PER_EPOCH)
    bundle = run.optimizer(net)
    bundle.train()
    for step, (x, y) in enumerate(itertools.islice(DataLoader(data(48, 0), 8), total)):
        bundle.apply(run.schedule.multipliers(step, total))
        bundle.zero_grad()
        bundle.backward(nn.functional.cross_entropy(net.layers(x), y))
        bundle.step()
    bundle.eval()
    net.eval()
    losses = [nn.functional.cross_entropy(net.layers(x), y).item() for x, y in DataLoader(data(24, 1), 8)]
    run.report(step=total, val_loss=sum(losses) / len(losses))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_as_by_hand_and_goes_on_after_a_kill(family: str, tmp_path: Path) -> None:
    """Lightning calls ``optimizer.step(closure)``, we call ``bundle.backward(loss)`` and ``bundle.step()``."""
    place = assign(family=family, steps=4, schedule={"kind": "constant"}, metric="val_loss")
    given: dict[str, Any] = {"val_check_interval": 2, "train_dataloaders": DataLoader(data(48, 0), 8)}
    whole = trained(place, body(module=Plain, **given))
    assert whole.outcome is Outcome.COMPLETED, whole.traceback
    assert whole.value == pytest.approx(trained(place, by_hand).value, rel=1e-6)
    place = replace(place, checkpoints=str(tmp_path / "run"), checkpoint_seconds=0.0)
    with pytest.raises(SystemExit):
        trained(place, body(module=Plain, die_at=4, **given))
    assert numbers(trained(replace(place, attempt=2), body(module=Plain, **given))) == numbers(whole)


def test_the_training_options_reaches_lightning() -> None:
    seen: list[Any] = []

    class Looks(Net):
        def on_train_start(self) -> None:
            trainer = self.trainer
            seen.append((trainer.gradient_clip_val, trainer.gradient_clip_algorithm, trainer.accumulate_grad_batches))
            seen.append(trainer.precision)

    training = {"clip_norm": 0.3, "accumulation": 2, "precision": "bfloat16"}
    result = trained(adamw(training, steps=4), body(module=Looks))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert seen == [(0.3, "norm", 2), "bf16-mixed"]
    trained(adamw({"clip_value": 0.2}, steps=4), body(module=Looks))
    assert seen[2:] == [(0.2, "value", 1), "32-true"]
    trained(adamw(steps=4), body(module=Looks, gradient_clip_val=0.9, accumulate_grad_batches=3))
    assert seen[4:] == [(0.9, None, 3), "32-true"]


def test_the_training_loss_is_a_mean_of_whole_batches() -> None:
    still = setting(assign(family="adamw", steps=3, metric="val_loss"), learning_rate=0.0, weight_decay=0.0)
    parts = setting(assign(family="adamw", steps=1, metric="val_loss"), {"accumulation": 3}, learning_rate=0.0)
    once, summed = trained(still, body()), trained(parts, body())
    assert curve(summed, "train_loss") == pytest.approx(curve(once, "train_loss"))


class Digits(lightning.LightningDataModule):  # type: ignore[misc, name-defined]
    def train_dataloader(self) -> Any:
        return DataLoader(data(48, 0), 8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(data(24, 1), 8)

    def test_dataloader(self) -> Any:
        return DataLoader(data(24, 1), 8)


def test_a_data_module_brings_its_own_loaders() -> None:
    def with_a_module(run: Run) -> None:
        fit(run, Net(), datamodule=Digits())

    result = trained(adamw(steps=2, unit="epochs", phase=Phase.TEST), with_a_module)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [6, 12]
    assert result.tests["test_loss"] == pytest.approx(result.value, rel=1e-6)


def test_a_module_that_optimizes_by_hand_trains() -> None:
    class ByHand(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            optimizer, loss = self.optimizers(), self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            return loss

    by_hand, by_lightning = trained(adamw(steps=6), body(module=ByHand)), trained(adamw(steps=6), body())
    assert by_hand.outcome is Outcome.COMPLETED, by_hand.traceback
    assert numbers(by_hand) == numbers(by_lightning)


@pytest.mark.parametrize(
    ("training", "options", "words"),
    [
        ({"clip_norm": 1.0, "clip_value": 1.0}, {}, "by norm (1) and by value (1); expected one of the two"),
        ({"batch_size": 4}, {}, "Read run.training['batch_size'] where you build the data"),
        ({"label_smoothing": 0.1}, {}, "Read run.training['label_smoothing'] where you build"),
        ({}, {"max_steps": 7}, "trainer_options has 'max_steps'"),
        ({}, {"train_dataloaders": DataLoader(Endless(), 8)}, "trains on data without a length"),
        (
            {"average": "ema"},
            {"module": lambda: Net(nn.BatchNorm1d)},
            "has BatchNorm, and average: ema evaluates other",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(training: dict[str, Any], options: dict[str, Any], words: str) -> None:
    result = trained(adamw(training, steps=1, unit="epochs"), body(**options))
    assert result.outcome is Outcome.FAILED
    assert words in result.reason
    assert result.step == 0


def test_families_that_average_by_themselves_refuse_what_they_cannot_do() -> None:
    place = assign(family="schedule-free-adamw", steps=2, schedule={"kind": "constant"}, metric="val_loss")
    twice = trained(setting(place, {"average": "ema"}), body())
    assert "averages by itself" in twice.reason
    normed = trained(place, body(module=lambda: Net(nn.BatchNorm1d)))
    assert "has BatchNorm, and schedule-free-adamw evaluates other weights" in normed.reason
