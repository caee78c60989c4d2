"""The frozen records that the parts exchange, their JSON, and what follows from one record alone.

Live handles (a run in training, a study) are other types and live elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

from tuner.core.values import Scalar, digest, short


class Phase(StrEnum):
    """What a run is for."""

    EXPLORE = "explore"
    NOISE = "noise"
    CONFIRM = "confirm"
    REFERENCE = "reference"
    TEST = "test"


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    LOST = "lost"


class State(StrEnum):
    """Where a run stands: waiting, in training, or ended with one of the outcomes."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


class Source(StrEnum):
    """Where a trial's setting came from."""

    DEFAULT = "default"
    CURRENT = "current"
    EARLIER = "earlier"
    PUBLISHED = "published"
    SOBOL = "sobol"
    RANDOM = "random"
    MODEL = "model"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True)
class Horizon:
    """How long a run trains: ``amount`` of ``unit``, which is ``steps`` (of the optimizer) or ``epochs``."""

    amount: float
    unit: str

    def steps(self, steps_per_epoch: int) -> int:
        """Return the horizon in optimizer steps, at least 1.

        >>> Horizon(2, "epochs").steps(steps_per_epoch=45)
        90
        """
        return max(1, round(self.amount * (steps_per_epoch if self.unit == "epochs" else 1)))

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit.removesuffix('s') if self.amount == 1 else self.unit}"


