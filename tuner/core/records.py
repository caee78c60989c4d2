"""The frozen records that travel between the parts; no behaviour beyond turning into JSON and back.

A live handle (a run in training, a study) is another type and lives elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

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
    """How long a run trains: ``amount`` of ``steps`` or of ``epochs``."""

    amount: float
    unit: str

    def steps(self, steps_per_epoch: int) -> int:
        """Return the horizon in optimizer steps, at least one.

        >>> Horizon(2, "epochs").steps(steps_per_epoch=45)
        90
        """
        return max(1, round(self.amount * (steps_per_epoch if self.unit == "epochs" else 1)))

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit.removesuffix('s') if self.amount == 1 else self.unit}"


@dataclass(frozen=True, slots=True)
class WorkloadRef:
    """Which workload: ``module:attribute``, the folder it is imported from, and its keyword arguments."""

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
        """Twelve hexadecimal digits that two settings share only if they are the same."""
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
    """A run handed to a worker: its spec, which attempt this is, and where its checkpoints are.

    ``attempt`` fences: what an older attempt reports is refused. ``checkpoints`` is a folder for all
    attempts of the run; ``checkpoint_seconds`` of training pass between two of them.
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


@dataclass(frozen=True, slots=True)
class Measurement:
    """Metric values of a run after ``step`` optimizer steps; seconds are sums since the run's start."""

    step: int
    values: Mapping[str, float]
    train_seconds: float = 0.0
    eval_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """How an attempt ended, with all it measured, those before a resume included.

    ``value`` is the metric at the horizon (None unless completed); ``step`` the last step trained;
    ``tests`` the metrics on the test split, for the one run that may see it; ``torch`` its version.
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
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> RunResult:
        values = dict(data)
        values["outcome"] = Outcome(values["outcome"])
        values["measurements"] = tuple(Measurement(**m) for m in values["measurements"])
        return RunResult(**values)


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A proposed setting: the arm, its proposal index there, whence it came, and its search coordinates."""

    arm: str
    index: int
    source: Source
    setting: Setting
    coordinates: Mapping[str, Scalar]
    optuna_number: int | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the ledger knows it.

    ``result`` is None until it has ended, ``curve`` is what it measured so far, ``started_at`` when the last
    attempt began (0 before the first one).
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
        """When it began to train, in seconds since the epoch; 0 if it has not."""
        return self.result.started_at if self.result and self.result.started_at else self.started_at

    def score(self, sign: int) -> float:
        """Return the value with ``sign`` (+1 to maximize, -1 to minimize), so that more is better.

        NaN while nothing is known: the run has not ended, or was lost with its worker. Minus infinity where it ended
        without a finite value: it diverged, failed, or was pruned.

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
        return replace(self, state=State.ENDED, result=result, curve=result.measurements)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that the plan after the search asks for."""

    arm: str
    trial: int
    phase: Phase
    seed: int
