"""Assignments for the tests of the training side, and a driver for its generators."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from tuner.catalog.families import family as family_named
from tuner.core.records import Assignment, Horizon, Measurement, Phase, RunResult, RunSpec, Setting, WorkloadRef
from tuner.training.handle import Function
from tuner.training.run import train
from tuner.training.workloads import Workload

BUILT_IN = "tuner.training.workloads."
TOY = BUILT_IN + "toy:ToyQuadratic"
DIGITS = BUILT_IN + "digits:DigitsCNN"
TABULAR = BUILT_IN + "tabular:TabularMLP"
CHARS = BUILT_IN + "chars:CharTransformer"


def assign(
    path: str = TOY,
    family: str = "sgdm",
    steps: float = 40,
    unit: str = "steps",
    metric: str = "loss",
    options: Mapping[str, Any] | None = None,
    schedule: Mapping[str, Any] | None = None,
    seed: int = 3,
    phase: Phase = Phase.EXPLORE,
    checkpoints: str = "",
    checkpoint_seconds: float = 0.0,
    attempt: int = 1,
    training: Mapping[str, Any] | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    direction: str = "minimize",
    **rest: Any,
) -> Assignment:
    row = family_named(family)
    given = schedule or ({"kind": "cosine", "warmup": 0.1} if row.schedules is None else dict(row.default_schedule))
    spec = RunSpec(
        study="s",
        arm=family,
        trial=0,
        phase=phase,
        seed=seed,
        horizon=Horizon(steps, unit),
        setting=Setting(family, {**row.default.hyperparameters, **(hyperparameters or {})}, given, training or {}),
        workload=WorkloadRef(path, "", options or {}),
        metric=metric,
        direction=direction,
        **rest,
    )
    return Assignment(spec, attempt, checkpoints, checkpoint_seconds)


def drive(generator: Generator[Measurement, None, RunResult]) -> tuple[list[Measurement], RunResult]:
    seen = []
    while True:
        try:
            seen.append(next(generator))
        except StopIteration as end:
            return seen, end.value


def trained(assignment: Assignment, workload: Workload | Function | None = None) -> RunResult:
    return drive(train(assignment, workload))[1]


def numbers(result: RunResult) -> tuple[Any, ...]:
    """What must repeat bit for bit."""
    return (
        result.outcome,
        result.value,
        result.step,
        [(m.step, dict(m.values)) for m in result.measurements],
        dict(result.tests),
    )


def curve(result: RunResult, name: str) -> list[float]:
    return [m.values[name] for m in result.measurements]


def setting(assignment: Assignment, training: Mapping[str, Any] | None = None, **hyper: float) -> Assignment:
    """The assignment with other training options and other hyperparameters."""
    old = assignment.spec.setting
    new = replace(old, hyperparameters={**old.hyperparameters, **hyper}, training=training or {})
    return replace(assignment, spec=replace(assignment.spec, setting=new))


class Seen:
    """What a library's trainer did while it trained."""

    def __init__(self) -> None:
        self.rates: list[list[tuple[float, float]]] = []
        """Learning rate and momentum of every group at every update."""
        self.evaluations: list[dict[str, float]] = []
        self.decays: dict[str, float] = {}
        self.settings: Any = None

    def groups(self, optimizer: Any) -> None:
        groups = optimizer.param_groups
        momenta = [g["momentum"] if "momentum" in g else g.get("betas", (0.0,))[0] for g in groups]
        self.rates.append([(g["lr"], m) for g, m in zip(groups, momenta, strict=True)])
