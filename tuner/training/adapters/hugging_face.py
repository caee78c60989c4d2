"""Train a Hugging Face ``Trainer`` as a run: the trainer's loop with the run's optimizer. No model or data is here.

The trainer keeps the user's data, collator, loss, metrics, callbacks, and all arguments that the study does not set.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from tuner.core.errors import Place, WorkloadError, wrong
from tuner.training.adapters.common import (
    Late,
    Reporter,
    chosen,
    horizon_steps,
    package,
    packed,
    refuse,
    refuse_float16_on_cpu,
    released,
    unpacked,
)
from tuner.training.adapters.torch_schedule import ScheduleLR
from tuner.training.environment import seed_everything
from tuner.training.handle import Run
from tuner.training.loop import CHECK_STEPS

_PLACE = Place("the Trainer")
_TIMES = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time", "jit_compilation_time")
_PRECISION: Mapping[str | None, Mapping[str, bool]] = {
    None: {},
    "bfloat16": {"bf16": True, "fp16": False},
    "float16": {"bf16": False, "fp16": True},
}


def fit(run: Run, trainer: Any, *, test_dataset: Any = None, metric_names: Sequence[str] | None = None) -> None:
    """Train a ``transformers.Trainer`` with a run's optimizer, schedule, horizon, seed, device and training options.

    Each evaluation in the trainer's loop is reported, and one at the horizon: ``eval_accuracy`` as ``accuracy``, and
    ``train_loss`` as the mean since the last report. Nothing is written to the trainer's ``output_dir``. Its
    checkpoints are not kept, except in the run's own, from which it resumes after a kill.

    Args:
        run: the run.
        trainer: a ``transformers.Trainer`` with a data set to evaluate on.
        test_dataset: evaluated in a run that wants the test split.
        metric_names: report only these metrics, by their names without ``eval_``; None reports all.

    Raises:
        WorkloadError: transformers is missing, the trainer has nothing to evaluate, or cannot honour an option.
    """
    transformers = package("transformers", "huggingface")
    package("accelerate", "huggingface")
    _check(run, trainer)
    with TemporaryDirectory(prefix="tuner-") as folder, released():
        _quiet(transformers, trainer)
        _adjust(run, trainer, folder)
        total = horizon_steps(run, _updates_per_epoch(run, trainer))
        trainer.args.max_steps = total
        follower = type("RunCallback", (_Follower, transformers.TrainerCallback), {})(run, trainer, total, metric_names)
        trainer.add_callback(follower)
        trainer.evaluate = follower.measured(trainer.evaluate)
        try:
            follower.train()
            if run.wants_test and test_dataset is not None:
                run.report_test(**_metrics(trainer.evaluate(test_dataset, metric_key_prefix="test"), "test_"))
            follower.bundle.eval()
        finally:
            del trainer.evaluate
            trainer.remove_callback(follower)


class _Follower:
    """The trainer's callback, and the wrapper of its ``evaluate``; mixed with ``transformers.TrainerCallback``."""

    def __init__(self, run: Run, trainer: Any, total: int, only: Sequence[str] | None) -> None:
        self.run, self.trainer, self.total = run, trainer, total
        self.clip_value = chosen(run, "clip_value")
        self.smooths = _smooth(run, trainer)
        self.bundle = run.optimizer(trainer.model)
        (self.optimizer,) = self.bundle.parts.values()
        self.scheduler = ScheduleLR(self.optimizer, lambda: run.schedule, total)
        self.average = run.average(trainer.model)
        refuse(run, {"label_smoothing": "The Trainer's own loss takes it; compute_loss and compute_loss_func do not."})
        self.reporter = Reporter(run, trainer.model, only)
        self.logged = 0
        self._inside = False
        trainer.optimizer, trainer.lr_scheduler = self.optimizer, self.scheduler

    def train(self) -> None:
        """Train to the horizon, from the newest checkpoint if there is one."""
        seed_everything(self.run.seed)
        saved = self.run.load()
        if saved is None:
            self.trainer.train()
            return
        folder = str(unpacked(saved["files"], Path(self.trainer.args.output_dir) / "resumed"))
        self.reporter.resume(saved["step"])
        self.logged = saved["step"]
        self.trainer.args.eval_on_start = False
        if self.average is not None:
            self.average.load_state_dict(saved["average"])
        if saved["step"] < self.total:
            self.trainer.train(resume_from_checkpoint=folder)
        else:
            self.trainer._load_from_checkpoint(folder)

    def measured(self, evaluate: Callable[..., dict[str, float]]) -> Callable[..., dict[str, float]]:
        """Return ``evaluate`` with its time counted as evaluation, and its result reported if the loop called it."""

        def wrapped(*args: Any, **options: Any) -> dict[str, float]:
            if self._inside:  # with a dictionary of data sets evaluate calls itself for each
                return evaluate(*args, **options)
            self._inside = True
            try:
                calibration = self._batches(), self.trainer.compute_loss
                with self._evaluated() as model, self.run.evaluating(model, *calibration):
                    metrics = evaluate(*args, **options)
            finally:
                self._inside = False
            other_data = bool(args) or options.get("eval_dataset") is not None
            other_data = other_data or options.get("metric_key_prefix", "eval") != "eval"
            if self.trainer.is_in_train and not other_data:
                self._report(metrics)
            return metrics

        return wrapped

    def _report(self, metrics: Mapping[str, Any]) -> None:
        if self.reporter.measured(self.trainer.state.global_step, _metrics(metrics, "eval_")):
            self.run.save(Late(self._state))

    @contextmanager
    def _evaluated(self) -> Iterator[nn.Module]:
        """Let the trainer evaluate the averaged model, if there is one, without the study's label smoothing."""
        trainer, model, smoother = self.trainer, self.trainer.model, self.trainer.label_smoother
        if self.smooths:
            trainer.label_smoother = None
        if self.average is not None:
            trainer.model = self.average.model
        try:
            with nullcontext() if self.average is None else trainer.accelerator.autocast():
                yield trainer.model
        finally:
            trainer.model, trainer.label_smoother = model, smoother

    def _batches(self) -> Iterator[Any]:
        yield from map(self.trainer._prepare_inputs, self.trainer.get_train_dataloader())

    def _state(self) -> dict[str, Any]:
        """Return what a killed run continues from: the trainer's own checkpoint, as bytes."""
        step = self.trainer.state.global_step
        if step >= self.total:  # a run that resumes here does not train
            self.bundle.eval()
        self.trainer._save_checkpoint(self.trainer.model, trial=None)
        folder = Path(self.trainer.args.output_dir) / f"checkpoint-{step}"
        files = packed(folder)
        shutil.rmtree(folder)
        return {"files": files, "step": step, "average": self.average and self.average.state_dict()}

    # -- the trainer's events

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
        own = getattr(rest["optimizer"], "optimizer", rest["optimizer"])
        if own is not self.optimizer or rest["lr_scheduler"] is not self.scheduler:
            found = f"trains with a {type(own).__name__} and a {type(rest['lr_scheduler']).__name__} of its own"
            todo = "Do not override create_optimizer and create_scheduler."
            raise WorkloadError(wrong(_PLACE, found, "the run's optimizer and schedule", todo))

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
        # Not in the trainer's scheduler.step(): it skips updates that overflowed in float16, and comes before the
        # evaluation that a schedule may follow.
        self.scheduler.seek(state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(self.trainer.model.parameters(), self.clip_value)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
        if self.average is not None:
            self.average.update(state.global_step)
        control.should_log = control.should_log or control.should_evaluate

    def on_epoch_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
        # The trainer calls this also if the horizon ends inside an epoch.
        if state.global_step >= self.total > self.reporter.step:
            control.should_evaluate = True
        control.should_log = control.should_log or control.should_evaluate

    def on_log(self, args: Any, state: Any, control: Any, **rest: Any) -> None:  # noqa: ARG002
        logs = rest["logs"]
        if "loss" in logs and state.global_step > self.logged:
            self.reporter.train_loss(state.global_step, logs["loss"], state.global_step - self.logged)
            self.logged = state.global_step


def _check(run: Run, trainer: Any) -> None:
    """Refuse a trainer that has nothing to evaluate, or that a run cannot train."""
    args = trainer.args
    if trainer.eval_dataset is None:
        raise WorkloadError(wrong(_PLACE, "has no eval_dataset", "one to evaluate on", "Pass eval_dataset=..."))
    if args.deepspeed or args.fsdp or args.world_size > 1:
        found = "is set up for several processes (deepspeed, fsdp or a launcher)"
        todo = "Leave these arguments out, and start tuner without a launcher."
        raise WorkloadError(wrong(_PLACE, found, "one process on one device, as every run has", todo))
    refuse_float16_on_cpu(run)


def _quiet(transformers: Any, trainer: Any) -> None:
    """Remove the callbacks that print or write logs, because the study shows the curves."""
    noisy = [transformers.PrinterCallback, transformers.ProgressCallback]
    noisy.append(package("transformers.trainer", "huggingface").DEFAULT_PROGRESS_CALLBACK)
    integrations = package("transformers.integrations", "huggingface")
    noisy.extend(integrations.get_reporting_integration_callbacks(trainer.args.report_to))
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, tuple(noisy)):
            trainer.remove_callback(callback)


