"""The handle that a plain function ``train(run)`` gets, and the function as a generator of measurements.

No training loop is here: the function has its own. What it must report is checked in contract.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias, final

import torch
from torch import nn

from tuner.catalog.families import HORIZON, SWITCH, family
from tuner.catalog.schedules import Schedule
from tuner.core.errors import InputError
from tuner.core.records import Assignment, Horizon, Measurement, Outcome, Phase, RunResult, RunSpec, Setting
from tuner.core.values import Scalar
from tuner.training.averaging import Average, Forward, by_calling, evaluation_weights
from tuner.training.channel import Channel, Diverged
from tuner.training.checkpoint import Checkpoints
from tuner.training.contract import (
    check_counts_updates,
    check_later,
    final_value,
    finite_values,
    followed_value,
    known_horizon,
)
from tuner.training.environment import autocast, capture_rng, choose_device, prepared, restore_rng
from tuner.training.optimizers import Bundle, build
from tuner.training.progress import Progress, Stopwatch
from tuner.training.run_options import TrainingOptions

STOP_SECONDS = 5.0
"""Seconds that a stopped function gets to unwind; after them its thread is left behind."""


@final
class Run:
    """One run in training: it tells the function what to train with, and takes what the function reports.

    The generators are seeded and the number of threads is set before the function is called.

    Attributes:
        spec: everything about the run; ``seed``, ``setting``, ``horizon`` and ``options`` are shortcuts to its parts.
        device: where to train.
        schedule: gives the multipliers of each step; pass them to the optimizer's ``apply``. Read it again at each
            step: a schedule that follows a metric changes with each report.
        training: the training options. The run fails if one that the study sets is ignored. ``optimizer`` honours
            clipping, accumulation, loss scaling and param groups, ``autocast`` the precision, ``average`` the averaged
            weights; read ``training["batch_size"]`` and ``training["label_smoothing"]`` yourself.
    """

    def __init__(self, assignment: Assignment, device: torch.device, progress: Progress, channel: Channel) -> None:
        self.spec: RunSpec = assignment.spec
        self.device = device
        self.schedule = Schedule.of(self.spec.setting.schedule)
        self.training = TrainingOptions(self.spec.setting.training)
        self._progress, self._channel, self._stopwatch = progress, channel, Stopwatch(progress)
        self._checkpoints = Checkpoints(assignment)
        self._bundles: list[Bundle] = []
        self._resumed_at = 0
        self._total: int | None = round(self.horizon.amount) if self.horizon.unit == "steps" else None

    @property
    def recipe(self) -> TrainingOptions:
        """The training options, by their earlier name."""
        return self.training

    @property
    def seed(self) -> int:
        """The seed of the run's generators."""
        return self.spec.seed

    @property
    def setting(self) -> Setting:
        """Optimizer family, hyperparameters, schedule and training options."""
        return self.spec.setting

    @property
    def horizon(self) -> Horizon:
        """How long to train, in epochs or in optimizer steps."""
        return self.spec.horizon

    @property
    def options(self) -> Mapping[str, Any]:
        """The study file's options of the workload."""
        return self.spec.workload.options

    @property
    def wants_test(self) -> bool:
        """Whether this is the one run that may evaluate the test split (``report_test``)."""
        return self.spec.phase is Phase.TEST

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the horizon in optimizer steps. Training ends there; pass it to ``schedule.multipliers``.

        ``steps_per_epoch`` counts batches. With accumulation several batches make one optimizer step: count a step
        where the optimizer's ``step()`` returns True.
        """
        self._total = self.horizon.steps(max(1, steps_per_epoch // int(self.setting.training.get("accumulation", 1))))
        return self._total

    def optimizer(self, model: nn.Module | Mapping[str, nn.Module]) -> Bundle:
        """Build the run's optimizers for a model, or for several models by name (see ``optimizers.build``).

        Call the returned bundle's ``backward(loss)`` instead of ``loss.backward()``: it accumulates gradients, and
        scales the loss for float16.

        Raises:
            WorkloadError: the family needs the horizon in steps; call ``total_steps`` first.
        """
        needs_horizon = HORIZON in family(self.setting.family).needs
        horizon = known_horizon(self._total, "an optimizer") if needs_horizon else self._total or 1
        self.training.take("clip_norm", "clip_value", "accumulation", "batch_scaling", "no_decay", "layer_decay")
        self.training.take(*(name for name in self.training if ":" in name))
        self._bundles.append(build(self.setting, model, horizon, self.device))
        return self._bundles[-1]

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for forward passes in the run's precision."""
        return autocast(self.device, str(self.training["precision"]))

    def average(self, model: nn.Module) -> Average | None:
        """Return the average of a model's weights, or None where the study evaluates the weights themselves.

        Call its ``update(step)`` after each step and evaluate its ``model``, inside ``evaluating(average.model,
        batches)`` so that BatchNorm gets statistics that fit the averaged weights.

        Raises:
            InputError: the optimizer averages its weights by itself.
            WorkloadError: the horizon in steps is not known; call ``total_steps`` first.
        """
        if self.training["average"] == "none":
            return None
        if SWITCH in family(self.setting.family).needs:
            found = f"average is {self.training['average']!r}, but {self.setting.family} averages by itself"
            raise InputError(f"{found}; expected average: none. Leave average out for this family.")
        self.training.take("ema_decay", "swa_start")
        return Average(model, self.setting.training, known_horizon(self._total, "averaged weights"))

    @contextmanager
    def evaluating(
        self, model: nn.Module | None = None, batches: Iterable[Any] = (), forward: Forward | None = None
    ) -> Iterator[None]:
        """Count the time inside the context as evaluation, not as training.

        Optimizers that keep separate weights for evaluation are switched to them, and back afterwards. BatchNorm's
        running statistics do not fit such weights, nor averaged ones: pass the model that is evaluated and training
        batches, and the norms use statistics of those batches inside the context. No batch is drawn where the weights
        are the trained ones, or where the model has no BatchNorm.

        Args:
            model: the model that is evaluated; None leaves its statistics as they are.
            batches: training batches; the first 16 are used.
            forward: calls the model on one batch; by default ``model(batch)``.
        """
        self._stopwatch.training()
        averaged = self.setting.training.get("average", "none") != "none"
        try:
            with evaluation_weights(self._bundles, averaged, model, batches, forward or by_calling):
                yield
        finally:
            self._stopwatch.evaluation()

    def report(self, *, step: int, **metrics: Scalar) -> None:
        """Report metrics after ``step`` optimizer steps; after the first update ``step`` is 1.

        A value that is not finite ends the run as diverged, so report only what should be finite. The run's
        value is the study's metric in the last report that has it.

        Raises:
            ValueError: ``step`` is not larger than in the last report.
            WorkloadError: ``step`` counts batches, not updates; or the value that the schedule follows is missing.
        """
        self._stopwatch.training()
        step = int(step)
        check_later(step, self._progress.measurements)
        updates = [bundle.updates for bundle in self._bundles if bundle.updates or bundle.pending]
        if updates and self.setting.training.get("accumulation", 1) != 1:
            check_counts_updates(step, self._resumed_at + max(updates))
        self._progress.step = step
        values = finite_values(metrics, step, self._total)
        if self.schedule.state is not None:
            followed = followed_value(self.schedule, values, self.spec)
            self.schedule = self.schedule.after(step, known_horizon(self._total, "a measurement"), followed)
        measurement = self._progress.measure(values)
        rng = capture_rng()
        self._channel.hand_over(measurement)
        restore_rng(rng)
        self._stopwatch.restart()

    def report_test(self, **metrics: Scalar) -> None:
        """Report metrics on the test split, in a run where ``wants_test`` is True.

        Raises:
            ValueError: ``wants_test`` is False: the search must not see the test split.
        """
        if not self.wants_test:
            raise ValueError("report_test(): this run may not see the test split; ask run.wants_test first")
        self._progress.tests.update({name: float(value) for name, value in metrics.items()})

    def save(self, state: Mapping[str, Any]) -> bool:
        """Write a checkpoint if one is due, and return whether it was. Call it right after each report.

        ``state`` maps names to anything that ``torch.save`` takes: the states of model and optimizer, the step. The
        states of the generators and of the schedule and the measurements so far are saved with it.

        Raises:
            OSError: the folder of the checkpoints cannot be written.
        """
        self._stopwatch.training()
        seconds = self._progress.train_seconds
        whole_steps = not any(bundle.pending for bundle in self._bundles)  # no resume inside an accumulation
        due = whole_steps and self._checkpoints.due(seconds, evaluated=True)
        if due:
            saved: dict[str, Any] = {"user": dict(state), "progress": self._progress.to_state(), "rng": capture_rng()}
            saved["schedule"] = self.schedule.state_json()
            self._checkpoints.save(saved, seconds)
        return due

    def load(self) -> dict[str, Any] | None:
        """Return the state that the newest checkpoint was saved with, or None. Call it last before training.

        The generators are set to their states at ``save``. So training continues bit for bit, provided that the order
        of the data is a function of seed and epoch.
        """
        saved = self._checkpoints.load()
        if saved is None:
            return None
        self._progress.resume(saved["progress"])
        self.schedule = self.schedule.with_state(saved["schedule"])
        self._resumed_at = self._progress.step
        self._checkpoints.resumed(self._progress.train_seconds)
        restore_rng(saved["rng"])
        self._stopwatch.restart()
        return dict(saved["user"])


