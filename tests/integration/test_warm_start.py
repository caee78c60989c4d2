"""A study that starts from an earlier one, by the Python API, on both executors."""

from __future__ import annotations

from typing import Any

import pytest

import tuner
from tuner.core.records import Source

TOY = "tuner.training.workloads.toy:ToyQuadratic"
EXECUTORS = ["local", pytest.param("ray", marks=pytest.mark.ray)]

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


def launched(name: str, executor: str, **more: Any) -> list[Any]:
    quick = {"space": "quick", "arms": ["sgdm", "adamw"], "tracking": "none", "trials_per_arm": 6}
    rest = {"confirmation": {"max_runs": 0}, "resources": {"device": "cpu", "parallel": 1}, "horizon": {"steps": 4}}
    study = tuner.launch(workload=TOY, name=name, executor=executor, **quick, **rest, **more)
    assert study.wait()
    snapshot = study.snapshot()
    assert snapshot is not None
    return [trial for trial in snapshot.trials if trial.arm == "sgdm"]


def test_the_best_settings_of_one_study_are_first_in_the_next(executor: str) -> None:
    before = launched("before", executor)
    after = launched("after", executor, warm_start="before", known_recipes=["resnet-50"])
    assert [trial.source for trial in after[:3]] == [Source.DEFAULT, Source.EARLIER, Source.EARLIER]
    tried = [trial.setting for trial in before]
    assert all(trial.setting in tried for trial in after[1:3])
