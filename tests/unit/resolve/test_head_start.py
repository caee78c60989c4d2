"""What a study knows before it begins: recipes, and earlier studies in the same database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from analysis.records import make_spec, make_study

from tuner import bootstrap, workflow
from tuner.config.spec import StudySpec
from tuner.config.stored import stored_spec
from tuner.core.errors import InputError, StorageError, StudyExists, StudyNotFound, WorkloadError
from tuner.core.records import Source
from tuner.core.settings import Settings
from tuner.resolve.asked import resolve

TOY = "tuner.training.workloads.toy:ToyQuadratic"
DIGITS = "tuner.training.workloads.digits:DigitsCNN"


def toy(name: str = "later", **changes: Any) -> StudySpec:
    own = {
        "study": name,
        "workload": TOY,
        "executor": "local",
        "space": "quick",
        "metric": None,
        "horizon": {"steps": 4},
    }
    return resolve(make_study(**{**own, **changes}))


def digits(**changes: Any) -> StudySpec:
    own = {"workload": DIGITS, "executor": "local", "space": "sgdm-vs-adam", "metric": None, "horizon": None}
    return resolve(make_study(**{**own, "budget": {"trials_per_arm": 12}, **changes}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(f"sqlite:///{tmp_path}/a.db", "none", tmp_path / "studies")


def run(spec: StudySpec, settings: Settings) -> StudySpec:
    """Run a study to its end; return what the ledger keeps of its question."""
    stored = bootstrap.create(spec, settings)
    with bootstrap.session(stored, settings) as session:
        session.executor.run(session.study)
        assert session.study.finished
    return stored


def sources(spec: StudySpec, settings: Settings, arm: str) -> list[str]:
    ledger = bootstrap.open_ledger(settings)
    try:
        return [trial.source.value for trial in ledger.trials(ledger.study(spec.name)) if trial.arm == arm]
    finally:
        ledger.close()


QUICK = {"confirmation": {"max_runs": 0, "references": False}, "budget": {"trials_per_arm": 6}}


class TestRecipes:
    def test_are_tried_at_the_rate_for_the_batch(self) -> None:
        sgdm = digits(known_recipes=["resnet-50", "vit-b-16"]).space.arm("sgdm")
        assert [s.hyperparameters["learning_rate"] for s in sgdm.initial_settings] == [0.1, 0.0125]
        assert "batch of 32 instead of 256" in sgdm.origins[sgdm.initial_settings[1].fingerprint]
        assert sgdm.source_of(sgdm.initial_settings[1]) is Source.PUBLISHED

    def test_the_batch_is_that_of_a_step(self) -> None:
        spec = digits(known_recipes="resnet-50", training={"accumulation": 4})
        assert spec.space.arm("sgdm").initial_settings[1].hyperparameters["learning_rate"] == 0.05

    def test_the_nearest_ones_of_each_family(self) -> None:
        spec = digits(known_recipes="nearest")
        assert [one.family for one in spec.initial_settings] == ["sgdm", "sgdm", "adamw"]
        assert spec.initial_settings[0].origin.startswith("recipe resnet-cifar")
        assert spec.known_recipes == ("nearest",)
        assert all(arm.encode(setting) for arm in spec.arms for setting in arm.initial_settings)

    def test_the_nearest_ones_need_a_model_to_look_at(self) -> None:
        spec = make_study(known_recipes="nearest")
        with pytest.raises(WorkloadError, match=r"is a function.*tuner recipes --for TASK"):
            resolve(spec, lambda run: None)

    def test_what_the_workload_does_not_take_is_left_out(self) -> None:
        (one,) = toy(known_recipes=["swin-t"]).initial_settings
        assert "without label_smoothing" in one.origin
        (one,) = resolve(make_study(known_recipes=["swin-t"]), lambda run: None).initial_settings
        assert "without label_smoothing" in one.origin

    def test_an_unknown_name(self) -> None:
        with pytest.raises(InputError, match=r"known_recipes: recipe is 'resnet50'.*Did you mean 'resnet-50'"):
            make_spec(known_recipes=["resnet50"])
        with pytest.raises(InputError, match="names 'yolov3' twice"):
            make_spec(known_recipes=["yolov3", "yolov3"])

    def test_go_through_the_ledger(self, settings: Settings) -> None:
        spec = digits(known_recipes=["resnet-50", "nearest"])
        assert bootstrap.create(spec, settings).initial_settings == spec.initial_settings
        assert stored_spec(json.loads(json.dumps(spec.to_json())), spec.name) == spec

    def test_a_study_without_them_is_stored_as_ever(self) -> None:
        assert not {"known_recipes", "warm_start", "initial_settings"} & set(make_spec().to_json())


class TestWarmStart:
    def test_the_best_of_earlier_studies_come_first(self, settings: Settings) -> None:
        run(toy("first", **QUICK), settings)
        stored = run(toy("second", warm_start="first", **QUICK), settings)
        assert len(stored.initial_settings) == 6
        for arm in ("sgdm", "adamw"):
            assert sources(stored, settings, arm)[:3] == ["default", "earlier", "earlier"]
        assert stored.initial_settings[0].origin.startswith("study first, adamw trial ")

    def test_the_study_keeps_what_it_started_from(self, settings: Settings) -> None:
        first = run(toy("first", **QUICK), settings)
        asked = toy("second", warm_start=["first"], **QUICK)
        stored = bootstrap.create(asked, settings)
        with bootstrap.session(stored, settings) as session:
            session.study.ask()  # a driver that dies here
        bootstrap.update(workflow.extend(first, trials=6), settings)
        run(workflow.extend(first, trials=6), settings)
        again = bootstrap.create(asked, settings)
        assert (
            again.initial_settings == stored.initial_settings == bootstrap.stored("second", settings).initial_settings
        )
        run(asked, settings)
        assert sources(asked, settings, "sgdm").count("earlier") == 2

    def test_it_is_another_question_to_start_from_elsewhere(self, settings: Settings) -> None:
        run(toy("first", **QUICK), settings)
        run(toy("second", warm_start="first", **QUICK), settings)
        with pytest.raises(StudyExists):
            bootstrap.create(toy("second", **QUICK), settings)

    def test_another_workload_is_allowed_and_said(self, settings: Settings) -> None:
        run(toy("first", **QUICK), settings)
        spec = bootstrap.foreseen(
            digits(warm_start="first", metric={"name": "loss", "direction": "minimize"}), settings
        )
        assert all(one.origin.endswith(f"on {TOY}") for one in spec.initial_settings)
        assert len(spec.space.arm("sgdm").earlier) == 3

    def test_an_unknown_study_lists_what_is_there(self, settings: Settings) -> None:
        run(toy("first", **QUICK), settings)
        with pytest.raises(StudyNotFound, match=r"study 'frist' is not in .*; it holds: first\."):
            bootstrap.create(toy("second", warm_start="frist", **QUICK), settings)
        assert [row.name for row in bootstrap.open_ledger(settings).studies()] == ["first"]

    def test_the_other_direction_is_refused(self, settings: Settings) -> None:
        run(toy("first", **QUICK), settings)
        with pytest.raises(InputError, match=r"'first', which has to minimize loss; expected one that has to maximize"):
            bootstrap.create(digits(study="second", warm_start="first"), settings)

    def test_nothing_to_start_from_is_refused(self, settings: Settings) -> None:
        run(toy("first", arms=["sgdm"], **QUICK), settings)
        with pytest.raises(InputError, match=r"no trial of adamw over its full horizon of 4 steps; its arms are sgdm"):
            bootstrap.create(toy("second", arms=["adamw"], warm_start="first", **QUICK), settings)

    def test_no_database_yet(self, settings: Settings, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="warm_start names first, but"):
            bootstrap.foreseen(toy("second", warm_start="first"), settings)
        assert not (tmp_path / "a.db").exists()

    def test_itself_is_refused(self) -> None:
        with pytest.raises(InputError, match="warm_start names 'toy', this study itself"):
            make_spec(warm_start="toy")
