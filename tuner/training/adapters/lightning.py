"""Train a ``LightningModule`` as a run: Lightning's loop with the run's optimizer. No model or data is here.

The module keeps the user's data, loss, metrics and hooks. Only its ``configure_optimizers`` is replaced.
"""

from __future__ import annotations

import functools
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from tuner.catalog.training_options import OWN_OPTIONS
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
from tuner.training.averaging import running_norms
from tuner.training.environment import capture_rng, restore_rng
from tuner.training.handle import Run
from tuner.training.loop import CHECK_STEPS

_PLACE = Place("the LightningModule")
_RESERVED = ("max_steps", "max_epochs", "min_steps", "min_epochs", "max_time", "accelerator", "devices", "num_nodes")
_PRECISION = {"bfloat16": "bf16-mixed", "float16": "16-mixed"}
_EXPECTED_WARNINGS = (
    "You're resuming from a checkpoint that ended before the epoch ended",  # _catch_up() restores the data loader
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 under torch 2.13
)
_TODO = {
    name: f"Read run.training[{name!r}] where you build the data or the module, before fit()." for name in OWN_OPTIONS
}


def fit(
    run: Run,
    module: Any,
    *,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    test_dataloaders: Any = None,
    datamodule: Any = None,
    trainer_options: Mapping[str, Any] | None = None,
    metric_names: Sequence[str] | None = None,
) -> None:
    """Train a ``LightningModule`` with a run's optimizer, schedule, horizon, device and training options.

    Each validation in Lightning's loop is reported, and one at the horizon: the metrics under the names that the module
    logs (``val_accuracy``), and ``train_loss`` as the mean since the last report. A run that wants the test split calls
    ``Trainer.test`` if there is a test data loader.

    Args:
        run: the run.
        module: a ``LightningModule`` of either package, ``lightning`` or ``pytorch_lightning``.
        train_dataloaders: as in ``Trainer.fit``.
        val_dataloaders: as in ``Trainer.fit``.
        test_dataloaders: as ``dataloaders`` in ``Trainer.test``.
        datamodule: as in ``Trainer.fit``.
        trainer_options: arguments for ``Trainer``, except those that the run decides (steps, devices).
        metric_names: report only these metrics; None reports all.

    Raises:
        WorkloadError: lightning is missing, or an option cannot be honoured.
    """
    is_older_package = any(cls.__module__.startswith("pytorch_lightning") for cls in type(module).__mro__)
    lightning = package("pytorch_lightning" if is_older_package else "lightning.pytorch", "lightning")
    with TemporaryDirectory(prefix="tuner-") as folder, _quiet(lightning.__name__), released():
        follower = type("RunCallback", (_Follower, lightning.Callback), {})(run, module, Path(folder), metric_names)
        trainer = lightning.Trainer(**_options(run, lightning, folder, trainer_options or {}, follower))
        follower.trainer = trainer
        data = {"train_dataloaders": train_dataloaders, "val_dataloaders": val_dataloaders, "datamodule": datamodule}
        module.configure_optimizers = follower.configurer()
        try:
            follower.fit(data)
            if run.wants_test and _has_test(lightning, module, datamodule, test_dataloaders):
                with run.evaluating():
                    tests = trainer.test(module, dataloaders=test_dataloaders, datamodule=datamodule, verbose=False)
                follower.bundle.eval()
                run.report_test(**{name: value for loader in tests for name, value in loader.items()})
        finally:
            trainer.fit_loop.teardown()  # when interrupted, Lightning tears down only the innermost loop
            del module.configure_optimizers


