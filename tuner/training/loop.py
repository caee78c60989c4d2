"""The built-in training loop of a ``Workload``, to be read from top to bottom. It knows no executor and no search."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tuner.catalog.schedules import Schedule
from tuner.catalog.training_options import complete
from tuner.core.errors import InputError, Place, WorkloadError, wrong
from tuner.core.records import Assignment, Measurement, Outcome, Phase, RunResult, RunSpec
from tuner.core.values import derive_seed
from tuner.training.averaging import Average, calibrated, running_norms
from tuner.training.checkpoint import Checkpoints
from tuner.training.environment import (
    capture_rng,
    choose_device,
    filled_memory,
    prepared,
    restore_rng,
    seed_everything,
    synchronize,
)
from tuner.training.optimizers import Bundle
from tuner.training.progress import Progress
from tuner.training.workloads.base import Batch, Workload

CHECK_STEPS = 50
"""At most this many losses wait unread on the device: reading them makes the CPU wait for the GPU."""


def train_workload(
    assignment: Assignment, workload: Workload, progress: Progress | None = None
) -> Generator[Measurement, None, RunResult]:
    """Train one run; yield a measurement at each evaluation and return the result.

    The run continues from its newest checkpoint, bit for bit. Measurements from before a resume are in the result and
    are not yielded again. Random numbers that evaluation and the consumer draw do not change the training.

    Args:
        assignment: the run, and where its checkpoints are.
        workload: what is trained; it may have served other runs before.
        progress: filled along the way, for a caller that catches exceptions.

    Raises:
        InputError: device, precision, optimizer or schedule are wrong.
        WorkloadError: the workload does not keep the contract of its base class.
        Exception: whatever the user's code raises.
    """
    spec, run = assignment.spec, progress or Progress()
    device, checkpoints = choose_device(spec.device), Checkpoints(assignment)
    training, schedule = complete({**workload.granted, **spec.setting.training}), Schedule.of(spec.setting.schedule)
    with prepared(spec, device):
        workload.place(device, training)
        _check(workload, spec.phase)
        batches_per_step = int(training["accumulation"])
        steps_per_epoch = max(1, workload.steps_per_epoch // batches_per_step)
        horizon = spec.horizon.steps(steps_per_epoch)
        eval_every = workload.eval_every_steps or steps_per_epoch
        seed_everything(spec.seed)
        with filled_memory():
            model = workload.model(spec.seed).to(device)
        bundle = workload.optimizer(replace(spec.setting, training=training), model, horizon)
        average = None if training["average"] == "none" else Average(model, training, horizon)
        if average is not None and bundle.switches:
            found = f"average is {training['average']!r}, but {spec.setting.family} averages by itself"
            raise InputError(f"{found}; expected average: none. Leave average out for this family.")
        if average is not None or bundle.switches:
            _check_calibration(workload, model)
        model.train()
        bundle.train()
        saved = checkpoints.load()
        if saved is not None:
            model.load_state_dict(saved["model"])
            bundle.load_state_dict(saved["bundle"])
            if average is not None:
                average.load_state_dict(saved["average"])
            schedule = schedule.with_state(saved["schedule"])
            run.resume(saved["progress"])
            checkpoints.resumed(run.train_seconds)
            restore_rng(saved["rng"])
        data = _Data(workload, spec.seed, run.step * batches_per_step, saved["epoch_rng"] if saved else None)
        losses, clock = _Losses(saved["losses"] if saved else (0.0, 0)), _Clock(device)

        while run.step < horizon:
            bundle.apply(schedule.multipliers(run.step, horizon))
            for _ in range(batches_per_step):
                losses.add(workload.train_step(model, workload.to_device(data.next()), bundle))
            run.step += 1
            if average is not None:
                average.update(run.step)
            evaluating = run.step == horizon or run.step % eval_every == 0
            run.train_seconds += clock.lap(wait=evaluating)
            saving = checkpoints.due(run.train_seconds, evaluating)
            if (evaluating or saving or losses.full) and (bad := losses.first_bad()) is not None:
                run.step -= bad.batches_ago // batches_per_step
                return run.ended(Outcome.DIVERGED, f"loss became {bad.value} at step {run.step} of {horizon}")
            rng = capture_rng() if evaluating or saving else {}
            if evaluating:
                values = _evaluate(workload, model, bundle, average, "validation", spec)
                run.eval_seconds += clock.lap(wait=True)
                if not math.isfinite(values[spec.metric]):
                    value = f"validation {spec.metric} became {values[spec.metric]}"
                    return run.ended(Outcome.DIVERGED, f"{value} at step {run.step} of {horizon}")
                if run.step == horizon and not weights_finite(model):  # earlier, the next losses show it
                    return run.ended(Outcome.DIVERGED, f"a weight is not finite at step {run.step} of {horizon}")
                schedule = schedule.after(run.step, horizon, _signal(schedule, values, losses.mean(), spec))
                run.measure({"train_loss": losses.mean(), **values})
                losses.forget()
            if saving:
                state: dict[str, Any] = {"model": model.state_dict(), "bundle": bundle.state_dict()}
                state |= {"average": average and average.state_dict(), "schedule": schedule.state_json()}
                state |= {"progress": run.to_state(), "losses": losses.sums, "rng": rng, "epoch_rng": data.epoch_rng}
                checkpoints.save(state, run.train_seconds)
            if evaluating:
                yield run.measurements[-1]
                restore_rng(rng)
                data.rng = rng
                clock.lap()

        if spec.phase is Phase.TEST:
            run.tests = _evaluate(workload, model, bundle, average, "test", spec)
            run.eval_seconds += clock.lap(wait=True)
        return run.ended(Outcome.COMPLETED, value=run.measurements[-1].values[spec.metric])


def _check_calibration(workload: Workload, model: nn.Module) -> None:
    """Refuse a workload whose BatchNorm statistics the first evaluation could not fit to averaged weights."""
    cls = type(workload)
    if cls.loss is Workload.loss and cls.calibrate is Workload.calibrate and running_norms(model):
        place, found = Place(f"workload {cls.__name__}"), "has BatchNorm, evaluates averaged weights, and has no loss()"
        todo = "Override calibrate(model, batch): run the model forward on the batch."
        raise WorkloadError(wrong(place, found, "a forward pass that gives BatchNorm its statistics", todo))


def _check(workload: Workload, phase: Phase) -> None:
    """Refuse a workload whose numbers cannot be trained with, or that lacks the split of the phase."""
    name = type(workload).__name__
    if workload.steps_per_epoch < 1:
        found = f"is {workload.steps_per_epoch}"
        todo = "Use a smaller batch_size or more data."
        raise WorkloadError(wrong(Place(f"{name}.steps_per_epoch"), found, "at least 1", todo))
    if workload.eval_every_steps is not None and workload.eval_every_steps < 1:
        found = f"is {workload.eval_every_steps}"
        raise WorkloadError(wrong(Place(f"{name}.eval_every_steps"), found, "at least 1, or None for each epoch"))
    if phase is Phase.TEST and not workload.has_test:
        todo = "Set has_test = True and return metrics from evaluate(model, 'test')."
        raise WorkloadError(wrong(Place(name), "has no test split", "one for a run of the phase 'test'", todo))


def _evaluate(
    workload: Workload, model: nn.Module, bundle: Bundle, average: Average | None, split: str, spec: RunSpec
) -> dict[str, float]:
    """Return the metrics on a split; averaged weights are evaluated with BatchNorm statistics that fit them."""
    evaluated = model if average is None else average.model
    evaluated.eval()
    bundle.eval()
    fitting: AbstractContextManager[None] = nullcontext()
    if evaluated is not model or bundle.switches:
        batches = workload.train_batches(0, derive_seed(spec.seed, "calibration"))
        fitting = calibrated(evaluated, map(workload.to_device, batches), workload.calibrate)
    with fitting, torch.no_grad(), workload.autocast():
        values = {name: float(value) for name, value in workload.evaluate(evaluated, split).items()}
    model.train()
    bundle.train()
    if spec.metric not in values:
        place, found = Place(f"{type(workload).__name__}.evaluate()"), f"returned {', '.join(values) or 'nothing'}"
        todo = "Return it from evaluate(), or name another metric in the study."
        raise WorkloadError(wrong(place, found, f"{spec.metric!r}, the study's metric, among them", todo))
    return values


def _signal(schedule: Schedule, values: Mapping[str, float], train_loss: float, spec: RunSpec) -> float:
    """Return the value that a schedule may follow, with its sign such that smaller is better."""
    if schedule.signal != "validation":
        return train_loss
    return values[spec.metric] * (-1.0 if spec.direction == "maximize" else 1.0)


def weights_finite(model: nn.Module) -> bool:
    """Return whether every trained weight is finite. The CPU waits once for a GPU."""
    trained: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        # Norms of all weights take a few kernels, isfinite two for each parameter. But the square of a finite weight
        # may overflow, so a norm that is not finite is checked again element by element.
        if math.isfinite(torch.stack(torch._foreach_norm(trained)).sum().item()):
            return True
        return all(bool(p.isfinite().all()) for p in trained)


class _Bad:
    """A loss that is not finite, and how many batches ago it occurred."""

    def __init__(self, value: float, batches_ago: int) -> None:
        self.value, self.batches_ago = value, batches_ago


class _Losses:
    """Losses: those that wait unread on the device, and sum and count of those read since the last measurement."""

    def __init__(self, sums: tuple[float, int]) -> None:
        self.sums = sums
        self._waiting: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        self._waiting.append(loss.detach().reshape(()) if loss.requires_grad or loss.ndim else loss)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= CHECK_STEPS

    def first_bad(self) -> _Bad | None:
        """Read all waiting losses in one transfer; return the first that is not finite, if there is one."""
        values = torch.stack(self._waiting).tolist() if self._waiting else []
        self._waiting.clear()
        self.sums = self.sums[0] + sum(values), self.sums[1] + len(values)
        for index, value in enumerate(values):
            if not math.isfinite(value):
                return _Bad(value, len(values) - 1 - index)
        return None

    def mean(self) -> float:
        return self.sums[0] / max(self.sums[1], 1)

    def forget(self) -> None:
        self.sums = 0.0, 0


class _Clock:
    """Measures the seconds between laps; ``wait`` includes the work that is queued on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._last = device, time.perf_counter()

    def lap(self, wait: bool = False) -> float:
        if wait:
            synchronize(self._device)
        last, self._last = self._last, time.perf_counter()
        return self._last - last


