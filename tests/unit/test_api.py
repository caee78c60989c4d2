"""The Python API with the executor of this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tuner
from tuner.core.errors import InputError, NoEvidence, StudyExists, StudyNotFound, StudyStopped, WorkloadError
from tuner.training.workloads.toy import ToyQuadratic


@pytest.fixture(autouse=True)
def folder(working_folder: Path) -> Path:
    return working_folder


def launch(workload: Any = ToyQuadratic, **changes: Any) -> tuner.StudyHandle:
    given = {
        "horizon": {"steps": 4},
        "space": "quick",
        "arms": ["sgdm", "adamw"],
        "trials_per_arm": 2,
        "confirmation": {"max_runs": 0},
        "executor": "local",
        "tracking": "none",
    }
    return tuner.launch(workload, **{**given, **changes})


def test_five_lines() -> None:
    study = launch(name="mine")
    assert study.wait(120)
    assert not study.running
    assert repr(study) == "<study 'mine'>"
    snapshot = study.snapshot()
    assert snapshot is not None
    assert (snapshot.phase, len(snapshot.runs)) == ("finished", 4)
    recommendation = study.recommend()
    assert recommendation.setting.family in ("sgdm", "adamw")
    again = tuner.open_study("mine")
    assert again.recommend().to_json() == recommendation.to_json()
    assert recommendation.sentence in again._repr_markdown_()
    assert again.snapshot() is None
    assert again.wait()


def test_the_same_arguments_go_on_and_others_are_refused() -> None:
    assert launch().wait(120)
    assert launch("tuner.training.workloads.toy:ToyQuadratic", name="toyquadratic").wait(120)
    with pytest.raises(StudyExists, match="'toyquadratic'"):
        launch(seed=3)


def test_resume_and_extend() -> None:
    study = launch(name="mine")
    assert study.wait(120)
    assert study.resume().wait(120)
    assert study.extend(trials=1).wait(120)
    snapshot = study.snapshot()
    assert snapshot is not None
    assert len(snapshot.runs) == 6


def test_options_of_the_workload() -> None:
    study = launch(name="mine", options={"diverge_above": 1e-9})
    assert study.wait(120)
    snapshot = study.snapshot()
    assert snapshot is not None
    assert {run.outcome for run in snapshot.runs} == {"diverged"}


def test_errors_in_the_study_reach_the_caller() -> None:
    workload = {"path": "tuner.training.workloads.toy:ToyQuadratic"}
    study = launch(f"{workload['path']}", name="a", stop_after_failures=1, metric="nosuch", direction="minimize")
    with pytest.raises(StudyStopped, match="nosuch"):
        study.wait(120)
    assert not study.wait(1), "it is not finished"
    with pytest.raises(NoEvidence):
        study.recommend()
    assert study._repr_markdown_()


@pytest.mark.parametrize(
    ("workload", "changes", "says"),
    [
        (3, {}, r"launch\(\): workload is 3; expected 'module:attribute'"),
        (lambda run: None, {}, r"launch\(\): workload is a lambda; expected 'module:attribute'"),
        ("nosuch:Thing", {}, "has no module 'nosuch'"),
        ("nocolon", {}, r"launch\(\): workload is 'nocolon'; expected 'module:attribute'"),
        (ToyQuadratic, {"trials_per_arm": 0}, r"launch\(\): budget.trials_per_arm is 0"),
        (ToyQuadratic, {"trails": 3}, r"launch\(\): trails is not a key here"),
        (ToyQuadratic, {"horizon": {"steps": -1}}, r"launch\(\): horizon.steps is -1"),
        (ToyQuadratic, {"name": "a b"}, r"launch\(\): study is 'a b'"),
        (ToyQuadratic, {"current": {"family": "lyon"}}, r"launch\(\): current.family is 'lyon'"),
        (ToyQuadratic, {"metric": "loss", "direction": "up"}, r"launch\(\): metric.direction is 'up'"),
        (ToyQuadratic, {"space": {"name": "s"}}, r"launch\(\): space.arms is missing"),
    ],
)
def test_wrong_arguments_write_nothing(folder: Path, workload: Any, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        launch(workload, **changes)
    assert list(folder.iterdir()) == []


def test_a_local_workload_is_refused() -> None:
    class Mine(ToyQuadratic):
        pass

    with pytest.raises((InputError, WorkloadError), match="local to a function"):
        launch(Mine)


def test_a_study_that_is_not_there(folder: Path) -> None:
    with pytest.raises(tuner.TunerError, match="no tables of tuner"):
        tuner.open_study("nosuch")
    assert list(folder.iterdir()) == []
    assert launch(name="a").wait(120)
    with pytest.raises(StudyNotFound, match="it holds: a"):
        tuner.open_study("nosuch")


class TestAnalyze:
    """Runs that others made, from Python."""

    @staticmethod
    def table(folder: Path) -> Path:
        head = "run_id,study,arm,seed,phase,outcome,direction,value,param.lr"
        rows = [
            f"{study}-{arm}{seed},{study},{arm},{seed},{phase},completed,maximize,{level + 0.001 * seed},0.1"
            for study in ("one", "two")
            for arm, level in (("a", 0.9), ("b", 0.5))
            for seed, phase in enumerate(["explore", *["confirm"] * 10])
        ]
        rows.append("three-a0,three,a,0,explore,diverged,maximize,,0.1")
        path = folder / "runs.csv"
        path.write_text("\n".join([head, *rows]) + "\n")
        return path

    def test_one_answer_for_each_study_that_has_one(self, folder: Path) -> None:
        found = tuner.analyze(self.table(folder), alpha=0.1, min_effect=0.01)
        assert [(one.evidence.study, one.verdict.arm, one.evidence.alpha) for one in found] == [
            ("one", "a", 0.1),
            ("two", "a", 0.1),
        ]
        assert "one" in found[0].html()

    def test_no_answer_at_all(self, folder: Path) -> None:
        path = folder / "runs.csv"
        path.write_text("run_id,arm,seed,phase,outcome,direction,value\na,a,0,explore,diverged,maximize,\n")
        with pytest.raises(NoEvidence, match=r"runs.csv: .*no completed run to recommend from; of 1 runs: 1 diverged"):
            tuner.analyze(str(path))

    @pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 0.6}, {"min_effect": -1.0}])
    def test_wrong_ones(self, folder: Path, wrong: dict[str, float]) -> None:
        with pytest.raises(InputError, match=r"analyze\(\): (alpha|min_effect) is .*; expected a number"):
            tuner.analyze(self.table(folder), **wrong)
