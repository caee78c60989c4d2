"""What MLflow shows of runs and studies."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tuner.core.records import (
    Horizon,
    Measurement,
    Outcome,
    Phase,
    RunRecord,
    RunResult,
    RunSpec,
    Setting,
    Source,
    State,
    WorkloadRef,
)
from tuner.tracking import pages, view

SETTING = Setting("sgdm", {"learning_rate": 0.1, "nesterov": True}, {"kind": "cosine", "warmup": 0.05})
SPEC = RunSpec(
    study="digits",
    arm="sgdm",
    trial=7,
    phase=Phase.EXPLORE,
    seed=123,
    horizon=Horizon(18, "epochs"),
    setting=SETTING,
    workload=WorkloadRef("m:W"),
    metric="accuracy",
    direction="maximize",
)
CURVE = (Measurement(10, {"accuracy": 0.5}, 1.0, 0.25), Measurement(20, {"accuracy": 0.75}, 2.0, 0.5))


def ended(outcome: Outcome = Outcome.COMPLETED, **values: Any) -> RunRecord:
    given = {"measurements": CURVE, "step": 20, "started_at": 100.0, "finished_at": 103.0} | values
    return RunRecord(SPEC, State.RUNNING, 1).ended(RunResult(outcome, **given))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "sgdm #7"),
        ({"rung": 0, "horizon": Horizon(2, "epochs")}, "sgdm #7 · 2 epochs"),
        ({"rung": 2}, "sgdm #7"),
        ({"phase": Phase.CONFIRM}, "sgdm #7 · confirm · seed 123"),
        ({"phase": Phase.TEST}, "sgdm #7 · test · seed 123"),
    ],
)
def test_names_say_what_sets_a_run_apart(changes: dict[str, Any], name: str) -> None:
    assert pages.run_name(RunRecord(replace(SPEC, **changes), State.RUNNING), Horizon(18, "epochs")) == name


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_status(outcome: Outcome) -> None:
    page = pages.run_page(ended(outcome), None, now=0.0)
    assert page.status in ("FINISHED", "KILLED", "FAILED")
    assert page.tags["outcome"] == outcome.value


def test_an_ended_run_has_the_times_of_the_ledger() -> None:
    page = pages.run_page(ended(value=0.75), Source.MODEL, now=9e9, arms=["adamw", "sgdm"])
    assert (page.started, page.ended) == (100.0, 103.0)
    assert {(p.key, p.value, p.step, p.seconds) for p in page.final} == {
        ("value", 0.75, 0, 3.0),
        ("train_seconds", 0.0, 0, 3.0),
        ("eval_seconds", 0.0, 0, 3.0),
    }
    assert page.params["nesterov"] == "True"
    assert page.params["schedule.warmup"] == "0.05"
    assert page.tags["source"] == "model"
    assert page.tags[view.COLOR_TAG] == view.color("sgdm", ["adamw", "sgdm"])


def test_a_lost_run_without_times_is_shown_alike_each_time() -> None:
    record = ended(Outcome.LOST, started_at=0.0, finished_at=0.0)
    assert pages.run_page(record, None, now=50.0).final == pages.run_page(record, None, now=99.25).final


def test_a_running_run_started_when_its_measurements_say() -> None:
    page = pages.run_page(RunRecord(SPEC, State.RUNNING, 1, None, CURVE), None, now=1000.0)
    assert (page.status, page.started, page.ended, page.final) == ("RUNNING", 997.5, None, ())
    assert pages.run_page(RunRecord(SPEC, State.QUEUED, 1), None, now=0.0).status == "SCHEDULED"


def test_curves_hold_finite_values_under_names_of_their_own() -> None:
    values = {"accuracy": 0.5, "loss": math.nan, "value": 3.0, "top-5 (%)": math.inf}
    points = list(pages.curve_points([Measurement(10, values, 1.0, 0.5)]))
    assert [(p.key, p.value, p.step, p.seconds) for p in points] == [
        ("accuracy", 0.5, 10, 1.5),
        ("measured.value", 3.0, 10, 1.5),
    ]


def test_many_non_finite_values_are_counted_not_listed() -> None:
    curve = tuple(Measurement(step, {"loss": math.nan}) for step in range(1, 21))
    tag = pages.run_page(ended(measurements=curve), None, now=0.0).tags[pages.NONFINITE_TAG]
    assert tag.startswith("NaN or infinite, so not shown: loss at step 1, loss at step 2")
    assert tag.endswith("and 12 more")


def test_notes_hide_secrets_and_fit() -> None:
    record = ended(Outcome.FAILED, reason="http://ann:pw@host broke", traceback="x" * 20_000 + " http://ann:pw@host/")
    tags = pages.run_page(record, None, now=0.0).tags
    assert "pw" not in str(tags)
    assert max(len(value) for value in tags.values()) <= pages.NOTE_LENGTH < 8000
    assert tags[pages.NOTE].startswith("`sgdm learning_rate=0.1")


@pytest.mark.parametrize(
    ("state", "driven", "status"),
    [
        ("open", True, "RUNNING"),
        ("open", False, "KILLED"),
        ("finished", False, "FINISHED"),
        ("stopped", True, "FAILED"),
    ],
)
def test_where_a_study_stands(state: str, driven: bool, status: str) -> None:
    assert pages.study_status(state, driven) == status


def test_what_an_extension_changes_is_no_param() -> None:
    spec = {"budget": {"trials_per_arm": 12, "hours": None}, "arms": ["sgdm"], "seed": 3, "horizon": {"epochs": 2.0}}
    assert pages.study_params(spec) == {"horizon": "2 epochs", "seed": "3"}
    tags = pages.study_tags(spec, "open", "")
    assert tags["budget.trials_per_arm"] == "12"
    assert tags["arms"] == "sgdm"
