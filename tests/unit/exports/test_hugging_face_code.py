"""The exported arguments, with ``optimizers=`` where needed, train a Trainer's model to the study's weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from exports.programs import STEPS, Net, a_setting, batches, exported, module_of, trained_by_us, weights
from tuner.catalog.schedules import Schedule
from tuner.core.records import Setting
from tuner.core.values import Scalar

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

NAMED = {
    "cosine": "cosine",
    "linear": "linear",
    "polynomial": "polynomial",
    "constant": "constant",
    "wsd": "warmup_stable_decay",
    "wsd-cosine": "warmup_stable_decay",
    "wsd-sqrt": "warmup_stable_decay",
    "inverse-sqrt": "inverse_sqrt",
}


class Model(nn.Module):
    """Names as Transformers have them, so that Trainer finds the norms by name."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class Rates(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, optimizer: Any = None, **rest: Any) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])


def fitted(text: str, folder: Path, **rest: Any) -> tuple[Model, list[float]]:
    data = [{"x": x, "labels": y} for batch in batches(STEPS) for x, y in zip(*batch, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = module_of(text)
        quiet = {
            "report_to": [],
            "disable_tqdm": True,
            "save_strategy": "no",
            "use_cpu": True,
            "logging_strategy": "no",
        }
        given = program["args"].to_dict() | quiet | {"output_dir": str(folder), "per_device_train_batch_size": 16}
        args = transformers.TrainingArguments(
            **{k: v for k, v in given.items() if k in transformers.TrainingArguments.__dataclass_fields__}
        )
        rates, model = Rates(), Model()
        program["args"] = args
        make = program.get("trainer") or (lambda model, **more: transformers.Trainer(model=model, args=args, **more))

        class InOrder(transformers.Trainer):  # type: ignore[misc, name-defined]
            def _get_train_sampler(self, *args: Any) -> Any:
                return torch.utils.data.SequentialSampler(data)  # type: ignore[arg-type]

        if "trainer" in program:
            program["Trainer"] = InOrder
            trainer = make(model, train_dataset=data, callbacks=[rates])
        else:
            trainer = InOrder(model=model, args=args, train_dataset=data, callbacks=[rates])
        trainer.train()
        if hasattr(trainer.optimizer, "eval"):
            trainer.optimizer.eval()
    return model, rates.seen


def moved(training: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The patterns as they are for a model inside another."""
    return {key.replace(":", ":net.") if ":" in key else key: value for key, value in training.items()}


CASES = {
    "adamw by name": a_setting("adamw", {"kind": "cosine"}, {"clip_norm": 1.0}),
    "sgd by name": a_setting("sgd", {"kind": "linear"}),
    "sgdm by name": a_setting("sgdm", {"kind": "polynomial", "end_ratio": 0.1}, dampening=0.1),
    "nag by name": a_setting("nag", {"kind": "cosine", "end_ratio": 0.1}),
    "rmsprop by name": a_setting("rmsprop", {"kind": "constant"}, centered=1, momentum=0.3),
    "warmed": a_setting("adamw", {"kind": "cosine", "warmup": 0.2}),
    "cycled": a_setting("adam", {"kind": "onecycle"}, {"clip_norm": 0.5}),
    "decoupled": a_setting("nag", {"kind": "cosine"}, weight_decay=0.2),
    "schedule-free": a_setting("schedule-free-adamw", {"kind": "constant", "warmup": 0.1}),
    "layers": a_setting("muon", {"kind": "wsd"}, {"multiplier:body.*": 0.5}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_trainer_trains_to_the_same_weights(name: str, tmp_path: Path) -> None:
    setting = CASES[name]
    found = exported(
        Setting(setting.family, setting.hyperparameters, setting.schedule, moved(setting.training)), "huggingface"
    )
    assert ("optimizers=" in found.text.split("\nargs")[-1]) == ("by name" not in name)
    model, rates = fitted(found.text, tmp_path)
    schedule, top = Schedule.of(setting.schedule), max(rates)
    wanted = [schedule.multipliers(step, STEPS).lr for step in range(STEPS)]
    assert [rate / top for rate in rates] == pytest.approx([lr / max(wanted) for lr in wanted], rel=1e-6)
    torch.testing.assert_close(weights(model), weights(trained_by_us(setting)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", NAMED)
def test_schedules_that_trainer_has_by_name(kind: str) -> None:
    setting = a_setting("adamw", {"kind": kind, "end_ratio": 0.25} if kind.startswith("wsd") else {"kind": kind})
    args = module_of(exported(setting, "huggingface").text)["args"]
    assert args.lr_scheduler_type == NAMED[kind]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
    options = args.lr_scheduler_kwargs or {}
    scheduler = transformers.get_scheduler(args.lr_scheduler_type, optimizer, 0, STEPS, options)
    schedule = Schedule.of(setting.schedule)
    for step in range(STEPS):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * schedule.multipliers(step, STEPS).lr, rel=1e-9)
        optimizer.step()
        scheduler.step()


def test_with_a_warmup_the_arguments_come_near_and_say_so() -> None:
    found = exported(a_setting("adamw", {"kind": "constant", "warmup": 0.2}), "huggingface")
    args = module_of(found.text)["args"]
    assert (args.lr_scheduler_type, args.warmup_steps, args.optim) == ("constant_with_warmup", 0.2, "adamw_torch")
    assert any("hundredth" in note for note in found.notes)


def test_what_trainer_cannot_do_is_said_and_what_it_can_is_set() -> None:
    training = {"clip_value": 0.1, "average": "ema", "batch_size": 8, "accumulation": 2, "label_smoothing": 0.1}
    found = exported(a_setting("adamw", {"kind": "cosine"}, training), "huggingface")
    assert sum(word in " ".join(found.notes) for word in ("clip_value", "average ema")) == 2
    args = module_of(found.text)["args"]
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (8, 2)
    assert (args.label_smoothing_factor, args.max_grad_norm, args.max_steps) == (0.1, 0.0, STEPS)
    assert "learning_rate=0.001" in found.text
