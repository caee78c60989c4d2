from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from analysis.records import make_spec, make_study

from tuner import bootstrap
from tuner.config.spec import StudyFile
from tuner.config.study_file import completed
from tuner.core.errors import InputError, StudyBusy, WorkloadError
from tuner.core.settings import Settings
from tuner.execution.local import LocalExecutor
from tuner.resolve.asked import resolve
from tuner.tracking.null import NullTracker

TOY = "tuner.training.workloads.toy:ToyQuadratic"


def toy(**changes: Any) -> StudyFile:
    return make_study(**{"workload": TOY, "executor": "local", "space": "quick", "metric": None, **changes})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(f"sqlite:///{tmp_path}/a.db", "none", tmp_path / "studies")


class TestSession:
    def test_is_one_at_a_time_and_gives_everything_back(self, settings: Settings) -> None:
        spec = resolve(toy())
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
        spec = completed(
            toy(workload="__main__:Mine", executor="ray", metric={"name": "loss", "direction": "minimize"})
        )
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
            bootstrap.make_executor(make_spec(workload="__main__:Mine", executor="ray"))
