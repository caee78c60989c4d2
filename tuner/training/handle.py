"""The handle that a plain function ``train(run)`` gets, and the function as a generator of measurements; no loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue
from typing import Any, TypeAlias, final

import torch
from torch import nn

from tuner.catalog.families import HORIZON, SWITCH, family
from tuner.catalog.schedules import Schedule
from tuner.catalog.training_options import complete, option
from tuner.core.errors import InputError, Place, WorkloadError, wrong
from tuner.core.records import Assignment, Horizon, Measurement, Outcome, Phase, RunResult, RunSpec, Setting
from tuner.core.values import Scalar
from tuner.training.averaging import Average, calibrated
from tuner.training.checkpoint import Checkpoints
from tuner.training.environment import autocast, capture_rng, choose_device, prepared, restore_rng
from tuner.training.optimizers import Bundle, build
from tuner.training.progress import Progress

STOP_SECONDS = 5.0
"""How long a stopped function may take to unwind before it is left behind."""


class _Stopped(BaseException):
    """Raised in the user's function when nobody wants the run any more; no ``except Exception`` catches it."""


class _Diverged(BaseException):
    """Raised in the user's function when it reports a value that is not finite."""


_Message: TypeAlias = "Measurement | BaseException | None"


class _Channel:
    """Hands control to and fro between the function's thread and the consumer: only one of them ever runs."""

    def __init__(self) -> None:
        self.to_consumer: SimpleQueue[_Message] = SimpleQueue()
        self.to_function: SimpleQueue[bool] = SimpleQueue()

    def hand_over(self, measurement: Measurement) -> None:
        self.to_consumer.put(measurement)
        if not self.to_function.get():
            raise _Stopped


@final
class TrainingOptions(Mapping[str, Scalar]):
    """A run's training options, complete; it notes which were read, so that none is ignored in silence."""

    def __init__(self, given: Mapping[str, Scalar]) -> None:
        self._values = complete(given)
        self._read: set[str] = {"batch_reference"}

    def __getitem__(self, name: str) -> Scalar:
        self._read.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def take(self, *names: str) -> None:
        """Note that these options are honoured."""
        self._read.update(names)

    @property
    def untaken(self) -> dict[str, Scalar]:
        """What is set, and was never read."""
        return {k: v for k, v in self._values.items() if k not in self._read and v != option(k).default}


