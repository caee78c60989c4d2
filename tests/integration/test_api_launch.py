"""The Python API from end to end, in this process, on both executors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tuner
from tuner.core.errors import InputError, StudyExists, StudyStopped, WorkloadError

EXECUTORS = ["local", pytest.param("ray", marks=pytest.mark.ray)]
TOY = "tuner.training.workloads.toy:ToyQuadratic"

MODULE = '''
import torch

def train(run):
    """A loop of one's own."""
    model = torch.nn.Linear(4, 1)
    optimizer = run.optimizer(model)
    x = torch.randn(32, 4)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 3.0])
    total = run.total_steps(steps_per_epoch=8)
    for step in range(total):
        optimizer.apply(run.schedule.multipliers(step, total))
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x).squeeze(-1), y)
        loss.backward()
        optimizer.step()
        if (step + 1) % 8 == 0:
            run.report(step=step + 1, loss=loss.item())

def broken(run):
    raise RuntimeError("as it was told to")
'''


@pytest.fixture(autouse=True)
def here(working_folder: Path) -> Iterator[Path]:
    (working_folder / "my_loop.py").write_text(MODULE)
    before = list(sys.path)
    yield working_folder
    sys.path[:] = before
    sys.modules.pop("my_loop", None)


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray_cluster")
    return str(request.param)


def few(**more: Any) -> dict[str, Any]:
    quick = {"space": "quick", "arms": ["sgdm", "adamw"], "tracking": "none", "trials_per_arm": 2}
    confirmation = {"seeds": 2, "references": False, "noise_seeds": 0}
    return {**quick, "confirmation": confirmation, "resources": {"device": "cpu", "parallel": 1}, **more}


def test_five_lines(executor: str, here: Path) -> None:
    model = torch.nn.Linear(8, 1)
    study = tuner.launch(workload=TOY, horizon={"steps": 32}, executor=executor, **few())
    assert study.wait()
    rec = study.recommend()
    optimizer, schedule = rec.build(model, total_steps=20)
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.ones(1, 8)).sum().backward()
        optimizer.step()
        schedule.step()
    assert schedule.last_epoch == 20
    assert rec.verdict.kind
    assert study.name == "toyquadratic"
    assert not study.running
    assert (here / "studies" / study.name / "recommendation.json").is_file()
    assert tuner.open_study(study.name).recommend().to_json() == rec.to_json()


def test_a_plain_function(executor: str) -> None:
    wanted = few(metric="loss", direction="minimize", horizon={"epochs": 4}, fidelity="full")
    study = tuner.launch(workload="my_loop:train", executor=executor, **wanted)
    assert study.wait()
    snapshot = study.snapshot()
    assert snapshot is not None
    assert {run.outcome.value for run in snapshot.runs if run.outcome} == {"completed"}
    assert len(snapshot.runs) == 9
    assert study.recommend().setting.family in ("sgdm", "adamw")


def test_the_same_launch_goes_on_and_another_is_refused() -> None:
    wanted = few(name="same", horizon={"steps": 32}, executor="local")
    study = tuner.launch(workload=TOY, **wanted)
    study.stop()
    study.wait()
    study = tuner.launch(workload=TOY, **wanted)
    assert study.wait()
    snapshot = study.snapshot()
    assert snapshot is not None
    assert len(snapshot.runs) == 9
    with pytest.raises(StudyExists, match="with other settings"):
        tuner.launch(workload=TOY, **{**wanted, "trials_per_arm": 3})


def test_a_bug_in_the_users_code_stops_the_study_and_says_so(executor: str) -> None:
    wanted = few(metric="loss", direction="minimize", horizon={"epochs": 4}, trials_per_arm=6)
    study = tuner.launch(workload="my_loop:broken", executor=executor, **wanted)
    with pytest.raises(StudyStopped, match="3 runs in a row failed") as caught:
        study.wait()
    assert "RuntimeError: as it was told to" in str(caught.value)
    assert "my_loop.py" in str(caught.value)
    snapshot = study.snapshot()
    assert snapshot is not None
    assert [run.outcome.value for run in snapshot.runs if run.outcome] == ["failed"] * 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"workload": 3}, WorkloadError, "workload is 3"),
        ({"workload": "no_module_of_this_name:X"}, WorkloadError, "has no module"),
        ({"workload": "my_loop:train", "horizon": {"epochs": 1}}, InputError, "metric is missing"),
        ({"workload": "my_loop:train", "metric": "loss", "direction": "minimize"}, InputError, "horizon is missing"),
        ({"workload": TOY, "horizon": {"steps": 8}, "seeed": 1}, InputError, "seeed"),
    ],
)
def test_wrong_arguments_write_nothing(
    arguments: dict[str, Any], error: type[Exception], message: str, here: Path
) -> None:
    with pytest.raises(error, match=message):
        tuner.launch(**{**few(), **arguments})
    assert not (here / "tuner.db").exists()
