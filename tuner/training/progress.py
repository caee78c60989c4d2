"""How far a run is: the live counterpart of a ``RunResult``; it trains nothing and writes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.core.records import Measurement, Outcome, RunResult


@dataclass(slots=True)
class Progress:
    """Steps done, seconds spent on training and on evaluation, and what was measured so far."""

    step: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    resumed_at: int = 0
    measurements: list[Measurement] = field(default_factory=list)
    tests: dict[str, float] = field(default_factory=dict)

    def measure(self, values: Mapping[str, float]) -> Measurement:
        """Note finite values at the current step; one that is not finite is left out, for nothing can store it."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self.measurements.append(Measurement(self.step, finite, self.train_seconds, self.eval_seconds))
        return self.measurements[-1]

    def ended(self, outcome: Outcome, reason: str = "", value: float | None = None, traceback: str = "") -> RunResult:
        """Freeze into a result."""
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
        """Take over what ``to_state`` returned, and note where this attempt began."""
        self.step = self.resumed_at = state["step"]
        self.train_seconds, self.eval_seconds = state["train_seconds"], state["eval_seconds"]
        self.measurements = [Measurement.from_row(row) for row in state["measurements"]]
        self.tests = dict(state["tests"])
