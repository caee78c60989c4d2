"""Specs, trials and results to store."""

from __future__ import annotations

from typing import Any

from tuner.catalog.families import FAMILIES
from tuner.core.records import (
    Horizon,
    Measurement,
    Outcome,
    Phase,
    RunResult,
    RunSpec,
    Source,
    TrialRecord,
    WorkloadRef,
)

NAME = "toy"
SETTING = FAMILIES["sgdm"].default


def spec_json() -> dict[str, Any]:
    return {"study": NAME, "space": {"zeta": {"b": 1, "a": 2}, "alpha": 1e-7}}


def trial(index: int = 0, arm: str = "sgdm") -> TrialRecord:
    return TrialRecord(arm, index, Source.SOBOL, SETTING, {"z": 0.1 + 0.2, "a": "cosine", "k": 3}, index)


def run(index: int = 0, arm: str = "sgdm", seed: int = 7, phase: Phase = Phase.EXPLORE) -> RunSpec:
    return RunSpec(
        study=NAME,
        arm=arm,
        trial=index,
        phase=phase,
        seed=seed,
        horizon=Horizon(2, "epochs"),
        setting=SETTING,
        workload=WorkloadRef("my.work:Load", "/somewhere", {"width": 3}),
        metric="loss",
        direction="minimize",
    )


def curve(*steps: int, start: float = 1.0) -> tuple[Measurement, ...]:
    return tuple(Measurement(s, {"loss": start / (s + 1) / 3}, s * 0.1, s * 0.01) for s in steps)


def result(value: float | None = 0.1 + 0.2, outcome: Outcome = Outcome.COMPLETED, **more: Any) -> RunResult:
    measured = curve(10, 20, 30)
    return RunResult(
        outcome,
        value,
        30,
        measurements=measured,
        device="cpu",
        torch="2.13",
        train_seconds=3.0,
        eval_seconds=0.3,
        started_at=1.5,
        finished_at=2.5,
        **more,
    )
