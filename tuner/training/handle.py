"""The handle that a plain function ``train(run)`` gets, and the function as a generator of measurements; no loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, TypeAlias, final

import torch
from torch import nn

from tuner.errors import Place, WorkloadError, wrong
from tuner.records import Assignment, Horizon, Measurement, Outcome, Phase, RunResult, RunSpec, Scalar, Setting
from tuner.schedules import Schedule
from tuner.training.checkpoint import Checkpoints
from tuner.training.environment import capture_rng, choose_device, prepared, restore_rng
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
class Run:
    """One run in training: ask it what to train with, report to it what came out.

    Attributes:
        spec: everything about the run; ``seed``, ``setting``, ``horizon`` and ``options`` are short for its parts.
        device: where to train. The generators are seeded and the threads set before the function is called.
        schedule: gives the multipliers of each step; pass them to the optimizer's ``apply``.
        wants_test: whether this is the one run that may evaluate the test split (``report_test``).
    """

    def __init__(self, assignment: Assignment, device: torch.device, progress: Progress, channel: _Channel) -> None:
        self.spec: RunSpec = assignment.spec
        self.device = device
        self.schedule = Schedule.of(self.spec.setting.schedule)
        self._progress, self._channel = progress, channel
        self._checkpoints = Checkpoints(assignment)
        self._total: int | None = round(self.horizon.amount) if self.horizon.unit == "steps" else None
        self._clock = time.perf_counter()

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
        """Return the horizon in optimizer steps. The schedule is to be timed to it, and training ends there."""
        self._total = self.horizon.steps(steps_per_epoch)
        return self._total

    def optimizer(self, model: nn.Module | Mapping[str, nn.Module]) -> Bundle:
        """Build the run's optimizers for a model (see ``optimizers.build``)."""
        return build(self.setting, model)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count what happens inside as evaluation, not as training."""
        self._lap()
        try:
            yield
        finally:
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
        self._progress.step = int(step)
        values = {name: float(value) for name, value in metrics.items()}
        for name, value in values.items():
            if not math.isfinite(value):
                raise _Diverged(f"{name} became {value} at step {step}{f' of {self._total}' if self._total else ''}")
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
        due = self._checkpoints.due(seconds, evaluated=True)
        if due:
            whole = {"user": dict(state), "progress": self._progress.to_state(), "rng": capture_rng()}
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
        self._checkpoints.resumed(self._progress.train_seconds)
        restore_rng(saved["rng"])
        self._clock = time.perf_counter()
        state: dict[str, Any] = saved["user"]
        return state

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
