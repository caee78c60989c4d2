"""The built-in training loop, from top to bottom; no executor, no search and no network is known here."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tuner.errors import Place, WorkloadError, wrong
from tuner.records import Assignment, Measurement, Outcome, Phase, RunResult
from tuner.schedules import Schedule
from tuner.training.checkpoint import Checkpoints
from tuner.training.environment import (
    capture_rng,
    choose_device,
    prepared,
    restore_rng,
    seed_everything,
    synchronize,
)
from tuner.training.optimizers import Bundle
from tuner.training.progress import Progress
from tuner.training.workloads.base import Batch, Workload

CUDA_CHECK_STEPS = 50
"""On CUDA losses are looked at after so many steps, for each look waits for the device; on the CPU at once."""


def train_workload(
    assignment: Assignment, workload: Workload, progress: Progress | None = None
) -> Generator[Measurement, None, RunResult]:
    """Train one run; yield a measurement at each evaluation and return the result.

    Continues from the newest checkpoint, bit for bit. Measurements from before a resume are in the result
    and are not yielded again. What evaluation and the consumer draw from the global generators does not
    reach the training. ``progress`` is filled along the way, for a caller that catches exceptions.

    Raises:
        InputError: device, precision, optimizer or schedule are wrong.
        WorkloadError: the workload does not do what its base class says.
        Exception: whatever the user's code raises.
    """
    spec, run = assignment.spec, progress or Progress()
    device, checkpoints = choose_device(spec.device), Checkpoints(assignment)
    schedule = Schedule.of(spec.setting.schedule)
    with prepared(spec, device):
        workload.place(device, spec.precision)
        _check(workload, spec.phase)
        horizon = spec.horizon.steps(workload.steps_per_epoch)
        eval_every = workload.eval_every_steps or workload.steps_per_epoch
        seed_everything(spec.seed)
        model = workload.model(spec.seed).to(device)
        bundle = workload.optimizer(spec.setting, model)
        model.train()
        bundle.train()
        saved = checkpoints.load()
        if saved is not None:
            model.load_state_dict(saved["model"])
            bundle.load_state_dict(saved["bundle"])
            run.resume(saved["progress"])
            checkpoints.resumed(run.train_seconds)
            restore_rng(saved["rng"])
        data = _Data(workload, spec.seed, run.step, saved["epoch_rng"] if saved else None)
        losses, clock = _Losses(device), _Clock(device)

        while run.step < horizon:
            batch = data.next()
            bundle.apply(schedule.multipliers(run.step, horizon))
            losses.add(workload.train_step(model, workload.to_device(batch), bundle))
            run.step += 1
            evaluating = run.step == horizon or run.step % eval_every == 0
            run.train_seconds += clock.lap(wait=evaluating)
            saving = checkpoints.due(run.train_seconds, evaluating)
            if (evaluating or saving or losses.full) and (bad := losses.first_bad()) is not None:
                run.step -= bad.steps_ago
                return run.ended(Outcome.DIVERGED, f"loss became {bad.value} at step {run.step} of {horizon}")
            rng = capture_rng() if evaluating or saving else {}
            if evaluating:
                values = _evaluate(workload, model, bundle, "validation", spec.metric)
                run.eval_seconds += clock.lap(wait=True)
                if not math.isfinite(values[spec.metric]):
                    what = f"validation {spec.metric} became {values[spec.metric]}"
                    return run.ended(Outcome.DIVERGED, f"{what} at step {run.step} of {horizon}")
                if not _weights_finite(model):
                    return run.ended(Outcome.DIVERGED, f"a weight is not finite at step {run.step} of {horizon}")
                run.measure(values)
            if saving:
                state = {"model": model.state_dict(), "bundle": bundle.state_dict(), "progress": run.to_state()}
                checkpoints.save({**state, "rng": rng, "epoch_rng": data.epoch_rng}, run.train_seconds)
            if evaluating:
                yield run.measurements[-1]
                restore_rng(rng)
                clock.lap()

        if spec.phase is Phase.TEST:
            run.tests = _evaluate(workload, model, bundle, "test", spec.metric)
            run.eval_seconds += clock.lap(wait=True)
        return run.ended(Outcome.COMPLETED, value=run.measurements[-1].values[spec.metric])


def _check(workload: Workload, phase: Phase) -> None:
    name = type(workload).__name__
    if workload.steps_per_epoch < 1:
        found = f"is {workload.steps_per_epoch}"
        raise WorkloadError(wrong(Place(f"{name}.steps_per_epoch"), found, "at least 1"))
    if workload.eval_every_steps is not None and workload.eval_every_steps < 1:
        found = f"is {workload.eval_every_steps}"
        raise WorkloadError(wrong(Place(f"{name}.eval_every_steps"), found, "at least 1, or None for each epoch"))
    if phase is Phase.TEST and not workload.has_test:
        todo = "Set has_test = True and let evaluate() answer for 'test'."
        raise WorkloadError(wrong(Place(name), "has no test split", "one for a run of the phase 'test'", todo))


def _evaluate(workload: Workload, model: nn.Module, bundle: Bundle, split: str, metric: str) -> dict[str, float]:
    model.eval()
    bundle.eval()
    with torch.no_grad(), workload.autocast():
        values = {name: float(value) for name, value in workload.evaluate(model, split).items()}
    model.train()
    bundle.train()
    if metric not in values:
        place, found = Place(f"{type(workload).__name__}.evaluate()"), f"returned {', '.join(values) or 'nothing'}"
        todo = "Return it too, or name another metric in the study."
        raise WorkloadError(wrong(place, found, f"{metric!r}, the study's metric, among them", todo))
    return values


def _weights_finite(model: nn.Module) -> bool:
    return bool(torch.stack([p.detach().isfinite().all() for p in model.parameters() if p.requires_grad]).all())


class _Bad:
    """A loss that is not finite, and how many steps ago it was."""

    def __init__(self, value: float, steps_ago: int) -> None:
        self.value, self.steps_ago = value, steps_ago


class _Losses:
    """The losses that nobody has looked at yet."""

    def __init__(self, device: torch.device) -> None:
        self._interval = CUDA_CHECK_STEPS if device.type == "cuda" else 1
        self._waiting: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        self._waiting.append(loss.detach().reshape(()))

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self._interval

    def first_bad(self) -> _Bad | None:
        values = torch.stack(self._waiting).tolist() if self._waiting else []
        self._waiting.clear()
        for index, value in enumerate(values):
            if not math.isfinite(value):
                return _Bad(value, len(values) - 1 - index)
        return None


class _Clock:
    """Seconds since the last lap."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._last = device, time.perf_counter()

    def lap(self, wait: bool = False) -> float:
        if wait:
            synchronize(self._device)
        last, self._last = self._last, time.perf_counter()
        return self._last - last


class _Data:
    """The batches of a run from any step on.

    To continue inside an epoch, the epoch is opened again with the generators as they were at its start,
    the batches that were used are drawn and dropped, and the generators are set back to where they were.
    """

    def __init__(self, workload: Workload, seed: int, step: int, epoch_rng: dict[str, Any] | None) -> None:
        self._workload, self._seed = workload, seed
        self._size = workload.steps_per_epoch
        self._epoch, consumed = divmod(step, self._size)
        self._used = consumed
        self._batches: Iterator[Batch] | None = None
        self.epoch_rng = epoch_rng or {}
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
            self.epoch_rng = capture_rng()
            self._batches = iter(self._workload.train_batches(self._epoch, self._seed))
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