@dataclass(frozen=True, slots=True)
class WorkloadRef:
    """Which workload: its ``path`` is ``module:attribute``, its ``options`` are keyword arguments.

    ``folder`` is where the module is imported from; empty for one that is installed.
    """

    path: str
    folder: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """One complete choice: optimizer family with its hyperparameters, schedule with its parameters, training options.

    ``schedule`` holds only what its ``kind`` uses, plus the warm-up; ``training`` is everything else that the
    optimizer depends on (see :mod:`tuner.catalog.training_options`).
    """

    family: str
    hyperparameters: Mapping[str, Scalar]
    schedule: Mapping[str, Scalar]
    training: Mapping[str, Scalar] = field(default_factory=dict)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Setting:
        """Read a setting back; before they were called so, the training options stood under ``recipe``."""
        values = dict(data)
        if "recipe" in values:
            values["training"] = values.pop("recipe")
        return Setting(**values)

    @property
    def recipe(self) -> Mapping[str, Scalar]:
        """The training options, by their earlier name."""
        return self.training

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits, the same for equal settings; different ones share them by a rare accident only."""
        return digest(asdict(self))

    def __str__(self) -> str:
        words = [f"{name}={short(value)}" for name, value in self.hyperparameters.items()]
        kind = str(self.schedule["kind"])
        plain = {"kind"} | ({"warmup_shape"} if not self.schedule.get("warmup") else set())
        spoken = {name: value for name, value in self.schedule.items() if value and name not in plain}
        rest = [f"{name} {short(value)}" for name, value in spoken.items() if value != "linear"]
        return f"{self.family} {' '.join(words)}, {kind}{' (' + ', '.join(rest) + ')' if rest else ''}"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that a worker needs to train one run, and nothing else; plain JSON.

    The same ``RunSpec`` gives the same numbers bit for bit on one machine and torch version.
    ``threads`` is here because one and two threads sum in another order.
    """

    study: str
    arm: str
    trial: int
    phase: Phase
    seed: int
    horizon: Horizon
    setting: Setting
    workload: WorkloadRef
    metric: str
    direction: str
    rung: int = 0
    threads: int = 1
    device: str = "auto"

    @property
    def run_id(self) -> str:
        """The run's name inside its study: what is trained, for what, how long, with which seed."""
        return f"{self.arm}.{self.trial:04d}.{self.phase.value}.r{self.rung}.s{self.seed}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RunSpec:
        values = dict(data)
        values["phase"] = Phase(values["phase"])
        values["horizon"] = Horizon(**values["horizon"])
        setting = dict(values["setting"])
        if "precision" in values:  # where ledgers from before the training options have it
            setting["training"] = {"precision": values.pop("precision")}
        values["setting"] = Setting.from_json(setting)
        values["workload"] = WorkloadRef(**values["workload"])
        return RunSpec(**values)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A run handed to a worker: its spec, the number of the attempt, and where its checkpoints are.

    What an attempt reports is refused once a later one has begun. ``checkpoints`` is a folder that all attempts of
    the run share; ``checkpoint_seconds`` seconds of training pass between two checkpoints.
    """

    spec: RunSpec
    attempt: int
    checkpoints: str = ""
    checkpoint_seconds: float = 30.0

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_json(),
            "attempt": self.attempt,
            "checkpoints": self.checkpoints,
            "checkpoint_seconds": self.checkpoint_seconds,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Assignment:
        return Assignment(**{**data, "spec": RunSpec.from_json(data["spec"])})


MeasurementRow: TypeAlias = tuple[int, dict[str, float], float, float]
"""The optimizer step, the values by metric, the seconds of training and the seconds of evaluation until then."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Metric values of a run after ``step`` optimizer steps; seconds are sums since the run's start."""

    step: int
    values: Mapping[str, float]
    train_seconds: float = 0.0
    eval_seconds: float = 0.0

    def to_row(self) -> MeasurementRow:
        """Return the measurement as a row of plain values.

        Every place that stores or sends a measurement uses this row: checkpoints as it is, Ray's messages and results
        as JSON, the ledger as the columns of a table.

        >>> Measurement.from_row([10, {"loss": 0.5}, 2.0, 0.25]).to_row()
        (10, {'loss': 0.5}, 2.0, 0.25)
        """
        return self.step, dict(self.values), self.train_seconds, self.eval_seconds

    @staticmethod
    def from_row(row: Sequence[Any]) -> Measurement:
        """Return the measurement of a row that :meth:`to_row` wrote; JSON may have made a list of it."""
        step, values, train_seconds, eval_seconds = row
        return Measurement(step, values, train_seconds, eval_seconds)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How an attempt ended, with all that the run measured, earlier attempts included.

    ``value`` is the metric at the horizon, None unless the run completed. ``step`` is the last optimizer step trained,
    ``resumed_at`` the step from which the attempt went on, 0 for a fresh start. ``tests`` holds the metrics on the test
    split, for the one run that may see it. ``torch`` is its version. ``started_at`` and ``finished_at`` are in seconds
    since the epoch, ``train_seconds`` and ``eval_seconds`` sums since the run's start.
    """

    outcome: Outcome
    value: float | None = None
    step: int = 0
    reason: str = ""
    traceback: str = ""
    measurements: tuple[Measurement, ...] = ()
    tests: Mapping[str, float] = field(default_factory=dict)
    device: str = ""
    torch: str = ""
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    resumed_at: int = 0

    def to_json(self) -> dict[str, Any]:
        rows = [measurement.to_row() for measurement in self.measurements]
        return {**asdict(replace(self, measurements=())), "measurements": rows}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RunResult:
        values = dict(data)
        values["outcome"] = Outcome(values["outcome"])
        values["measurements"] = tuple(Measurement.from_row(row) for row in values["measurements"])
        return RunResult(**values)


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A proposed setting: its arm, its index among the arm's proposals (from 0), its source, its search coordinates.

    ``coordinates`` maps the names of the space's dimensions to values; it is empty for a setting outside the space.
    """

    arm: str
    index: int
    source: Source
    setting: Setting
    coordinates: Mapping[str, Scalar]
    optuna_number: int | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the ledger knows it.

    ``result`` is None until the run has ended. ``curve`` is what it has measured so far. ``started_at`` is when the
    last attempt began, in seconds since the epoch; 0 before the first one.
    """

    spec: RunSpec
    state: State
    attempt: int = 0
    result: RunResult | None = None
    curve: tuple[Measurement, ...] = ()
    started_at: float = 0.0

    @property
    def run_id(self) -> str:
        return self.spec.run_id

    @property
    def outcome(self) -> Outcome | None:
        return self.result.outcome if self.result else None

    @property
    def value(self) -> float | None:
        return self.result.value if self.result else None

    @property
    def began(self) -> float:
        """When the last attempt began to train, in seconds since the epoch; 0 if none has."""
        return self.result.started_at if self.result and self.result.started_at else self.started_at

    def score(self, sign: int) -> float:
        """Return the value with ``sign`` (+1 to maximize, -1 to minimize), so that more is better.

        NaN where nothing is known of the setting: the run has not ended, or was lost with its worker. Minus infinity
        where it ended without a finite value: it diverged, failed, or was pruned.

        >>> spec = RunSpec("s", "sgd", 0, Phase.EXPLORE, 1, Horizon(1, "epochs"), Setting("sgd", {}, {}),
        ...     WorkloadRef("m:W"), "loss", "minimize")
        >>> run = RunRecord(spec, State.QUEUED)
        >>> run.score(-1), run.ended(RunResult(Outcome.COMPLETED, 0.5)).score(-1)
        (nan, -0.5)
        """
        if self.outcome in (None, Outcome.LOST):
            return math.nan
        if self.outcome is not Outcome.COMPLETED or self.value is None or not math.isfinite(self.value):
            return -math.inf
        return self.value * sign

    def ended(self, result: RunResult) -> RunRecord:
        """Return the run as ended, with this result and its measurements."""
        return replace(self, state=State.ENDED, result=result, curve=result.measurements)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that the plan after the search asks for: a trial, what for, with which seed; over the full horizon."""

    arm: str
    trial: int
    phase: Phase
    seed: int