@final
class Run:
    """One run in training: ask it what to train with, report to it what came out.

    Attributes:
        spec: everything about the run; ``seed``, ``setting``, ``horizon`` and ``options`` are short for its parts.
        device: where to train. The generators are seeded and the threads set before the function is called.
        schedule: gives the multipliers of each step; pass them to the optimizer's ``apply``. Read it anew at each
            step: a schedule that follows a metric changes with each report.
        training: the rest of the setting. What the study sets there has to be honoured: ``optimizer`` takes clipping,
            accumulation, loss scaling and the param groups upon it, ``autocast`` the precision, ``average`` averaged
            weights; read ``training["batch_size"]`` and ``training["label_smoothing"]`` yourself.
        wants_test: whether this is the one run that may evaluate the test split (``report_test``).
    """

    def __init__(self, assignment: Assignment, device: torch.device, progress: Progress, channel: _Channel) -> None:
        self.spec: RunSpec = assignment.spec
        self.device = device
        self.schedule = Schedule.of(self.spec.setting.schedule)
        self.training = TrainingOptions(self.spec.setting.training)
        self._progress, self._channel = progress, channel
        self._checkpoints = Checkpoints(assignment)
        self._bundles: list[Bundle] = []
        self._since = 0
        self._total: int | None = round(self.horizon.amount) if self.horizon.unit == "steps" else None
        self._clock = time.perf_counter()

    @property
    def recipe(self) -> TrainingOptions:
        """The training options, by their earlier name."""
        return self.training

    @property
    def seed(self) -> int:
        return self.spec.seed

    @property
    def setting(self) -> Setting:
        return self.spec.setting

    @property
    def horizon(self) -> Horizon:
        return self.spec.horizon

    @property
    def options(self) -> Mapping[str, Any]:
        """The study file's options of the workload."""
        return self.spec.workload.options

    @property
    def wants_test(self) -> bool:
        return self.spec.phase is Phase.TEST

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the horizon in optimizer steps. The schedule is to be timed to it, and training ends there.

        ``steps_per_epoch`` counts batches; with accumulation several of them make one step: count a step where the
        optimizer's ``step()`` returns True.
        """
        self._total = self.horizon.steps(max(1, steps_per_epoch // int(self.setting.training.get("accumulation", 1))))
        return self._total

    def optimizer(self, model: nn.Module | Mapping[str, nn.Module]) -> Bundle:
        """Build the run's optimizers for a model (see ``optimizers.build``).

        Call its ``backward(loss)`` instead of ``loss.backward()``: it accumulates, and scales the loss for float16.

        Raises:
            WorkloadError: the family is timed to the horizon, which is in epochs, and ``total_steps`` was not called.
        """
        horizon = self._steps("an optimizer") if HORIZON in family(self.setting.family).needs else self._total or 1
        self.training.take("clip_norm", "clip_value", "accumulation", "batch_scaling", "no_decay", "layer_decay")
        self.training.take(*(name for name in self.training if ":" in name))
        self._bundles.append(build(self.setting, model, horizon, self.device))
        return self._bundles[-1]

    def _steps(self, what: str) -> int:
        if self._total is None:
            found = f"asks for {what} before its length in steps is known"
            todo = "Call run.total_steps(steps_per_epoch=...) first."
            raise WorkloadError(wrong(Place("the training function"), found, "a known horizon", todo))
        return self._total

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context for forward passes in the run's precision."""
        return autocast(self.device, str(self.training["precision"]))

    def average(self, model: nn.Module) -> Average | None:
        """Return the average of a model's weights to evaluate instead, or None where the last ones are meant.

        Call its ``update(step)`` after each step, evaluate its ``model``, and give BatchNorm statistics that fit with
        :func:`tuner.training.averaging.calibrated`.
        """
        if self.training["average"] == "none":
            return None
        if SWITCH in family(self.setting.family).needs:
            raise InputError(f"average is {self.training['average']!r}, but {self.setting.family} averages by itself.")
        self.training.take("ema_decay", "swa_start")
        return Average(model, self.setting.training, self._steps("averaged weights"))

    @contextmanager
    def evaluating(
        self,
        model: nn.Module | None = None,
        batches: Iterable[Any] = (),
        forward: Callable[[nn.Module, Any], Any] | None = None,
    ) -> Iterator[None]:
        """Count what happens inside as evaluation, not as training.

        Optimizers that keep other weights for evaluation are switched to them, and back. BatchNorm's statistics do not
        fit such weights, nor averaged ones: give the model that is evaluated and training batches (``forward`` calls
        the model on one, ``model(batch)`` by itself), and it gets them for the time of the evaluation. A plain
        training, and a model without BatchNorm, draw no batch.
        """
        self._lap()
        for bundle in self._bundles:
            bundle.eval()
        averaged = self.setting.training.get("average", "none") != "none"
        others = averaged or any(bundle.switches for bundle in self._bundles)
        run = forward or (lambda net, batch: net(batch))
        try:
            with calibrated(model, batches, run) if model is not None and others else nullcontext():
                yield
        finally:
            for bundle in self._bundles:
                bundle.train()
            now = time.perf_counter()
            self._progress.eval_seconds += now - self._clock
            self._clock = now

    def report(self, *, step: int, **metrics: Scalar) -> None:
        """Report metrics after ``step`` optimizer steps (the first update makes it 1).

        A value that is not finite ends the run as diverged, so report only what should be finite. The run's
        value is the study's metric in the last report that has it.

        Raises:
            ValueError: ``step`` is not beyond that of the last report.
        """
        self._lap()
        measured = self._progress.measurements
        if measured and step <= measured[-1].step:
            raise ValueError(f"report(step={step}) comes after step {measured[-1].step}; expected a larger step")
        self._check_updates(int(step))
        self._progress.step = int(step)
        values = {name: float(value) for name, value in metrics.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise _Diverged(f"{name} became {value} at step {step}{f' of {self._total}' if self._total else ''}")
        self._follow(int(step), values)
        measurement = self._progress.measure(values)
        rng = capture_rng()
        self._channel.hand_over(measurement)
        restore_rng(rng)
        self._clock = time.perf_counter()

    def report_test(self, **metrics: Scalar) -> None:
        """Report metrics on the test split, in a run that wants them.

        Raises:
            ValueError: it does not: the search must not see the test split.
        """
        if not self.wants_test:
            raise ValueError("report_test() in a run that may not see the test split; ask run.wants_test first")
        self._progress.tests.update({name: float(value) for name, value in metrics.items()})

    def save(self, state: Mapping[str, Any]) -> bool:
        """Write a checkpoint if one is due, and say whether it was; call it right after each report.

        ``state`` is anything that ``torch.save`` takes: the states of model and optimizer, the step. The
        generators' states and the measurements so far are added.
        """
        self._lap()
        seconds = self._progress.train_seconds
        whole_steps = not any(bundle.pending for bundle in self._bundles)  # half an accumulation cannot be gone on with
        due = whole_steps and self._checkpoints.due(seconds, evaluated=True)
        if due:
            whole: dict[str, Any] = {"user": dict(state), "progress": self._progress.to_state(), "rng": capture_rng()}
            whole["schedule"] = self.schedule.state_json()
            self._checkpoints.save(whole, seconds)
        return due

    def load(self) -> dict[str, Any] | None:
        """Return the state of the newest checkpoint, or None; call it last before training.

        Sets the generators to where they were at ``save``, so that training goes on bit for bit, provided the
        order of the data is a function of seed and epoch.
        """
        saved = self._checkpoints.load()
        if saved is None:
            return None
        self._progress.resume(saved["progress"])
        self.schedule = self.schedule.with_state(saved["schedule"])
        self._since = self._progress.step
        self._checkpoints.resumed(self._progress.train_seconds)
        restore_rng(saved["rng"])
        self._clock = time.perf_counter()
        state: dict[str, Any] = saved["user"]
        return state

    def _check_updates(self, step: int) -> None:
        """Refuse a count of batches where one of optimizer steps is meant."""
        made = [bundle.updates for bundle in self._bundles if bundle.updates or bundle.pending]
        if self.setting.training.get("accumulation", 1) != 1 and made and step > self._since + max(made):
            found = f"reports step {step} after {self._since + max(made)} updates of the weights"
            todo = "With accumulation, count a step only where optimizer.step() returns True."
            raise WorkloadError(wrong(Place("the training function"), found, "optimizer steps, not batches", todo))

    def _follow(self, step: int, values: Mapping[str, float]) -> None:
        """Show a schedule that follows a metric what was measured."""
        if self.schedule.state is None:
            return
        name = self.spec.metric if self.schedule.signal == "validation" else "train_loss"
        if name not in values:
            found = f"reports {', '.join(values) or 'nothing'}"
            expected = f"{name!r} in each report, which the schedule {self.schedule.kind.name!r} follows"
            raise WorkloadError(wrong(Place("the training function"), found, expected))
        sign = -1.0 if name == self.spec.metric and self.spec.direction == "maximize" else 1.0
        self.schedule = self.schedule.after(step, self._steps("a measurement"), sign * values[name])

    def _lap(self) -> None:
        now = time.perf_counter()
        self._progress.train_seconds += now - self._clock
        self._clock = now

    def _value(self) -> float:
        metric, measured = self.spec.metric, self._progress.measurements
        values = [m.values[metric] for m in measured if metric in m.values]
        place = Place("the training function")
        if not values:
            names = sorted({name for m in measured for name in m.values})
            found = f"returned having reported {', '.join(names) or 'nothing'}"
            raise WorkloadError(
                wrong(place, found, f"{metric!r}, the study's metric", f"Call run.report(step=..., {metric}=...).")
            )
        if self._total is not None and measured[-1].step < self._total:
            found = f"returned after step {measured[-1].step}"
            todo = "Train until the horizon and report the number of updates made, counted from 1."
            raise WorkloadError(wrong(place, found, f"a report at step {self._total}, the run's horizon", todo))
        if untaken := self.training.untaken:
            options = ", ".join(f"{name} = {value}" for name, value in untaken.items())
            found = f"never took {options} of the training options"
            todo = "Use run.training[...], run.autocast() or run.average(model), or leave it out of the study."
            raise WorkloadError(wrong(place, found, "what the study sets to be honoured", todo))
        return values[-1]


Function: TypeAlias = Callable[[Run], Any]


def train_function(
    assignment: Assignment, function: Function, progress: Progress | None = None
) -> Generator[Measurement, None, RunResult]:
    """Run a function as the loop runs a workload: yield what it reports and return the result.

    The function has a thread of its own and waits in ``report`` while the consumer is busy. When the consumer
    closes the generator, ``report`` does not return: the function unwinds.

    Raises:
        WorkloadError: the function returned without the study's metric, or before the horizon.
        BaseException: whatever the function raises.
    """
    spec, progress = assignment.spec, progress or Progress()
    device, channel = choose_device(spec.device), _Channel()
    run = Run(assignment, device, progress, channel)
    with prepared(spec, device):
        thread = threading.Thread(target=_body, args=(function, run, channel), name=spec.run_id, daemon=True)
        thread.start()
        try:
            while isinstance(message := channel.to_consumer.get(), Measurement):
                yield message
                channel.to_function.put(True)
        finally:
            channel.to_function.put(False)
            thread.join(STOP_SECONDS)
    if isinstance(message, _Diverged):
        return progress.ended(Outcome.DIVERGED, str(message))
    if message is not None:
        raise message
    return progress.ended(Outcome.COMPLETED, value=run._value())


def _body(function: Function, run: Run, channel: _Channel) -> None:
    try:
        torch.set_num_threads(run.spec.threads)  # the count belongs to the thread that sets it
        run._lap()
        function(run)
        run._lap()
    except BaseException as error:
        channel.to_consumer.put(error)
    else:
        channel.to_consumer.put(None)
