"""How far a run has come, and a stopwatch that counts its seconds; the frozen record is ``core.records.RunResult``."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

from tuner.core.records import Measurement, Outcome, RunResult


@dataclass(slots=True)
class Progress:
    """A run in training: what its ``RunResult`` is made from when it ends.

    Attributes:
        step: optimizer steps done.
        train_seconds: spent on training, over all attempts.
        eval_seconds: spent on evaluation, over all attempts.
        resumed_at: the step at which this attempt began; 0 without a checkpoint.
        measurements: on the validation split, oldest first.
        tests: metrics on the test split by name.
    """

    step: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    resumed_at: int = 0
    measurements: list[Measurement] = field(default_factory=list)
    tests: dict[str, float] = field(default_factory=dict)

    def measure(self, values: Mapping[str, float]) -> Measurement:
        """Add a measurement at the current step and return it.

        Values that are not finite are left out, because no storage takes them.
        """
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self.measurements.append(Measurement(self.step, finite, self.train_seconds, self.eval_seconds))
        return self.measurements[-1]

    def ended(self, outcome: Outcome, reason: str = "", value: float | None = None, traceback: str = "") -> RunResult:
        """Return the result of a run that ends now."""
        return RunResult(
            outcome=outcome,
            value=value,
            step=self.step,
            reason=reason,
            traceback=traceback,
            measurements=tuple(self.measurements),
            tests=dict(self.tests),
            train_seconds=self.train_seconds,
            eval_seconds=self.eval_seconds,
            resumed_at=self.resumed_at,
        )

    def to_state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {
            "step": self.step,
            "train_seconds": self.train_seconds,
            "eval_seconds": self.eval_seconds,
            "measurements": [measurement.to_row() for measurement in self.measurements],
            "tests": dict(self.tests),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``to_state`` returned, and note the step at which this attempt began."""
        self.step = self.resumed_at = state["step"]
        self.train_seconds, self.eval_seconds = state["train_seconds"], state["eval_seconds"]
        self.measurements = [Measurement.from_row(row) for row in state["measurements"]]
        self.tests = dict(state["tests"])


@final
class Stopwatch:
    """Adds the seconds since its last reading to a progress, as training or as evaluation."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last = time.perf_counter()

    def training(self) -> None:
        """Count the time since the last reading as training."""
        self._progress.train_seconds += self._lap()

    def evaluation(self) -> None:
        """Count the time since the last reading as evaluation."""
        self._progress.eval_seconds += self._lap()

    def restart(self) -> None:
        """Count the time since the last reading as neither."""
        self._last = time.perf_counter()

    def _lap(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return self._last - last