class _Data:
    """The batches of a run, from any step on.

    To continue inside an epoch, the generators are set to their states at the start of the epoch, ``train_batches`` is
    called again, the batches that were used are drawn and dropped, and the generators are set back. ``rng`` holds the
    generators' states where the loop has just captured them, which saves an epoch that begins there 0.05 ms.
    """

    def __init__(self, workload: Workload, seed: int, step: int, epoch_rng: dict[str, Any] | None) -> None:
        self._workload, self._seed = workload, seed
        self._size = workload.steps_per_epoch
        self._epoch, consumed = divmod(step, self._size)
        self._used = consumed
        self._batches: Iterator[Batch] | None = None
        self.epoch_rng = epoch_rng or {}
        self.rng: dict[str, Any] | None = None
        if consumed:
            rng = capture_rng()
            restore_rng(self.epoch_rng)
            self._batches = iter(workload.train_batches(self._epoch, seed))
            for _ in range(consumed):
                self._draw()
            restore_rng(rng)

    def next(self) -> Batch:
        """Return the next batch.

        Raises:
            WorkloadError: the epoch has fewer batches than ``steps_per_epoch``.
        """
        if self._used == self._size:
            self._epoch, self._used, self._batches = self._epoch + 1, 0, None
        if self._batches is None:
            self.epoch_rng = self.rng or capture_rng()
            self._batches = iter(self._workload.train_batches(self._epoch, self._seed))
        self.rng = None
        batch = self._draw()
        self._used += 1
        return batch

    def _draw(self) -> Batch:
        assert self._batches is not None
        try:
            return next(self._batches)
        except StopIteration:
            place = Place(f"{type(self._workload).__name__}.train_batches()")
            found = f"ended before batch {self._used + 1} of epoch {self._epoch}"
            raise WorkloadError(wrong(place, found, f"steps_per_epoch = {self._size} batches")) from None
