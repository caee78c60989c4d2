"""What a training function must report, and the errors where it does not; the handle that it reports to is handle.py.

Pure functions of a run's spec and of what was reported; no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tuner.catalog.schedules import Schedule
from tuner.core.errors import Place, WorkloadError, wrong
from tuner.core.records import Measurement, RunSpec
from tuner.core.values import Scalar
from tuner.training.channel import Diverged

_PLACE = Place("the training function")


def known_horizon(steps: int | None, purpose: str) -> int:
    """Return the horizon in optimizer steps.

    Args:
        steps: the horizon, or None while it is only known in epochs.
        purpose: what the function asks for, as in "an optimizer".

    Raises:
        WorkloadError: the horizon in steps is not known yet.
    """
    if steps is None:
        found = f"asks for {purpose} before its length in steps is known"
        todo = "Call run.total_steps(steps_per_epoch=...) first."
        raise WorkloadError(wrong(_PLACE, found, "a known horizon", todo))
    return steps


def check_later(step: int, measurements: Sequence[Measurement]) -> None:
    """Refuse a report whose step is not larger than that of the last one.

    Raises:
        ValueError: it is not.
    """
    if measurements and step <= measurements[-1].step:
        raise ValueError(f"report(step={step}) comes after step {measurements[-1].step}; expected a larger step")


def finite_values(metrics: Mapping[str, Scalar], step: int, horizon: int | None) -> dict[str, float]:
    """Return reported metrics as floats.

    Raises:
        Diverged: a value is not finite.
    """
    values = {name: float(value) for name, value in metrics.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} became {value} at step {step}{f' of {horizon}' if horizon else ''}")
    return values


def check_counts_updates(step: int, updates: int) -> None:
    """Refuse a reported step that counts batches where it should count updates of the weights.

    Raises:
        WorkloadError: ``step`` is larger than the number of updates.
    """
    if step > updates:
        found = f"reports step {step} after {updates} updates of the weights"
        todo = "With accumulation, count a step only where optimizer.step() returns True."
        raise WorkloadError(wrong(_PLACE, found, "optimizer steps, not batches", todo))


def followed_value(schedule: Schedule, values: Mapping[str, float], spec: RunSpec) -> float:
    """Return the reported value that a schedule follows, with its sign such that smaller is better.

    Raises:
        WorkloadError: the report does not have it.
    """
    name = spec.metric if schedule.signal == "validation" else "train_loss"
    if name not in values:
        found = f"reports {', '.join(values) or 'nothing'}"
        expected = f"{name!r} in each report, which the schedule {schedule.kind.name!r} follows"
        raise WorkloadError(wrong(_PLACE, found, expected, f"Add {name}=... to run.report(...)."))
    sign = -1.0 if name == spec.metric and spec.direction == "maximize" else 1.0
    return sign * values[name]


def final_value(
    spec: RunSpec, measurements: Sequence[Measurement], horizon: int | None, ignored: Mapping[str, Scalar]
) -> float:
    """Return a finished run's value: the study's metric in the last report that has it.

    Args:
        spec: the run.
        measurements: what the function reported, oldest first.
        horizon: in optimizer steps; None if the function never asked for it.
        ignored: the training options that the study sets and the function did not read.

    Raises:
        WorkloadError: the metric was never reported, the last report is before the horizon, or options were ignored.
    """
    metric = spec.metric
    values = [m.values[metric] for m in measurements if metric in m.values]
    if not values:
        names = sorted({name for m in measurements for name in m.values})
        found = f"returned having reported {', '.join(names) or 'nothing'}"
        todo = f"Call run.report(step=..., {metric}=...)."
        raise WorkloadError(wrong(_PLACE, found, f"{metric!r}, the study's metric", todo))
    if horizon is not None and measurements[-1].step < horizon:
        found = f"returned after step {measurements[-1].step}"
        todo = "Train until the horizon and report the number of updates made, counted from 1."
        raise WorkloadError(wrong(_PLACE, found, f"a report at step {horizon}, the run's horizon", todo))
    if ignored:
        options = ", ".join(f"{name} = {value}" for name, value in ignored.items())
        found = f"never took {options} of the training options"
        todo = "Use run.training[...], run.autocast() or run.average(model), or leave it out of the study."
        raise WorkloadError(wrong(_PLACE, found, "what the study sets to be honoured", todo))
    return values[-1]
