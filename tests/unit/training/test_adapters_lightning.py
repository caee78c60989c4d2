from __future__ import annotations

import gc
import itertools
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import Schedule
from tuner.core.records import Assignment, Outcome, Phase, RunResult
from tuner.training.adapters.lightning import fit
from tuner.training.handle import Run
from tuner.training.optimizers import build
from tuner.training.run import train

from .helpers import assign, numbers, trained

lightning = pytest.importorskip("lightning.pytorch")

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec"),
]

PER_EPOCH = 6


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def data(count: int, seed: int) -> TensorDataset:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x.sum(1) > 0).long())


class Net(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """What a user has: layers, a loss, logged metrics, an optimizer of their own (which is not asked)."""

    def __init__(self, norm: type[nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), norm(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
        self.rates: list[list[tuple[float, float]]] = []
        self.evaluations: list[dict[str, float]] = []
        self.die_at = 0

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_step + 1 == self.die_at:
            raise SystemExit
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate("test", batch)

    def evaluate(self, split: str, batch: Any) -> None:
        hits = (self.layers(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log_dict({f"{split}_loss": self.loss(batch), f"{split}_accuracy": hits})

    def on_validation_epoch_end(self) -> None:
        self.evaluations.append({name: float(value) for name, value in self.trainer.callback_metrics.items()})

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        groups = optimizer.param_groups
        self.rates.append([(g["lr"], g["momentum"] if "momentum" in g else g.get("betas", (0.0,))[0]) for g in groups])

    def configure_optimizers(self) -> Any:
        raise AssertionError("the run brings its own")


def function(
    module: Callable[[], Any] = Net,
    keep: list[Any] | None = None,
    batch_size: int = 8,
    workers: int = 0,
    **options: Any,
) -> Callable[[Run], None]:
    own = {key: options.pop(key) for key in ("test_dataloaders", "metric_names", "train_dataloaders") if key in options}

    def train_it(run: Run) -> None:
        net = module()
        net.die_at = options.get("die_at", 0)
        if keep is not None:
            keep.append(net)
        loaders = {
            "train_dataloaders": DataLoader(data(48, 0), batch_size, shuffle=True, num_workers=workers),
            "val_dataloaders": DataLoader(data(24, 1), 8),
        }
        given = {"val_check_interval": 3, **{k: v for k, v in options.items() if k != "die_at"}}
        fit(run, net, trainer_options=given, **{**loaders, **own})

    return train_it


def setting(assignment: Assignment, training: Mapping[str, Any] | None = None, **hyper: float) -> Assignment:
    old = assignment.spec.setting
    new = replace(old, hyperparameters={**old.hyperparameters, **hyper}, training=training or {})
    return replace(assignment, spec=replace(assignment.spec, setting=new))


def adamw(training: Mapping[str, Any] | None = None, rate: float = 3e-2, **given: Any) -> Assignment:
    return setting(assign(family="adamw", **{"metric": "val_loss", **given}), training, learning_rate=rate)


def curve(result: RunResult, name: str) -> list[float]:
    return [m.values[name] for m in result.measurements]


def test_every_validation_is_a_report_with_lightnings_own_values() -> None:
    nets: list[Any] = []
    result = trained(adamw(steps=11, metric="val_accuracy"), function(keep=nets))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [3, 6, 9, 11]
    for name in ("val_loss", "val_accuracy"):
        assert curve(result, name) == [found[name] for found in nets[0].evaluations]
    assert all(set(m.values) == {"train_loss", "val_loss", "val_accuracy"} for m in result.measurements)
    assert result.value == nets[0].evaluations[-1]["val_accuracy"]
    assert result.eval_seconds > 0 < result.train_seconds


QUIET = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}


def test_it_trains_as_lightning_alone_would_with_the_same_optimizer() -> None:
    assignment, cosine = adamw(steps=12, schedule={"kind": "cosine"}), Schedule.of({"kind": "cosine"})
    found = trained(assignment, function())

    class Alone(Net):
        def configure_optimizers(self) -> Any:
            optimizer = build(assignment.spec.setting, self, 12, torch.device("cpu")).parts["main"]
            rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine.multipliers(min(step, 11), 12).lr)
            return [optimizer], [{"scheduler": rates, "interval": "step"}]

    torch.manual_seed(3)
    net = Alone()
    alone = lightning.Trainer(max_steps=12, val_check_interval=3, num_sanity_val_steps=0, accelerator="cpu", **QUIET)
    alone.fit(net, DataLoader(data(48, 0), 8, shuffle=True), DataLoader(data(24, 1), 8))
    assert curve(found, "val_loss") == [value["val_loss"] for value in net.evaluations]


def test_it_repeats_bit_for_bit_and_the_seed_matters() -> None:
    first, second = (trained(adamw(steps=8), function()) for _ in range(2))
    assert numbers(first) == numbers(second)
    assert trained(adamw(steps=8, seed=4), function()).value != first.value


def test_biases_and_norms_do_not_decay() -> None:
    nets: list[Any] = []

    class Kept(Net):
        def on_train_end(self) -> None:
            self.decay = {id(p): g["weight_decay"] for g in self.optimizers().param_groups for p in g["params"]}

    trained(adamw(steps=2), function(Kept, keep=nets))
    decays = {name for name, p in nets[0].named_parameters() if nets[0].decay[id(p)] > 0}
    assert decays == {"layers.0.weight", "layers.4.weight"}


@pytest.mark.parametrize(
    ("family", "schedule"),
    [
        ("adamw", {"kind": "cosine", "warmup": 0.25}),
        ("adamw", {"kind": "onecycle"}),
        ("sgdm", {"kind": "onecycle"}),
    ],
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_rate_and_momentum_follow_the_schedule(family: str, schedule: dict[str, Any], accumulation: int) -> None:
    nets: list[Any] = []
    assignment = assign(family=family, steps=9, schedule=schedule, metric="val_loss")
    result = trained(setting(assignment, {"accumulation": accumulation}, learning_rate=1e-3), function(keep=nets))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    factors = [Schedule.of(schedule).multipliers(step, 9) for step in range(9)]
    hyper = assignment.spec.setting.hyperparameters
    momentum = float(hyper["momentum"] if family == "sgdm" else hyper["beta1"])
    expected = [(1e-3 * f.lr, momentum * (1.0 if f.momentum is None else f.momentum)) for f in factors]
    assert [step[0] for step in nets[0].rates] == [pytest.approx(pair, rel=1e-12) for pair in expected]
    assert all(step[0] == step[1] for step in nets[0].rates)


@pytest.mark.parametrize(("batches", "steps"), [(1, 12), (4, 4)])
def test_an_epoch_is_counted_in_updates(batches: int, steps: int) -> None:
    result = trained(adamw({"accumulation": batches}, steps=2, unit="epochs"), function())
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.step == steps


def test_a_loss_that_is_not_finite_is_divergence(capfd: pytest.CaptureFixture[str]) -> None:
    assignment = assign(steps=80, metric="val_loss")
    result = trained(setting(assignment, learning_rate=1e4, l2=10.0), function(val_check_interval=1.0))
    assert result.outcome is Outcome.DIVERGED
    assert "became nan at step" in result.reason
    assert result.step < 80
    assert capfd.readouterr() == ("", "")


def test_a_loss_is_looked_at_between_validations() -> None:
    rare = {"val_check_interval": None, "check_val_every_n_epoch": 1000}
    assignment = setting(assign(steps=400, metric="val_loss"), learning_rate=1e4, l2=10.0)
    result = trained(assignment, function(**rare))
    assert result.outcome is Outcome.DIVERGED
    assert result.step == 50


def test_weights_that_are_not_finite_are_divergence_though_the_metric_is() -> None:
    class Spoilt(Net):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            with torch.no_grad():
                self.layers[0].weight.fill_(float("nan"))

        def evaluate(self, split: str, batch: Any) -> None:
            self.log("val_loss", torch.tensor(0.5))

        def loss(self, batch: Any) -> Tensor:
            return torch.nan_to_num(super().loss(batch))

    result = trained(adamw(steps=3), function(Spoilt))
    assert result.outcome is Outcome.DIVERGED
    assert result.reason == "weights became nan at step 3 of 3"


@pytest.mark.parametrize("workers", [0, 1])
def test_closing_the_generator_leaves_nothing_behind(workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    threads = set(threading.enumerate())
    generator = train(adamw(steps=20), function(workers=workers))
    next(generator)
    next(generator)
    assert list(Path(tempfile.gettempdir()).glob("tuner-*"))
    generator.close()
    until = time.monotonic() + 5.0  # a data loader's worker takes a moment to leave
    while (set(threading.enumerate()) != threads or multiprocessing.active_children()) and time.monotonic() < until:
        time.sleep(0.02)
    assert set(threading.enumerate()) == threads
    assert not multiprocessing.active_children()
    assert not list(Path(tempfile.gettempdir()).glob("tuner-*"))
    assert not list(Path.cwd().iterdir())
    assert capfd.readouterr() == ("", "")
    assert trained(adamw(steps=6), function()).outcome is Outcome.COMPLETED


def test_nothing_is_written_or_printed(capfd: pytest.CaptureFixture[str]) -> None:
    result = trained(adamw(steps=6), function())
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert capfd.readouterr() == ("", "")
    assert not list(Path.cwd().iterdir())


@pytest.fixture(scope="module")
def whole() -> RunResult:
    return trained(adamw(steps=15), function(val_check_interval=2))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("die_at", [2, 4, 6, 7, 10, 14])
def test_a_killed_run_goes_on_bit_for_bit(die_at: int, workers: int, tmp_path: Path, whole: RunResult) -> None:
    """Validations at 2, 4, 6, ...: inside epochs of 6 steps and at their ends; shuffled data, a model with dropout."""
    assert whole.outcome is Outcome.COMPLETED, whole.traceback
    place = adamw(steps=15, checkpoints=str(tmp_path / "run"))
    with pytest.raises(SystemExit):
        trained(place, function(val_check_interval=2, die_at=die_at, workers=workers))
    result = trained(replace(place, attempt=2), function(val_check_interval=2, workers=workers))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.resumed_at == (die_at - 1) // 2 * 2
    assert numbers(result) == numbers(whole)


class Noisy(TensorDataset):
    """Augmented from the global generator."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        x, y = super().__getitem__(index)
        return x + 0.1 * torch.randn(4), y


def test_augmented_data_goes_on_bit_for_bit(tmp_path: Path) -> None:
    given = {"val_check_interval": 2, "train_dataloaders": DataLoader(Noisy(*data(48, 0).tensors), 8, shuffle=True)}
    place = adamw(steps=10, checkpoints=str(tmp_path / "run"))
    with pytest.raises(SystemExit):
        trained(place, function(die_at=10, **given))
    result = trained(replace(place, attempt=2), function(**given))
    assert result.resumed_at == 8
    assert numbers(result) == numbers(trained(adamw(steps=10), function(**given)))


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
    whole = trained(place, function(Plain, **given))
    assert whole.outcome is Outcome.COMPLETED, whole.traceback
    assert whole.value == pytest.approx(trained(place, by_hand).value, rel=1e-6)
    place = replace(place, checkpoints=str(tmp_path / "run"), checkpoint_seconds=0.0)
    with pytest.raises(SystemExit):
        trained(place, function(Plain, die_at=4, **given))
    assert numbers(trained(replace(place, attempt=2), function(Plain, **given))) == numbers(whole)


def test_the_training_options_reaches_lightning() -> None:
    seen: list[Any] = []

    class Looks(Net):
        def on_train_start(self) -> None:
            trainer = self.trainer
            seen.append((trainer.gradient_clip_val, trainer.gradient_clip_algorithm, trainer.accumulate_grad_batches))
            seen.append(trainer.precision)

    training = {"clip_norm": 0.3, "accumulation": 2, "precision": "bfloat16"}
    result = trained(adamw(training, steps=4), function(Looks))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert seen == [(0.3, "norm", 2), "bf16-mixed"]
    trained(adamw({"clip_value": 0.2}, steps=4), function(Looks))
    assert seen[2:] == [(0.2, "value", 1), "32-true"]
    trained(adamw(steps=4), function(Looks, gradient_clip_val=0.9, accumulate_grad_batches=3))
    assert seen[4:] == [(0.9, None, 3), "32-true"]


def test_the_training_loss_is_a_mean_of_whole_batches() -> None:
    still = setting(assign(family="adamw", steps=3, metric="val_loss"), learning_rate=0.0, weight_decay=0.0)
    parts = setting(assign(family="adamw", steps=1, metric="val_loss"), {"accumulation": 3}, learning_rate=0.0)
    once, summed = trained(still, function()), trained(parts, function())
    assert curve(summed, "train_loss") == pytest.approx(curve(once, "train_loss"))


@pytest.mark.parametrize("training", [{"average": "ema", "ema_decay": 0.9}, {"average": "swa", "swa_start": 0.4}])
def test_averaged_weights_are_evaluated_and_training_goes_on_with_the_last(
    training: dict[str, Any], tmp_path: Path
) -> None:
    plain = trained(adamw(steps=12), function())
    found = trained(adamw(training, steps=12, phase=Phase.TEST), function(test_dataloaders=DataLoader(data(24, 1), 8)))
    assert found.outcome is Outcome.COMPLETED, found.traceback
    assert curve(found, "train_loss") == curve(plain, "train_loss")
    assert found.value != plain.value
    assert found.tests["test_loss"] == found.value
    place = adamw(training, steps=12, checkpoints=str(tmp_path / "run"))
    with pytest.raises(SystemExit):
        trained(place, function(die_at=11))
    again = trained(replace(place, attempt=2), function())
    assert numbers(again)[:4] == numbers(found)[:4]


def test_a_schedule_that_follows_a_metric_sees_the_reports() -> None:
    nets: list[Any] = []
    schedule = {"kind": "plateau", "patience": 0.0, "factor": 0.5, "threshold": 0.1, "signal": "train_loss"}
    result = trained(adamw(steps=6, schedule=schedule), function(keep=nets, val_check_interval=1))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    follows, rates = Schedule.of(schedule), []
    for step, loss in enumerate(curve(result, "train_loss"), start=1):
        rates.append(3e-2 * follows.multipliers(step - 1, 6).lr)
        follows = follows.after(step, 6, loss)
    assert [step[0][0] for step in nets[0].rates] == rates
    assert min(rates) < max(rates)


@pytest.mark.parametrize(
    "rhythm", [{"val_check_interval": 1.0}, {"val_check_interval": None, "check_val_every_n_epoch": 5}]
)
def test_the_horizon_is_evaluated_whatever_the_rhythm(rhythm: dict[str, Any]) -> None:
    result = trained(adamw(steps=8), function(**rhythm))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements][-1] == 8


@pytest.mark.parametrize(
    ("family", "training"), [("adamw", {}), ("adamw", {"average": "ema"}), ("schedule-free-adamw", {})]
)
def test_the_test_split_is_evaluated_in_its_phase_alone(family: str, training: dict[str, Any], tmp_path: Path) -> None:
    """The validation data again, so that the test shows the very weights that the last report did."""
    held_out = function(test_dataloaders=DataLoader(data(24, 1), 8))
    given = {"family": family, "steps": 5, "metric": "val_loss", "schedule": {"kind": "constant"}}
    place = setting(assign(**given, phase=Phase.TEST, checkpoints=str(tmp_path / "run")), training)
    found = trained(place, held_out)
    assert set(found.tests) == {"test_loss", "test_accuracy"}
    assert found.tests["test_loss"] == found.value
    assert trained(setting(assign(**given, phase=Phase.TEST), training), function()).tests == {}
    assert trained(setting(assign(**given), training), held_out).tests == {}
    again = trained(replace(place, attempt=2), held_out)
    assert again.resumed_at == 5
    assert again.tests == found.tests


class Digits(lightning.LightningDataModule):  # type: ignore[misc, name-defined]
    def train_dataloader(self) -> Any:
        return DataLoader(data(48, 0), 8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(data(24, 1), 8)

    def test_dataloader(self) -> Any:
        return DataLoader(data(24, 1), 8)


def test_a_data_module_brings_its_own_loaders() -> None:
    def body(run: Run) -> None:
        fit(run, Net(), datamodule=Digits())

    result = trained(adamw(steps=2, unit="epochs", phase=Phase.TEST), body)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [6, 12]
    assert result.tests["test_loss"] == result.value


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

    by_hand, by_lightning = trained(adamw(steps=6), function(ByHand)), trained(adamw(steps=6), function())
    assert by_hand.outcome is Outcome.COMPLETED, by_hand.traceback
    assert numbers(by_hand) == numbers(by_lightning)


def test_only_the_metrics_asked_for_are_reported() -> None:
    result = trained(adamw(steps=3), function(metric_names=["val_loss"]))
    assert set(result.measurements[0].values) == {"val_loss", "train_loss"}


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.cycle(data(48, 0))


@pytest.mark.parametrize(
    ("training", "options", "words"),
    [
        ({"precision": "float16"}, {}, "trains in float16 on a CPU"),
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
    result = trained(adamw(training, steps=1, unit="epochs"), function(**options))
    assert result.outcome is Outcome.FAILED
    assert words in result.reason
    assert result.step == 0


def test_families_that_average_by_themselves_refuse_what_they_cannot_do() -> None:
    place = assign(family="schedule-free-adamw", steps=2, schedule={"kind": "constant"}, metric="val_loss")
    twice = trained(setting(place, {"average": "ema"}), function())
    assert "averages by itself" in twice.reason
    normed = trained(place, function(lambda: Net(nn.BatchNorm1d)))
    assert "has BatchNorm, and schedule-free-adamw evaluates other weights" in normed.reason


def test_data_without_a_length_trains_for_steps() -> None:
    result = trained(adamw(steps=5), function(train_dataloaders=DataLoader(Endless(), 8), val_check_interval=2))
    assert result.outcome is Outcome.COMPLETED, result.traceback


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    result = trained(adamw(steps=1), function())
    assert result.outcome is Outcome.FAILED
    assert 'pip install "tuner[lightning]"' in result.reason
