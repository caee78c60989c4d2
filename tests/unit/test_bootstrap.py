from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from analysis.records import make_spec

from tuner import bootstrap
from tuner.config.spec import StudySpec
from tuner.core.errors import InputError, StudyBusy, StudyExists, WorkloadError
from tuner.core.records import RunSpec
from tuner.core.settings import Settings
from tuner.execution.local import LocalExecutor
from tuner.tracking.null import NullTracker
from tuner.training.workloads import Workload
from tuner.training.workloads.toy import ToyQuadratic

TOY = "tuner.training.workloads.toy:ToyQuadratic"


def toy(**changes: Any) -> StudySpec:
    return make_spec(**{"workload": TOY, "executor": "local", "space": "quick", "metric": None, **changes})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(f"sqlite:///{tmp_path}/a.db", "none", tmp_path / "studies")


class TestResolved:
    def test_takes_from_the_workload_what_the_file_leaves_open(self) -> None:
        spec = bootstrap.resolved(toy())
        assert (spec.metric, spec.direction) == ("loss", "minimize")

    def test_the_file_wins(self) -> None:
        spec = bootstrap.resolved(toy(metric={"name": "error", "direction": "maximize"}))
        assert (spec.metric, spec.direction) == ("error", "maximize")

    def test_the_workloads_own_horizon(self) -> None:
        class Long(ToyQuadratic):
            horizon = {"epochs": 7}  # noqa: RUF012

        assert str(bootstrap.resolved(toy(horizon=None), Long()).horizon) == "7 epochs"

    def test_no_test_split_no_test_run(self) -> None:
        class Blind(ToyQuadratic):
            has_test = False

        assert not bootstrap.resolved(toy(), Blind()).confirmation.test
        assert bootstrap.resolved(toy()).confirmation.test

    def test_functions_cannot_say_metric_or_horizon(self) -> None:
        with pytest.raises(InputError, match="metric is missing"):
            bootstrap.resolved(toy(), lambda run: None)
        with pytest.raises(InputError, match="horizon is missing"):
            bootstrap.resolved(toy(horizon=None))


def aged(spec: dict[str, Any]) -> dict[str, Any]:
    """What the first commits stored: no training, the precision among the resources, plain warm-ups."""
    old = {key: value for key, value in spec.items() if key not in ("training", "workload_training")}
    return {**old, "resources": {**spec["resources"], "precision": "float32"}}


class TestStudiesFromBeforeTheTrainingOptions:
    """They clip as they did, and 'tuner run' finds them again."""

    def test_keep_what_their_workload_takes_for_granted(self, settings: Settings) -> None:
        chars = "tuner.training.workloads.chars:CharTransformer"
        spec = bootstrap.resolved(toy(workload=chars, current={"family": "adamw"}))
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
        spec = bootstrap.resolved(toy(sampler="tpe", horizon={"steps": 450}))
        old = {key: value for key, value in spec.to_json().items() if key not in ("fidelity", "allocation")}
        ledger = bootstrap.open_ledger(settings, migrate=True)
        ledger.create(spec.name, old)
        ledger.close()
        stored = bootstrap.stored(spec.name, settings)
        assert (stored.fidelity.kind, stored.allocation, stored.sampler) == ("full", "compare", "tpe")
        with bootstrap.session(stored, settings) as session:
            assert session.study.ask().spec.horizon == stored.horizon
        assert bootstrap.create(spec, settings) == stored
        with pytest.raises(StudyExists, match="other settings"):
            bootstrap.create(bootstrap.resolved(toy(horizon={"steps": 450})), settings)


class TestCreate:
    def test_the_same_question_is_the_same_study(self, settings: Settings) -> None:
        spec = bootstrap.resolved(toy())
        assert bootstrap.create(spec, settings) == bootstrap.create(spec, settings)

    def test_another_question_needs_another_name(self, settings: Settings) -> None:
        spec = bootstrap.resolved(toy())
        bootstrap.create(spec, settings)
        with bootstrap.session(spec, settings) as session:
            session.study.ask()
        with pytest.raises(StudyExists, match="other settings; expected the same ones, or a new name"):
            bootstrap.create(bootstrap.resolved(toy(seed=1)), settings)

    def test_the_stored_order_of_dimensions_wins(self, settings: Settings) -> None:
        arm = {"learning_rate": {"low": 0.1, "high": 1.0}, "momentum": {"low": 0.0, "high": 0.9}}
        one, two = (
            bootstrap.resolved(toy(space={"name": "s", "arms": {"sgdm": dict(items)}}, arms=("sgdm",)))
            for items in (list(arm.items()), list(arm.items())[::-1])
        )
        assert one.arms[0].dimensions != two.arms[0].dimensions
        bootstrap.create(one, settings)
        assert bootstrap.create(two, settings).arms == one.arms

    def test_before_the_first_run_the_question_may_change(self, settings: Settings) -> None:
        bootstrap.create(bootstrap.resolved(toy()), settings)
        assert bootstrap.create(bootstrap.resolved(toy(seed=1)), settings).seed == 1

    def test_how_runs_are_placed_may_change(self, settings: Settings) -> None:
        spec = bootstrap.resolved(toy())
        bootstrap.create(spec, settings)
        with bootstrap.session(spec, settings) as session:
            session.study.ask()
        again = bootstrap.resolved(toy(retries=7, resources={"parallel": 3, "cpus": 2}))
        assert bootstrap.create(again, settings).retries == 7
        with pytest.raises(StudyExists):
            bootstrap.create(bootstrap.resolved(toy(resources={"threads": 2})), settings)