class _Follower:
    """The callback that sets up the run's optimizer, reports and saves; mixed with Lightning's ``Callback``."""

    trainer: Any

    def __init__(self, run: Run, module: nn.Module, folder: Path, only: Sequence[str] | None) -> None:
        self.run, self.module, self.folder = run, module, folder
        self.reporter = Reporter(run, module, only)
        self.saved: dict[str, Any] | None = None
        self.saved_rng: dict[str, Any] = {}
        self.epoch_rng: dict[str, Any] = {}
        self.losses: list[Tensor] = []
        self.average_step = 0
        self.finished = False
        self._evaluation = ExitStack()

    def fit(self, data: Mapping[str, Any]) -> None:
        """Train to the horizon, from the newest checkpoint if there is one."""
        path = None
        # Until the first batch, draw the same random numbers as the attempt that was killed.
        fresh = capture_rng()
        self.saved = self.run.load()
        if self.saved is not None:
            path = str(unpacked(self.saved["files"], self.folder / "resumed") / "run.ckpt")
            self.saved_rng, self.epoch_rng = capture_rng(), self.saved["epoch_rng"]
            self.reporter.resume(self.saved["step"])
            restore_rng(fresh)
        self.trainer.fit(self.module, **data, ckpt_path=path)
        self._finish()

    def configurer(self) -> Callable[[], dict[str, Any]]:
        """Return the module's new ``configure_optimizers``, as a plain function because averaging copies the module."""

        def configure_optimizers() -> dict[str, Any]:
            self.total = self._horizon()
            self.bundle = self.run.optimizer(self.module)
            (optimizer,) = self.bundle.parts.values()
            self.scheduler = ScheduleLR(optimizer, lambda: self.run.schedule, self.total)
            self.average = self.run.average(self.module)
            self._check()
            _close_first(optimizer)
            if "mixed" in str(self.trainer.precision):
                # Lightning does not clip gradients if the optimizer can unscale them itself, as torch's fused ones can.
                # With this flag the GradScaler unscales them.
                optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
            if self.saved is not None and self.average is not None:
                self.average.load_state_dict(self.saved["average"])
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler, "interval": "step"}}

        return configure_optimizers

    def _horizon(self) -> int:
        """Return the run's horizon in steps, and set it on the trainer, which was made to train for one epoch."""
        loop, per_epoch = self.trainer.fit_loop, 1
        if self.run.horizon.unit == "epochs":
            per_epoch = int(self.trainer.estimated_stepping_batches)
            if per_epoch < 1:
                found = f"trains on data without a length, and the horizon is {self.run.horizon}"
                raise WorkloadError(wrong(_PLACE, found, "a horizon in steps", "Write horizon: {steps: ...}."))
        total = horizon_steps(self.run, per_epoch)
        loop.max_epochs, loop.epoch_loop.max_steps = -1, total
        return total

    def _check(self) -> None:
        """Refuse training options that the adapter cannot honour."""
        refuse(self.run, _TODO)
        if (self.average is not None or self.bundle.switches) and running_norms(self.module):
            cause = f"average: {self.run.training['average']}" if self.average is not None else self.run.setting.family
            found = f"has BatchNorm, and {cause} evaluates other weights than those that gave its statistics"
            todo = f"Use another norm, or leave {cause} out of the study."
            raise WorkloadError(wrong(_PLACE, found, "a module whose statistics fit the weights", todo))

    # -- the trainer's events

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self.bundle.train()
        if self.saved is not None:
            self._catch_up(trainer, self.saved["batches"])

    def _catch_up(self, trainer: Any, batches: int) -> None:
        """Start the epoch again with the same random numbers, and drop the batches that were used.

        Lightning restores its counters only: a data loader would start at the first batch.
        """
        if batches:
            fetcher = trainer.fit_loop._data_fetcher
            restore_rng(self.epoch_rng)
            if trainer.current_epoch > 0:  # the first epoch's iterator is made before this event
                iter(fetcher)
            for _ in range(batches):
                next(fetcher)
            fetcher.fetched -= batches  # Lightning adds them again
        restore_rng(self.saved_rng)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self.epoch_rng = capture_rng()

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        # Lightning's scheduler.step() is not enough: it comes before a validation that a schedule may follow.
        self.scheduler.seek(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            parts = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self.losses.append(loss.detach().float() * parts)
        if self.average is not None and trainer.global_step > self.average_step:
            self.average.update(trainer.global_step)
            self.average_step = trainer.global_step
        if len(self.losses) >= CHECK_STEPS:
            self._read_losses(trainer.global_step)
        if trainer.global_step >= self.total:  # validate the last weights, whatever the interval
            trainer.should_stop, trainer.check_val_every_n_epoch = True, 1

    def _read_losses(self, step: int) -> None:
        """Read the waiting losses in one transfer; one that is not finite ends the run."""
        values = torch.stack(self.losses).tolist() if self.losses else []
        self.losses.clear()
        for value in values:
            self.reporter.train_loss(step, value, 1)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        if trainer.sanity_checking:
            return
        self._read_losses(trainer.global_step)
        self._evaluation.enter_context(self.run.evaluating())
        self._swap()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        if trainer.sanity_checking:
            return
        self._swap()
        self._evaluation.close()
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.reporter.measured(trainer.global_step, metrics):
            self.run.save(Late(self._state))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        self._finish()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        self._evaluation.close()

    def _finish(self) -> None:
        """Leave the weights in the module that the study evaluates: averaged ones, if there are any."""
        if not self.finished:
            self.finished = True
            self.bundle.eval()
            self._swap()

    def _swap(self) -> None:
        """Exchange the weights with their average, if it has begun."""
        if self.average is None or self.average.model is self.module:
            return
        with torch.no_grad():
            for averaged, current in zip(self.average.model.parameters(), self.module.parameters(), strict=True):
                average = averaged.clone()
                averaged.copy_(current)
                current.copy_(average)

    def _state(self) -> dict[str, Any]:
        """Return what a killed run continues from: Lightning's own checkpoint, as bytes, and its place in the epoch."""
        if self.trainer.global_step >= self.total:  # a run that resumes here does not train
            self.bundle.eval()
        folder = self.folder / "saved"
        self.trainer.save_checkpoint(folder / "run.ckpt")
        files = packed(folder)
        shutil.rmtree(folder)
        loop = self.trainer.fit_loop
        return {
            "files": files,
            "step": self.trainer.global_step,
            "batches": 0 if loop.epoch_loop.batch_progress.is_last_batch else loop.batch_idx + 1,
            "epoch_rng": self.epoch_rng,
            "average": self.average and self.average.state_dict(),
        }


def _close_first(optimizer: torch.optim.Optimizer) -> None:
    """Make the optimizer call its closure before the step, not inside it.

    Lightning passes its forward and backward passes as a closure. Some families decay the weights or add L2 before a
    step, which needs the closure's gradients and must come after its forward pass.
    """
    update = optimizer.step

    @functools.wraps(update)
    def step(closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        update()
        return loss

    optimizer.step = step  # type: ignore[method-assign]


def _options(run: Run, lightning: Any, folder: str, given: Mapping[str, Any], follower: Any) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer: quiet defaults, then the user's, then those that the run decides."""
    for name in _RESERVED:
        if name in given:
            found = f"has {name!r}"
            expected, todo = "options that the run does not decide", "Leave it out."
            raise WorkloadError(wrong(Place("trainer_options"), found, expected, todo))
    refuse_float16_on_cpu(run)
    callbacks = given.get("callbacks") or []
    device = run.device
    return {
        "logger": False,
        "enable_progress_bar": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "deterministic": "warn",
        "default_root_dir": folder,
        "plugins": package(f"{lightning.__name__}.plugins.environments", "lightning").LightningEnvironment(),
        **given,
        **_study(run),
        "callbacks": [*(callbacks if isinstance(callbacks, list) else [callbacks]), follower],
        "accelerator": "gpu" if device.type == "cuda" else device.type,
        "devices": 1 if device.index is None or device.type == "cpu" else [device.index],
        "max_epochs": 1,
    }


def _study(run: Run) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer for the training options that the study sets."""
    norm, value = chosen(run, "clip_norm"), chosen(run, "clip_value")
    options: dict[str, Any] = {}
    if norm is not None and value is not None:
        found = f"clips the gradient by norm ({norm:g}) and by value ({value:g})"
        raise WorkloadError(wrong(_PLACE, found, "one of the two, as in Lightning's Trainer", "Leave one out."))
    if norm is not None or value is not None:
        options["gradient_clip_val"] = norm if norm is not None else value
        options["gradient_clip_algorithm"] = "norm" if norm is not None else "value"
    if (batches := chosen(run, "accumulation")) is not None:
        options["accumulate_grad_batches"] = batches
    if (precision := chosen(run, "precision")) is not None:
        options["precision"] = _PRECISION[precision]
    return options


def _has_test(lightning: Any, module: Any, datamodule: Any, test_dataloaders: Any) -> bool:
    """Return whether there is a test step and a data loader for it."""
    is_overridden = package(f"{lightning.__name__}.utilities.model_helpers", "lightning").is_overridden
    if not is_overridden("test_step", module):
        return False
    owners = (part for part in (module, datamodule) if part is not None)
    return test_dataloaders is not None or any(is_overridden("test_dataloader", part) for part in owners)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let Lightning log only warnings and errors."""
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    loggers = [logging.getLogger(name), logging.getLogger(name.replace("pytorch", "fabric"))]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
