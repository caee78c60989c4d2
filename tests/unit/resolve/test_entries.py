"""A study's entry in the ledger: made, found again, compared, and brought up from older versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from analysis.records import make_study

from tuner import bootstrap, workflow
from tuner.config import study_file
from tuner.config.documents import Section
from tuner.config.spec import StudyFile
from tuner.config.written import WrittenSpace
from tuner.core.errors import StudyExists
from tuner.core.records import RunSpec
from tuner.core.settings import Settings
from tuner.resolve.asked import resolve

TOY = "tuner.training.workloads.toy:ToyQuadratic"


def toy(**changes: Any) -> StudyFile:
    return make_study(**{"workload": TOY, "executor": "local", "space": "quick", "metric": None, **changes})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(f"sqlite:///{tmp_path}/a.db", "none", tmp_path / "studies")


def aged(spec: dict[str, Any]) -> dict[str, Any]:
    """What the first commits stored: no training, the precision among the resources, plain warm-ups."""
    old = {key: value for key, value in spec.items() if key not in ("version", "training", "workload_training")}
    return {**old, "resources": {**spec["resources"], "precision": "float32"}}


class TestStudiesFromBeforeTheTrainingOptions:
    """They clip as they did, and 'tuner run' finds them again."""

    def test_keep_what_their_workload_takes_for_granted(self, settings: Settings) -> None:
        chars = "tuner.training.workloads.chars:CharTransformer"
        spec = resolve(toy(workload=chars, current={"family": "adamw"}))
        ledger = bootstrap.open_ledger(settings, migrate=True)
        ledger.create(spec.name, aged(spec.to_json()))
        ledger.close()
        resumed = bootstrap.stored(spec.name, settings)
        for arm in resumed.arms:
            assert arm.default.training["clip_norm"] == 1.0
            assert arm.decode({d.name: d.at(0.5) for d in arm.dimensions}).training["clip_norm"] == 1.0
        assert bootstrap.create(spec, settings).to_json() == spec.to_json()

    def test_runs_read_back_with_their_precision(self) -> None:
        old = {"study": "s", "arm": "a", "trial": 0, "phase": "explore", "seed": 1, "metric": "loss"}
        old |= {"horizon": {"amount": 1, "unit": "steps"}, "direction": "minimize", "precision": "bfloat16"}
        old |= {"setting": {"family": "sgd", "hyperparameters": {}, "schedule": {"kind": "constant"}}}
        run = RunSpec.from_json({**old, "workload": {"path": TOY}})
        assert run.setting.training == {"precision": "bfloat16"}


class TestStudiesFromBeforeTheLadder:
    """They had no fidelity and no allocation: every run was a full one."""

    def test_are_found_again_and_go_on_in_full(self, settings: Settings) -> None:
        spec = resolve(toy(sampler="tpe", horizon={"steps": 450}))
        old = {key: value for key, value in spec.to_json().items() if key not in ("version", "fidelity", "allocation")}
        ledger = bootstrap.open_ledger(settings, migrate=True)
        ledger.create(spec.name, old)
        ledger.close()
        stored = bootstrap.stored(spec.name, settings)
        assert (stored.fidelity.kind, stored.allocation, stored.sampler) == ("full", "compare", "tpe")
        with bootstrap.session(stored, settings) as session:
            assert session.study.ask().spec.horizon == stored.horizon
        assert bootstrap.create(spec, settings) == stored
        with pytest.raises(StudyExists, match="other settings"):
            bootstrap.create(resolve(toy(horizon={"steps": 450})), settings)


def test_a_new_study_is_read_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    spaces: list[str] = []
    reading = study_file.read_written

    def counted(section: Section, near: Path | None = None) -> WrittenSpace:
        spaces.append(section.source)
        return reading(section, near)

    monkeypatch.setattr(study_file, "read_written", counted)
    chars = "tuner.training.workloads.chars:CharTransformer"
    spec = resolve(toy(workload=chars, known_recipes=["nanogpt-char"], current={"family": "adamw"}))
    spec = workflow.extend(bootstrap.create(spec, settings), trials=2, arm="lion")
    bootstrap.update(spec, settings)
    assert len(spaces) == 1
    assert bootstrap.stored(spec.name, settings) == spec
    assert spaces[1:] == [f"study {spec.name!r} in the database"], "a stored one is read where it comes back"


class TestCreate:
    def test_the_same_question_is_the_same_study(self, settings: Settings) -> None:
        spec = resolve(toy())
        assert bootstrap.create(spec, settings) == bootstrap.create(spec, settings)

    def test_another_question_needs_another_name(self, settings: Settings) -> None:
        spec = resolve(toy())
        bootstrap.create(spec, settings)
        with bootstrap.session(spec, settings) as session:
            session.study.ask()
        with pytest.raises(StudyExists, match="other settings; expected the same ones, or a new name"):
            bootstrap.create(resolve(toy(seed=1)), settings)

    def test_the_stored_order_of_dimensions_wins(self, settings: Settings) -> None:
        arm = {"learning_rate": {"low": 0.1, "high": 1.0}, "momentum": {"low": 0.0, "high": 0.9}}
        one, two = (
            resolve(toy(space={"name": "s", "arms": {"sgdm": dict(items)}}, arms=("sgdm",)))
            for items in (list(arm.items()), list(arm.items())[::-1])
        )
        assert one.arms[0].dimensions != two.arms[0].dimensions
        bootstrap.create(one, settings)
        assert bootstrap.create(two, settings).arms == one.arms

    def test_before_the_first_run_the_question_may_change(self, settings: Settings) -> None:
        bootstrap.create(resolve(toy()), settings)
        assert bootstrap.create(resolve(toy(seed=1)), settings).seed == 1

    def test_how_runs_are_placed_may_change(self, settings: Settings) -> None:
        spec = resolve(toy())
        bootstrap.create(spec, settings)
        with bootstrap.session(spec, settings) as session:
            session.study.ask()
        again = resolve(toy(retries=7, resources={"parallel": 3, "cpus": 2}))
        assert bootstrap.create(again, settings).retries == 7
        with pytest.raises(StudyExists):
            bootstrap.create(resolve(toy(resources={"threads": 2})), settings)
