"""The best settings of an earlier study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from analysis.records import Book, make_spec

from tuner.analysis.searched.best_settings import BEST, best_settings, started_from
from tuner.config.initial_settings import InitialSetting
from tuner.core.records import Horizon, Outcome, Source, TrialRecord
from tuner.study_records import StudyRecords

VALUES: dict[str, list[float | Outcome]] = {
    "sgdm": [0.5, 0.9, 0.7, Outcome.DIVERGED, 0.8, 0.6],
    "adamw": [0.4, Outcome.FAILED, 0.3],
}


def book(**changes: Any) -> Book:
    return Book(make_spec(budget={"trials_per_arm": 6}, **changes)).search(VALUES)


def best(found: Book, *families: str, workload: str = "my.work:Load") -> tuple[InitialSetting, ...]:
    return best_settings(found.records, families or ("sgdm", "adamw"), workload)


def indices(settings: tuple[InitialSetting, ...]) -> list[str]:
    return [" ".join(entry.origin.split()[2:5]).rstrip(":") for entry in settings]


def test_the_best_three_of_each_arm_in_the_metrics_direction() -> None:
    assert indices(best(book())) == ["sgdm trial 1", "sgdm trial 4", "sgdm trial 2", "adamw trial 0", "adamw trial 2"]
    down = book(metric={"name": "val_accuracy", "direction": "minimize"})
    assert indices(best(down))[:BEST] == ["sgdm trial 0", "sgdm trial 5", "sgdm trial 2"]


def test_only_wanted_families() -> None:
    assert {one.family for one in best(book(), "adamw")} == {"adamw"}
    assert best(book(), "lion") == ()


def test_settings_that_are_the_same_count_once() -> None:
    found = book()
    one = next(t for t in found.trials if (t.arm, t.index) == ("sgdm", 1))
    found.trials = [replace(t, setting=one.setting) if (t.arm, t.index) == ("sgdm", 4) else t for t in found.trials]
    assert indices(best(found, "sgdm")) == ["sgdm trial 1", "sgdm trial 2", "sgdm trial 5"]


def test_shorter_runs_do_not_count() -> None:
    found = book()
    short = Horizon(1, "epochs")
    found.runs = [
        replace(r, spec=replace(r.spec, horizon=short)) if (r.spec.arm, r.spec.trial) == ("sgdm", 1) else r
        for r in found.runs
    ]
    assert indices(best(found, "sgdm"))[0] == "sgdm trial 4"


def test_it_reads_back_as_the_same_setting() -> None:
    found = book()
    settings = best(found)
    again = make_spec(initial_settings=[entry.to_json() for entry in settings])
    trial = next(t for t in found.trials if (t.arm, t.index) == ("sgdm", 1))
    assert again.space.arm("sgdm").earlier[0] == trial.setting
    assert again.initial_settings == settings
    assert all(entry.source is Source.EARLIER for entry in settings)


@pytest.mark.parametrize(
    ("workload", "kept"),
    [
        ("my.work:Load", {"clip_norm": 2.0, "batch_size": 64, "multiplier:head.*": 3.0}),
        ("other.work:Load", {"clip_norm": 2.0}),
    ],
)
def test_what_belongs_to_a_workload_stays_with_it(workload: str, kept: dict[str, Any]) -> None:
    training = {"clip_norm": 2.0, "batch_size": 64, "multipliers": {"head.*": 3.0}}
    found = book(training=training, workload_training={"average": "ema", "label_smoothing": 0.1})
    initial = best(found, "sgdm", workload=workload)[0]
    assert {k: v for k, v in initial.written["training"].items() if k != "ema_decay"} == kept
    assert ("on my.work:Load" in initial.origin) == (workload != "my.work:Load")


def test_what_a_study_started_from_is_counted_by_what_was_tried() -> None:
    settings = [entry.to_json() for entry in best(book())]
    spec = make_spec(initial_settings=settings, warm_start=["toy-1", "other"])
    assert started_from(StudyRecords(spec, (), ())) == {"toy-1": 0, "other": 0}
    named = [{**entry, "origin": entry["origin"].replace("study toy,", "study toy-1,")} for entry in settings]
    spec = make_spec(initial_settings=named, warm_start=["toy-1", "other"])
    tried = [
        TrialRecord(arm.arm, i, arm.source_of(setting), setting, {})
        for arm in spec.arms
        for i, setting in enumerate(arm.initial_settings[:3])
    ]
    assert [trial.source for trial in tried].count(Source.EARLIER) == 3
    assert started_from(StudyRecords(spec, tuple(tried), ())) == {"toy-1": 3, "other": 0}
    assert started_from(StudyRecords(make_spec(), tuple(tried), ())) == {}
