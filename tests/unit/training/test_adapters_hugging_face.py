from __future__ import annotations

import gc
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import Schedule
from tuner.core.records import Assignment, Outcome, Phase, RunResult
from tuner.training.adapters.hugging_face import fit
from tuner.training.handle import Run
from tuner.training.optimizers import build
from tuner.training.run import train

from .helpers import assign, numbers, trained

transformers = pytest.importorskip("transformers")

TRAIN, EVAL = 44, 20
PER_EPOCH = 6  # batches of 8


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    """Accelerate collects garbage at the start of each training, among all that the suite has imported: 0.3 s."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def examples(count: int, seed: int) -> list[dict[str, Tensor]]:
    """Eight tokens; the label says whether most of them are large."""
    tokens = torch.randint(1, 16, (count, 8), generator=torch.Generator().manual_seed(seed))
    labels = ((tokens > 7).sum(1) > 4).long()
    return [{"input_ids": t, "labels": label} for t, label in zip(tokens, labels, strict=True)]


def bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=8,
        num_labels=2,
    )
    return transformers.BertForSequenceClassification(config)


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float(np.mean(found.predictions.argmax(-1) == found.label_ids))}


def trainer_of(model: nn.Module | None = None, kind: Any = None, **given: Any) -> Any:
    """What a user writes: a model, arguments, data."""
    names = {f.name for f in transformers.TrainingArguments.__dataclass_fields__.values()}
    arguments = {key: given.pop(key) for key in list(given) if key in names}
    args = transformers.TrainingArguments(output_dir=".", **{"eval_strategy": "steps", "eval_steps": 5, **arguments})
    rest = {
        "train_dataset": examples(TRAIN, 0),
        "eval_dataset": examples(EVAL, 1),
        "compute_metrics": accuracy,
        **given,
    }
    if "model_init" not in rest:
        rest["model"] = bert() if model is None else model
    return (kind or transformers.Trainer)(args=args, **rest)


def function(**given: Any) -> Callable[[Run], None]:
    own = {key: given.pop(key) for key in ("test_dataset", "metric_names") if key in given}

    def train_it(run: Run) -> None:
        fit(run, trainer_of(**{key: value() if key == "model" else value for key, value in given.items()}), **own)

    return train_it


def setting(assignment: Assignment, training: Mapping[str, Any] | None = None, **hyper: float) -> Assignment:
    old = assignment.spec.setting
    new = replace(old, hyperparameters={**old.hyperparameters, **hyper}, training=training or {})
    return replace(assignment, spec=replace(assignment.spec, setting=new))


def adamw(training: Mapping[str, Any] | None = None, rate: float = 3e-3, **given: Any) -> Assignment:
    return setting(assign(family="adamw", **given), training, learning_rate=rate)


class Watch(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Notes what the trainer does."""

    def __init__(self, die_at: int = 0) -> None:
        self.die_at = die_at
        self.rates: list[list[tuple[float, float | None]]] = []
        self.evaluations: list[dict[str, float]] = []
        self.args: Any = None
        self.kept: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.args, self.kept = args, rest

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step + 1 == self.die_at:
            raise SystemExit

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        groups = rest["optimizer"].param_groups
        momenta = [g["momentum"] if "momentum" in g else g["betas"][0] for g in groups]
        self.rates.append([(g["lr"], m) for g, m in zip(groups, momenta, strict=True)])

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **rest: Any) -> None:
        self.evaluations.append(dict(metrics))


def curve(result: RunResult, name: str) -> list[float]:
    return [m.values[name] for m in result.measurements]


def test_every_evaluation_is_a_report_with_the_trainers_own_values() -> None:
    watch = Watch()
    result = trained(adamw(steps=12, metric="accuracy"), function(callbacks=[watch]))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [5, 10, 12]
    assert curve(result, "accuracy") == [e["eval_accuracy"] for e in watch.evaluations]
    assert curve(result, "loss") == [e["eval_loss"] for e in watch.evaluations]
    assert all(set(m.values) == {"train_loss", "loss", "accuracy"} for m in result.measurements)
    assert result.value == watch.evaluations[-1]["eval_accuracy"]
    assert result.eval_seconds > 0 < result.train_seconds


