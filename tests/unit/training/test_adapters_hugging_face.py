"""Hugging Face's ``Trainer``: what it alone has. What every library promises is in ``test_adapters``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.catalog.families import FAMILIES
from tuner.core.records import Assignment, Outcome
from tuner.training.adapters.hugging_face import fit
from tuner.training.handle import Run

from .adapters_hugging_face import EVAL, PER_EPOCH, RATE, TRAIN, Endless, bert, body, examples, trainer_of, transformers
from .helpers import Seen, assign, curve, setting, trained

pytestmark = pytest.mark.usefixtures("temporary", "little_garbage")


def adamw(training: Mapping[str, Any] | None = None, **given: Any) -> Assignment:
    return setting(assign(family="adamw", **given), training, learning_rate=RATE)


def test_a_model_that_the_trainer_makes_depends_on_the_seed() -> None:
    fresh = [trained(adamw(steps=8, seed=seed), body(model_init=bert)) for seed in (3, 4)]
    assert fresh[0].value != fresh[1].value


def test_an_epoch_is_counted_in_updates_of_the_batch_options() -> None:
    seen = Seen()
    training = {"batch_size": 4, "accumulation": 4}  # 11 batches, 3 updates
    result = trained(adamw(training, steps=2, unit="epochs"), body(seen))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.step == len(seen.rates) == seen.settings.max_steps == 6
    by_epoch = trained(adamw(steps=2, unit="epochs"), body(logging_steps=2, eval_strategy="epoch"))
    assert by_epoch.step == 2 * PER_EPOCH


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains(family: str) -> None:
    result = trained(assign(family=family, steps=4, schedule={"kind": "constant"}), body(every=2))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert [m.step for m in result.measurements] == [2, 4]


def test_the_training_options_reach_the_trainer() -> None:
    seen = Seen()
    training = {"clip_norm": 0.3, "accumulation": 2, "batch_size": 4, "precision": "bfloat16"}
    result = trained(adamw(training, steps=4), body(seen, bf16=False))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    args = seen.settings
    assert (args.max_grad_norm, args.gradient_accumulation_steps, args.train_batch_size) == (0.3, 2, 4)
    assert (args.bf16, args.fp16) == (True, False)
    plain = trained(adamw({**training, "precision": "float32"}, steps=4), body(seen))
    assert seen.settings.bf16 is False
    assert plain.value != result.value


def test_what_the_study_leaves_stays_the_trainers() -> None:
    seen = Seen()
    own = {"max_grad_norm": 0.7, "per_device_train_batch_size": 11, "bf16": True, "use_cpu": True}
    trained(adamw(steps=2), body(seen, **own))
    assert (seen.settings.max_grad_norm, seen.settings.train_batch_size, seen.settings.bf16) == (0.7, 11, True)


def test_gradients_are_clipped_by_value() -> None:
    largest = []

    class Look(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            largest.append(max(float(p.grad.abs().max()) for p in rest["model"].parameters() if p.grad is not None))

    trained(adamw({"clip_value": 1e-3}, steps=3), body(callbacks=[Look()]))
    assert largest == [pytest.approx(1e-3)] * 3


def test_label_smoothing_is_trained_with_and_not_evaluated_with() -> None:
    still = {"learning_rate": 0.0, "weight_decay": 0.0}
    smooth, hard = (
        trained(setting(assign(family="adamw", steps=5), {"label_smoothing": share}, **still), body(model=steady))
        for share in (0.3, 0.0)
    )
    assert smooth.value == hard.value
    assert curve(smooth, "train_loss") != curve(hard, "train_loss")


def steady() -> nn.Module:
    model = bert()
    model.classifier.weight.data.mul_(50.0)
    return model


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

    def evaluated(run: Run) -> None:
        trainer = trainer_of(Normed())
        fit(run, trainer)
        norm = trainer.model.layers[1]
        norm.reset_running_stats()
        norm.momentum = None
        trainer.model.train()
        for batch in trainer.get_train_dataloader():
            trainer.model(**batch)
        again.append(trainer.evaluate()["eval_loss"])

    result = trained(assign(family="schedule-free-adamw", steps=12, schedule={"kind": "constant"}), evaluated)
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert result.value == pytest.approx(again[0], rel=1e-5)


def test_several_evaluation_sets_are_one_report() -> None:
    sets = {"near": examples(EVAL, 1), "far": examples(EVAL, 2)}
    result = trained(adamw(steps=10, metric="far_accuracy"), body(every=5, eval_dataset=sets))
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

    def evaluated(run: Run) -> None:
        also = Also()
        also.trainer = trainer_of(callbacks=[also])
        fit(run, also.trainer)

    result = trained(adamw(steps=5), evaluated)
    assert [m.step for m in result.measurements] == [5]


def test_a_language_model_reports_its_loss() -> None:
    def gpt2() -> nn.Module:
        config = transformers.GPT2Config(
            vocab_size=16, n_positions=8, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
        return transformers.GPT2LMHeadModel(config)

    def text(count: int, seed: int) -> list[dict[str, Tensor]]:
        return [{"input_ids": row["input_ids"], "labels": row["input_ids"]} for row in examples(count, seed)]

    given = {"model": gpt2, "train_dataset": text(TRAIN, 0), "eval_dataset": text(EVAL, 1), "compute_metrics": None}
    result = trained(adamw(steps=10), body(**given))
    assert result.outcome is Outcome.COMPLETED, result.traceback
    assert curve(result, "loss")[-1] < 2.9


class OwnOptimizer(transformers.Trainer):  # type: ignore[misc, name-defined]
    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        return self.optimizer


class OwnLoss(transformers.Trainer):  # type: ignore[misc, name-defined]
    def compute_loss(self, *given: Any, **named: Any) -> Any:
        return super().compute_loss(*given, **named)


@pytest.mark.parametrize(
    ("training", "given", "words"),
    [
        ({}, {"eval_dataset": None, "eval_strategy": "no"}, "has no eval_dataset; expected one to evaluate on"),
        ({}, {"kind": OwnOptimizer}, "trains with a SGD and a ScheduleLR of its own"),
        ({"label_smoothing": 0.1}, {"kind": OwnLoss}, "sets label_smoothing to 0.1, which this adapter cannot honour"),
        ({"batch_size": 4, "batch_scaling": "linear"}, {}, "batch_reference is not known"),
        ({}, {"train_dataset": Endless()}, "has a train_dataset without a length"),
    ],
)
def test_what_cannot_be_honoured_is_refused(training: dict[str, Any], given: dict[str, Any], words: str) -> None:
    result = trained(adamw(training, steps=1, unit="epochs"), body(max_steps=1, **given))
    assert result.outcome is Outcome.FAILED
    assert words in result.reason
    assert result.step == 0
