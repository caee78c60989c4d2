"""What ``test_adapters`` asks of a library, for Hugging Face's ``Trainer``; see there for the names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tuner.catalog.schedules import Schedule
from tuner.core.records import Assignment
from tuner.training.adapters.hugging_face import fit
from tuner.training.handle import Run
from tuner.training.optimizers import build

from .helpers import Seen

transformers = pytest.importorskip("transformers")

PACKAGE, EXTRA = "transformers", "huggingface"
LOSS, ACCURACY, TEST_LOSS = "loss", "accuracy", "loss"
RATE = 3e-3
TRAIN, EVAL = 44, 20
PER_EPOCH = 6  # batches of 8

ALONE = {"max_grad_norm": 0.5}
SAVES = {"save_strategy": "steps", "save_steps": 2}
FREQUENT = {"logging_steps": 2}
RHYTHMS = [{"eval_strategy": "epoch"}, {"eval_strategy": "no"}, {"eval_delay": 100}]


def spared(name: str) -> bool:
    return name.endswith("bias") or "LayerNorm" in name


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


def body(
    seen: Seen | None = None, every: int = 3, die_at: int = 0, workers: int = 0, test: bool = False, **given: Any
) -> Callable[[Run], None]:
    own = {"metric_names": given.pop("metric_names", None), "test_dataset": examples(EVAL, 1) if test else None}

    def train_it(run: Run) -> None:
        watch = Watch(seen or Seen(), die_at)
        options = {"eval_steps": every, "dataloader_num_workers": workers, **given}
        options["callbacks"] = [watch, *given.get("callbacks", ())]
        fit(run, trainer_of(**{key: value() if key == "model" else value for key, value in options.items()}), **own)

    return train_it


class Watch(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    """Notes what the trainer does."""

    def __init__(self, seen: Seen, die_at: int = 0) -> None:
        self.seen, self.die_at = seen, die_at

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        decay = {id(p): group["weight_decay"] for group in rest["optimizer"].param_groups for p in group["params"]}
        self.seen.decays = {name: decay[id(p)] for name, p in rest["model"].named_parameters()}
        self.seen.settings = args

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step + 1 == self.die_at:
            raise SystemExit

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.seen.groups(rest["optimizer"])

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **rest: Any) -> None:
        self.seen.evaluations.append({name.removeprefix("eval_"): value for name, value in metrics.items()})


def alone(assignment: Assignment, steps: int) -> list[float]:
    cosine = Schedule.of({"kind": "cosine"})
    torch.manual_seed(3)
    model = bert()
    optimizer = build(assignment.spec.setting, model, steps, torch.device("cpu")).parts["main"]
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine.multipliers(min(step, steps - 1), steps).lr
    )
    given = {"max_steps": steps, "seed": 3, "data_seed": 3, "use_cpu": True, "disable_tqdm": True, "eval_steps": 3}
    trainer = trainer_of(model, optimizers=(optimizer, rates), **given, **ALONE)
    trainer.remove_callback(transformers.PrinterCallback)
    transformers.set_seed(3)
    trainer.train()
    return [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]


def spoilt() -> Callable[[Run], None]:
    class Quiet(transformers.Trainer):  # type: ignore[misc, name-defined]
        def compute_loss(self, model: Any, inputs: Any, **rest: Any) -> Any:
            found = super().compute_loss(model, inputs, **rest)
            with torch.no_grad():
                next(iter(model.parameters())).fill_(float("nan"))
            loss, outputs = found if isinstance(found, tuple) else (found, None)
            loss = torch.nan_to_num(loss)
            return (loss, outputs) if isinstance(found, tuple) else loss

    return body(kind=Quiet, compute_metrics=lambda found: {"accuracy": 0.5})


class Endless(torch.utils.data.IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from examples(8, 0)


def endless() -> Callable[[Run], None]:
    return body(train_dataset=Endless(), max_steps=1)