def test_it_trains_as_the_trainer_alone_would_with_the_same_optimizer() -> None:
    """The trainer's own loop with the same optimizer and rates, on the same seed: the same to the last bit."""
    assignment, cosine = adamw(steps=12, schedule={"kind": "cosine"}), Schedule.of({"kind": "cosine"})
    found = trained(assignment, function(max_grad_norm=0.5))
    torch.manual_seed(3)
    model = bert()
    optimizer = build(assignment.spec.setting, model, 12, torch.device("cpu")).parts["main"]
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine.multipliers(min(step, 11), 12).lr)
    given = {"max_steps": 12, "seed": 3, "data_seed": 3, "max_grad_norm": 0.5, "use_cpu": True, "disable_tqdm": True}
    alone = trainer_of(model, optimizers=(optimizer, rates), **given)
    alone.remove_callback(transformers.PrinterCallback)
    transformers.set_seed(3)
    alone.train()
    assert curve(found, "loss") == [entry["eval_loss"] for entry in alone.state.log_history if "eval_loss" in entry]


def test_it_repeats_bit_for_bit_and_the_seed_matters() -> None:
    first, second = (trained(adamw(steps=8), function()) for _ in range(2))
    assert numbers(first) == numbers(second)
    assert numbers(trained(adamw(steps=8, seed=4), function())) != numbers(first)
    fresh = [trained(adamw(steps=8, seed=seed), function(model_init=bert)) for seed in (3, 4)]
    assert fresh[0].value != fresh[1].value


def test_biases_and_norms_do_not_decay() -> None:
    watch = Watch()
    trained(adamw(steps=2), function(callbacks=[watch]))
    optimizer, model = watch.kept["optimizer"], watch.kept["model"]
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    found = {name: decay[id(p)] for name, p in model.named_parameters()}
    spared = {name for name in found if name.endswith("bias") or "LayerNorm" in name}
    assert {name for name, value in found.items() if value == 0.0} == spared
    assert len(spared) > 10


@pytest.mark.parametrize(
    ("family", "schedule"),
    [
        ("adamw", {"kind": "cosine", "warmup": 0.25}),
        ("sgdm", {"kind": "onecycle"}),
        ("adamw", {"kind": "onecycle"}),
        ("sgdm", {"kind": "wsd", "warmup": 0.1}),
    ],
)
def test_rate_and_momentum_follow_the_schedule(family: str, schedule: dict[str, Any]) -> None:
    watch = Watch()
    assignment = setting(assign(family=family, steps=12, schedule=schedule), learning_rate=1e-3)
    trained(assignment, function(callbacks=[watch]))
    factors = [Schedule.of(schedule).multipliers(step, 12) for step in range(12)]
    hyper = assignment.spec.setting.hyperparameters
    momentum = float(hyper["momentum"] if family == "sgdm" else hyper["beta1"])
    expected = [(1e-3 * f.lr, momentum * (1.0 if f.momentum is None else f.momentum)) for f in factors]
    assert [step[0] for step in watch.rates] == [pytest.approx(pair, rel=1e-12) for pair in expected]
    assert all(step[0] == step[1] for step in watch.rates)


def test_an_epoch_is_counted_in_updates() -> None:
    watch = Watch()
    training = {"batch_size": 4, "accumulation": 4}  # 11 batches, 3 updates
    result = trained(adamw(training, steps=2, unit="epochs"), function(callbacks=[watch]))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.step == 6
    assert len(watch.rates) == 6
    assert watch.args.max_steps == 6
    by_epoch = trained(adamw(steps=2, unit="epochs"), function(logging_steps=2, eval_strategy="epoch"))
    assert by_epoch.step == 2 * PER_EPOCH