def _adjust(run: Run, trainer: Any, folder: str) -> None:
    """Give the trainer this run's arguments, and rebuild what its constructor made from the old ones."""
    trainer.args = dataclasses.replace(trainer.args, **_arguments(run, trainer.args, folder))
    if trainer.args.device.type == "cuda":
        trainer.args._n_gpu = 1  # as Trainer itself does where it must not use several GPUs
    trainer._train_batch_size = trainer.args.train_batch_size
    # The state is shared in the process, and a run that an error ended leaves its data loaders in it.
    package("accelerate.state", "huggingface").GradientState._reset_state()
    trainer.create_accelerator_and_postprocess()
    seed_everything(run.seed)
    if trainer.model_init is not None:
        trainer.model, trainer.model_init = trainer.call_model_init(), None
    if trainer.place_model_on_device:
        trainer._move_model_to_device(trainer.model, trainer.args.device)
    trainer.model_wrapped = trainer.callback_handler.model = trainer.model


def _arguments(run: Run, args: Any, folder: str) -> dict[str, Any]:
    """Return the ``TrainingArguments`` that the run decides, the study's training options among them."""
    every = args.logging_steps if args.logging_strategy == "steps" and args.logging_steps >= 1 else CHECK_STEPS
    study = {
        "max_grad_norm": chosen(run, "clip_norm"),
        "gradient_accumulation_steps": chosen(run, "accumulation"),
        "per_device_train_batch_size": chosen(run, "batch_size"),
    }
    return {
        "output_dir": folder,
        "seed": run.seed,
        "data_seed": run.seed,
        "use_cpu": run.device.type == "cpu",
        "report_to": "none",
        "disable_tqdm": True,
        "push_to_hub": False,
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "save_only_model": False,
        "ignore_data_skip": False,
        "auto_find_batch_size": False,
        "logging_strategy": "steps",
        "logging_steps": min(int(every), CHECK_STEPS),
        "logging_nan_inf_filter": False,
        **{name: value for name, value in study.items() if value is not None},
        **_PRECISION[chosen(run, "precision")],
    }