Function: TypeAlias = Callable[[Run], Any]
"""What a user writes in place of a ``Workload``: it trains with the run, reports to it, and returns nothing."""


def train_function(
    assignment: Assignment, function: Function, progress: Progress | None = None
) -> Generator[Measurement, None, RunResult]:
    """Train one run with a function; yield each measurement that it reports and return the result.

    The function runs in a thread of its own and waits in ``report`` while the consumer is busy. When the consumer
    closes the generator, ``report`` raises, so that the function unwinds. ``progress`` is filled along the way, for a
    caller that catches exceptions.

    Raises:
        WorkloadError: the function returned without the study's metric, before the horizon, or ignored an option.
        BaseException: whatever the function raises.
    """
    spec, progress = assignment.spec, progress or Progress()
    device, channel = choose_device(spec.device), Channel()
    run = Run(assignment, device, progress, channel)
    with prepared(spec, device):
        thread = threading.Thread(target=_body, args=(function, run, channel), name=spec.run_id, daemon=True)
        thread.start()
        try:
            while isinstance(message := channel.receive(), Measurement):
                yield message
                channel.resume()
        finally:
            channel.stop()
            thread.join(STOP_SECONDS)
    if isinstance(message, Diverged):
        return progress.ended(Outcome.DIVERGED, str(message))
    if message is not None:
        raise message
    value = final_value(spec, progress.measurements, run._total, run.training.untaken)
    return progress.ended(Outcome.COMPLETED, value=value)


def _body(function: Function, run: Run, channel: Channel) -> None:
    """Call the function, and tell the consumer how it ended."""
    try:
        torch.set_num_threads(run.spec.threads)  # the count belongs to the thread that sets it
        run._stopwatch.training()
        function(run)
        run._stopwatch.training()
    except BaseException as error:
        channel.end(error)
    else:
        channel.end(None)