def test_a_loss_that_is_not_finite_is_divergence(capfd: pytest.CaptureFixture[str]) -> None:
    result = trained(setting(assign(steps=30), learning_rate=1e4, l2=10.0), function(logging_steps=2))
    assert result.outcome is Outcome.DIVERGED
    assert "became nan at step" in result.reason
    assert result.step < 30
    assert capfd.readouterr() == ("", "")


def test_weights_that_are_not_finite_are_divergence_though_the_metric_is() -> None:
    def spoil(found: Any) -> dict[str, float]:
        return {"accuracy": 0.5}

    class Quiet(transformers.Trainer):  # type: ignore[misc, name-defined]
        def compute_loss(self, model: Any, inputs: Any, **rest: Any) -> Any:
            found = super().compute_loss(model, inputs, **rest)
            with torch.no_grad():
                next(iter(model.parameters())).fill_(float("nan"))
            loss, outputs = found if isinstance(found, tuple) else (found, None)
            loss = torch.nan_to_num(loss)
            return (loss, outputs) if isinstance(found, tuple) else loss

    result = trained(adamw(steps=6, metric="accuracy"), function(kind=Quiet, compute_metrics=spoil))
    assert result.outcome is Outcome.DIVERGED
    assert result.reason == "weights became nan at step 5 of 6"