def _smooth(run: Run, trainer: Any) -> bool:
    """Set the study's label smoothing; return whether there is one. A loss of the user's own does not take it."""
    base = package("transformers", "huggingface").Trainer
    if trainer.compute_loss_func is not None or type(trainer).compute_loss is not base.compute_loss:
        return False
    share = chosen(run, "label_smoothing")
    if share is None:
        return False
    trainer.args.label_smoothing_factor = share
    smoother = package("transformers.trainer_pt_utils", "huggingface").LabelSmoother
    trainer.label_smoother = smoother(epsilon=share)
    return True


def _updates_per_epoch(run: Run, trainer: Any) -> int:
    """Return the number of optimizer steps in an epoch; 1 if the horizon is in steps, which does not need it."""
    if run.horizon.unit == "steps":
        return 1
    try:
        batches = len(trainer.get_train_dataloader())
    except TypeError as error:
        found = f"has a train_dataset without a length, and the horizon is {run.horizon}"
        raise WorkloadError(wrong(_PLACE, found, "a horizon in steps", "Write horizon: {steps: ...}.")) from error
    return max(1, math.ceil(batches / int(trainer.args.gradient_accumulation_steps)))


def _metrics(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return an evaluation's numbers by their names without the prefix; its timings are left out."""
    bare = {name.removeprefix(prefix): value for name, value in metrics.items()}
    numbers = {name: float(value) for name, value in bare.items() if isinstance(value, int | float)}
    return {name: value for name, value in numbers.items() if name != "epoch" and not name.endswith(_TIMES)}