class TestSession:
    def test_is_one_at_a_time_and_gives_everything_back(self, settings: Settings) -> None:
        spec = bootstrap.resolved(toy())
        bootstrap.create(spec, settings)
        with bootstrap.session(spec, settings) as session:
            assert isinstance(session.executor, LocalExecutor)
            assert isinstance(session.tracker, NullTracker)
            with pytest.raises(StudyBusy), bootstrap.session(spec, settings):
                raise AssertionError("two drivers")
        assert "tuner-heartbeat" not in [thread.name for thread in threading.enumerate()]
        with pytest.raises(RuntimeError), bootstrap.session(spec, settings):
            raise RuntimeError("a bug")
        with bootstrap.session(spec, settings) as session:
            assert session.lease.epoch == 3

    def test_a_refused_executor_takes_no_lease(self, settings: Settings) -> None:
        spec = toy(workload="__main__:Mine", executor="ray", metric={"name": "loss", "direction": "minimize"})
        bootstrap.create(spec, settings)
        with pytest.raises(WorkloadError), bootstrap.session(spec, settings):
            raise AssertionError("it cannot be driven from here")
        ledger = bootstrap.open_ledger(settings)
        assert ledger.holder(ledger.study(spec.name)) is None
        ledger.close()

    def test_settings_of_the_file_and_the_command_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TUNER_STORAGE", "sqlite:///e.db")
        spec = toy(storage="sqlite:///f.db")
        assert bootstrap.settings_for(spec, None, "none").storage == "sqlite:///f.db"
        assert bootstrap.settings_for(spec, "sqlite:///c.db", "none").storage == "sqlite:///c.db"
        assert bootstrap.settings_for(None, None, "none").storage == "sqlite:///e.db"

    @pytest.mark.parametrize(
        ("storage", "tracking"),
        [
            ("sqlite:///a.db", "sqlite:///./a.db"),
            ("postgresql+psycopg://ann:hunter2@h:5432/db", "postgresql://bob:hunter3@h:5432/db"),
        ],
    )
    def test_one_database_for_both_is_refused(self, storage: str, tracking: str) -> None:
        with pytest.raises(InputError, match="expected two databases") as caught:
            bootstrap.settings_for(None, storage, tracking)
        assert "hunter" not in str(caught.value)


class TestNotebookWorkloads:
    def test_cannot_be_resumed_from_elsewhere(self) -> None:
        with pytest.raises(WorkloadError, match="expected one that a worker can import"):
            bootstrap.make_executor(toy(workload="__main__:Mine", executor="ray"))

    def test_that_hold_what_cannot_be_sent_are_refused_at_once(self) -> None:
        class Locked(ToyQuadratic):
            def __init__(self) -> None:
                super().__init__()
                self.lock = threading.Lock()

        with pytest.raises(WorkloadError, match="cannot be sent to Ray's workers: TypeError"):
            bootstrap.pack(toy(), Locked())
        assert isinstance(bootstrap.pack(toy(), ToyQuadratic()), bytes)
        assert issubclass(ToyQuadratic, Workload)


class TestExamine:
    def test_tells_and_writes_nothing(
        self, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bootstrap, "_examine_ray", lambda address: "two runs at once")
        found = {part: (well, text) for part, well, text in bootstrap.examine(settings)}
        assert found["ledger"] == (True, f"{settings.storage}: not there yet; the first study makes it")
        assert found["mlflow"] == (True, "off")
        assert list(tmp_path.iterdir()) == []

    def test_hides_secrets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bootstrap, "_examine_ray", lambda address: "two runs at once")
        url = "postgresql+psycopg://ann:hunter2@127.0.0.1:1/db"
        found = bootstrap.examine(Settings(url, "http://ann:hunter2@127.0.0.1:1"))
        assert {part: well for part, well, _ in found if part in ("ledger", "mlflow")} == {
            "ledger": False,
            "mlflow": False,
        }
        assert "hunter2" not in str(found)