@pytest.mark.parametrize("workers", [0, 1])
def test_closing_the_generator_leaves_nothing_behind(workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    threads = set(threading.enumerate())
    generator = train(adamw(steps=20), function(dataloader_num_workers=workers))
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
    result = trained(adamw(steps=6), function(save_strategy="steps", save_steps=2))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert capfd.readouterr() == ("", "")
    assert not list(Path.cwd().iterdir())


@pytest.fixture(scope="module")
def whole() -> RunResult:
    return trained(adamw(steps=14), function(eval_steps=3))


@pytest.mark.parametrize("die_at", [5, 8, 11, 14])
def test_a_killed_run_goes_on_bit_for_bit(die_at: int, tmp_path: Path, whole: RunResult) -> None:
    """Evaluations at 3, 6, 9, ...: inside epochs of 6 steps and at their ends; the model has dropout."""
    assert whole.outcome is Outcome.COMPLETED, whole.traceback
    place = adamw(steps=14, checkpoints=str(tmp_path / "run"))
    with pytest.raises(SystemExit):
        trained(place, function(eval_steps=3, callbacks=[Watch(die_at)]))
    result = trained(replace(place, attempt=2), function(eval_steps=3))
    assert result.resumed_at == (die_at - 1) // 3 * 3
    assert numbers(result) == numbers(whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains(family: str) -> None:
    result = trained(assign(family=family, steps=4, schedule={"kind": "constant"}), function(eval_steps=2))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [2, 4]


def test_the_training_options_reaches_the_trainer() -> None:
    watch = Watch()
    training = {"clip_norm": 0.3, "accumulation": 2, "batch_size": 4, "precision": "bfloat16"}
    result = trained(adamw(training, steps=4), function(callbacks=[watch], bf16=False))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    found = watch.args
    assert (found.max_grad_norm, found.gradient_accumulation_steps, found.train_batch_size) == (0.3, 2, 4)
    assert (found.bf16, found.fp16) == (True, False)
    plain = trained(adamw({**training, "precision": "float32"}, steps=4), function(callbacks=[watch]))
    assert watch.args.bf16 is False
    assert plain.value != result.value


def test_what_the_study_leaves_stays_the_trainers() -> None:
    watch = Watch()
    own = {"max_grad_norm": 0.7, "per_device_train_batch_size": 11, "bf16": True, "use_cpu": True}
    trained(adamw(steps=2), function(callbacks=[watch], **own))
    assert (watch.args.max_grad_norm, watch.args.train_batch_size, watch.args.bf16) == (0.7, 11, True)


def test_gradients_are_clipped_by_value() -> None:
    largest = []

    class Look(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            largest.append(max(float(p.grad.abs().max()) for p in rest["model"].parameters() if p.grad is not None))

    trained(adamw({"clip_value": 1e-3}, steps=3), function(callbacks=[Look()]))
    assert largest == [pytest.approx(1e-3)] * 3


def test_label_smoothing_is_trained_with_and_not_evaluated_with() -> None:
    still = {"learning_rate": 0.0, "weight_decay": 0.0}
    smooth, hard = (
        trained(setting(assign(family="adamw", steps=5), {"label_smoothing": share}, **still), function(model=steady))
        for share in (0.3, 0.0)
    )
    assert smooth.value == hard.value
    assert curve(smooth, "train_loss") != curve(hard, "train_loss")


def steady() -> nn.Module:
    model = bert()
    model.classifier.weight.data.mul_(50.0)
    return model


def test_averaged_weights_are_evaluated_and_training_goes_on_with_the_last(tmp_path: Path) -> None:
    plain = trained(adamw(steps=12), function(eval_steps=4))
    training = {"average": "ema", "ema_decay": 0.9}
    found = trained(adamw(training, steps=12), function(eval_steps=4))
    assert found.outcome is Outcome.COMPLETED, found.traceback
    assert curve(found, "train_loss") == curve(plain, "train_loss")
    assert all(a != b for a, b in zip(curve(found, "loss"), curve(plain, "loss"), strict=True))
    place = adamw(training, steps=12, checkpoints=str(tmp_path / "run"))
    with pytest.raises(SystemExit):
        trained(place, function(eval_steps=4, callbacks=[Watch(die_at=10)]))
    assert numbers(trained(replace(place, attempt=2), function(eval_steps=4))) == numbers(found)


class Normed(nn.Module):
    """A model that is none of the hub's, with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.layers(input_ids.float())
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_batchnorm_gets_statistics_of_the_weights_that_are_evaluated() -> None:
    again: list[float] = []

    def body(run: Run) -> None:
        trainer = trainer_of(Normed())
        fit(run, trainer)
        norm = trainer.model.layers[1]
        norm.reset_running_stats()
        norm.momentum = None
        trainer.model.train()
        for batch in trainer.get_train_dataloader():
            trainer.model(**batch)
        again.append(trainer.evaluate()["eval_loss"])

    result = trained(assign(family="schedule-free-adamw", steps=12, schedule={"kind": "constant"}), body)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.value == pytest.approx(again[0], rel=1e-5)


def test_a_schedule_that_follows_a_metric_sees_the_reports() -> None:
    watch = Watch()
    schedule = {"kind": "plateau", "patience": 0.0, "factor": 0.5, "threshold": 0.1, "signal": "validation"}
    result = trained(adamw(steps=6, schedule=schedule), function(callbacks=[watch], eval_steps=1))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    follows, rates = Schedule.of(schedule), []
    for step, loss in enumerate(curve(result, "loss"), start=1):
        rates.append(3e-3 * follows.multipliers(step - 1, 6).lr)
        follows = follows.after(step, 6, loss)
    assert [step[0][0] for step in watch.rates] == rates
    assert min(rates) < max(rates)


def test_several_evaluation_sets_are_one_report() -> None:
    sets = {"near": examples(EVAL, 1), "far": examples(EVAL, 2)}
    result = trained(adamw(steps=10, metric="far_accuracy"), function(eval_dataset=sets))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [5, 10]
    assert {"near_loss", "near_accuracy", "far_loss", "far_accuracy", "train_loss"} == set(
        result.measurements[0].values
    )


def test_another_evaluation_in_a_callback_is_not_a_report() -> None:
    class Also(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        trainer: Any

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.trainer.evaluate(examples(4, 3), metric_key_prefix="extra")

    def body(run: Run) -> None:
        also = Also()
        also.trainer = trainer_of(callbacks=[also])
        fit(run, also.trainer)

    result = trained(adamw(steps=5), body)
    assert [m.step for m in result.measurements] == [5]


@pytest.mark.parametrize("rhythm", [{"eval_strategy": "epoch"}, {"eval_strategy": "no"}, {"eval_delay": 100}])
def test_the_horizon_is_evaluated_whatever_the_rhythm(rhythm: dict[str, Any]) -> None:
    result = trained(adamw(steps=8, metric="accuracy"), function(**rhythm))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements][-1] == 8
    assert "train_loss" in result.measurements[-1].values


@pytest.mark.parametrize(
    ("family", "training"), [("adamw", {}), ("adamw", {"average": "ema"}), ("schedule-free-adamw", {})]
)
def test_the_test_split_is_evaluated_in_its_phase_alone(family: str, training: dict[str, Any], tmp_path: Path) -> None:
    """The validation data again, so that the test shows the very weights that the last report did."""
    held_out = function(test_dataset=examples(EVAL, 1))
    given = {"family": family, "steps": 5, "metric": "loss", "schedule": {"kind": "constant"}}
    place = setting(assign(**given, phase=Phase.TEST, checkpoints=str(tmp_path / "run")), training)
    found = trained(place, held_out)
    assert set(found.tests) == {"loss", "accuracy"}
    assert found.tests["loss"] == found.value
    assert trained(setting(assign(**given), training), held_out).tests == {}
    again = trained(replace(place, attempt=2), held_out)
    assert again.resumed_at == 5
    assert again.tests == found.tests


def test_only_the_metrics_asked_for_are_reported() -> None:
    result = trained(adamw(steps=5, metric="accuracy"), function(metric_names=["accuracy"]))
    assert set(result.measurements[0].values) == {"accuracy", "train_loss"}


def test_a_language_model_reports_its_loss() -> None:
    def gpt2() -> nn.Module:
        config = transformers.GPT2Config(
            vocab_size=16, n_positions=8, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
        return transformers.GPT2LMHeadModel(config)

    def text(count: int, seed: int) -> list[dict[str, Tensor]]:
        return [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in examples(count, seed)]

    given = {"model": gpt2, "train_dataset": text(TRAIN, 0), "eval_dataset": text(EVAL, 1), "compute_metrics": None}
    result = trained(adamw(steps=10), function(**given))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert curve(result, "loss")[-1] < 2.9


class OwnOptimizer(transformers.Trainer):  # type: ignore[misc, name-defined]
    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        return self.optimizer


class OwnLoss(transformers.Trainer):  # type: ignore[misc, name-defined]
    def compute_loss(self, *given: Any, **named: Any) -> Any:
        return super().compute_loss(*given, **named)


class Endless(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from examples(8, 0)


@pytest.mark.parametrize(
    ("training", "given", "words"),
    [
        ({}, {"eval_dataset": None, "eval_strategy": "no"}, "has no eval_dataset; expected one to evaluate on"),
        ({}, {"kind": OwnOptimizer}, "trains with a SGD and a ScheduleLR of its own"),
        ({"precision": "float16"}, {}, "trains in float16 on a CPU"),
        ({"label_smoothing": 0.1}, {"kind": OwnLoss}, "sets label_smoothing to 0.1, which this adapter cannot honour"),
        ({"batch_size": 4, "batch_scaling": "linear"}, {}, "batch_reference is not known"),
        ({}, {"train_dataset": Endless()}, "has a train_dataset without a length"),
    ],
)
def test_what_cannot_be_honoured_is_refused(training: dict[str, Any], given: dict[str, Any], words: str) -> None:
    result = trained(adamw(training, steps=1, unit="epochs"), function(max_steps=1, **given))
    assert result.outcome is Outcome.FAILED
    assert words in result.reason
    assert result.step == 0


def test_data_without_a_length_trains_for_steps() -> None:
    result = trained(adamw(steps=5), function(train_dataset=Endless(), max_steps=1))
    assert result.outcome is Outcome.COMPLETED, result.traceback


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = trained(adamw(steps=1), lambda run: fit(run, None))
    assert result.outcome is Outcome.FAILED
    assert 'pip install "tuner[huggingface]"' in result.reason
