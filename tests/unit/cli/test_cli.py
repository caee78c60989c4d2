"""The verbs, in this process, over a small study that trains in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import STUDY, tuner

from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import SCHEDULES


@pytest.fixture(autouse=True)
def folder(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNER_TRACKING", "none")
    monkeypatch.setenv("COLUMNS", "160")
    (working_folder / "study.yaml").write_text(STUDY)
    return working_folder


def test_a_study_from_its_file_to_its_recommendation(folder: Path) -> None:
    assert "No study yet" in tuner("list").output
    done = tuner("run study.yaml").output
    assert "finished" in done
    assert "Files: studies/toy/recommendation.md" in done
    assert sorted(p.name for p in (folder / "studies" / "toy").iterdir() if p.is_file()) == [
        "learning_curves.png",
        "recommendation.json",
        "recommendation.md",
        "report.html",
        "values_by_arm.png",
    ]
    listed = tuner("list").output
    assert "toy" in listed
    assert "finished" in listed
    status = tuner("status toy").output
    assert "state: finished" in status
    assert "driven by: nobody" in status
    assert "2/2" in status
    assert "go on with" not in status
    data = json.loads(tuner("recommend toy --json").stdout)
    assert data["schema_version"] == 1
    assert "toy" in tuner("recommend toy").output
    written = tuner("report toy --out elsewhere").output.split()
    assert [Path(line).name for line in written][:2] == ["report.html", "recommendation.json"]
    assert (folder / "elsewhere" / "report.html").read_text().startswith("<!doctype html>")
    again = tuner("resume toy").output
    assert "Files: studies/toy/recommendation.md" in again
    extended = tuner("extend toy --trials 1").output
    assert "3/3" in extended
    assert "3/3" in tuner("status toy").output
    assert json.loads(tuner("recommend toy --json").stdout)["schema_version"] == 1


def test_a_failing_study_is_exit_code_1_with_the_users_traceback(folder: Path) -> None:
    workload = "workload: {path: 'tuner.training.workloads.toy:ToyQuadratic', options: {fail_at: 2}}"
    text = STUDY.replace("workload: tuner.training.workloads.toy:ToyQuadratic", workload)
    (folder / "study.yaml").write_text(text)
    output = tuner("run study.yaml", code=1).output
    assert "3 runs in a row failed in the user's code" in output
    assert "the toy fails at update 2" in output
    status = tuner("status toy").output
    assert "state: stopped" in status
    assert "go on with: tuner resume toy" in status


def test_a_stopped_study_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from tuner.study import Study

    tell = Study.tell

    def telling(self: Study, *args: object) -> None:
        tell(self, *args)  # type: ignore[arg-type]
        self.stop("interrupted")

    monkeypatch.setattr(Study, "tell", telling)
    assert "Go on with: tuner resume toy" in tuner("run study.yaml", code=130).output
    monkeypatch.setattr(Study, "tell", tell)
    assert "1/2" in tuner("status toy").output
    assert "finished" in tuner("resume toy").output


def test_check_writes_nothing(folder: Path) -> None:
    output = tuner("check study.yaml --no-timing").output
    for word in ("Study toy: minimize loss", "2 trials per arm", "effective_learning_rate", "Sobol", "fresh seeds"):
        assert word in output
    assert "Cost" not in output
    assert "Cost on this machine" in tuner("check study.yaml").output
    assert [p.name for p in folder.iterdir()] == ["study.yaml"]


def test_tables() -> None:
    verbs = ("optimizers --no-measure", "schedules", "spaces")
    families, schedules, spaces = (tuner(verb).output for verb in verbs)
    assert all(name in families for name in FAMILIES)
    assert all(name in schedules for name in SCHEDULES)
    assert all(name in spaces for name in ("quick", "sgdm-vs-adam", "five-families"))
    for name, row in FAMILIES.items():
        page = tuner(f"optimizers {name} --no-measure").output
        assert all(h.name in page for h in row.hyperparameters)
    for name, kind in SCHEDULES.items():
        page = tuner(f"schedules {name}").output
        assert all(p.name in page for p in kind.parameters)
    for name in ("quick", "sgdm-vs-adam", "five-families"):
        assert "schedule.kind" in tuner(f"spaces {name}").output


def test_an_optimizers_cost_is_measured() -> None:
    assert "8 bytes of state per parameter, a step costs " in tuner("optimizers adamw").output


def test_schedules_are_drawn(folder: Path) -> None:
    assert "horizon" in tuner("schedules cosine --plot").output
    assert "Drawn: c.png" in tuner("schedules cosine --plot-file c.png").output
    assert (folder / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "expected a name that ends in .png or .svg" in tuner("schedules --plot-file c.gif", code=2).output


def test_options_win_over_the_file_and_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_STORAGE", "sqlite:///environment.db")
    (folder / "study.yaml").write_text(STUDY + "storage: sqlite:///file.db\nconfirmation: {max_runs: 0}\n")
    text = (folder / "study.yaml").read_text().replace("confirmation: {seeds: 2}\n", "")
    (folder / "study.yaml").write_text(text)
    tuner("run study.yaml --storage sqlite:///option.db")
    assert (folder / "option.db").exists()
    tuner("run study.yaml")
    assert (folder / "file.db").exists()
    assert not (folder / "environment.db").exists()
    assert "toy" in tuner("list --storage sqlite:///file.db").output


def test_a_file_with_its_keys_in_another_order_is_the_same_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on is the stored question, with its order of dimensions: the Sobol points depend on it."""
    from tuner.storage.ledger import Ledger
    from tuner.study import Study

    text = STUDY.replace("space: quick", "space: mine.yaml").replace("arms: [sgdm, adamw]\n", "")
    (folder / "study.yaml").write_text(text.replace("trials_per_arm: 2", "trials_per_arm: 4"))
    rate, momentum = "learning_rate: {low: 0.1, high: 1}", "momentum: {low: 0, high: 0.95}"
    one, two = (f"name: s\narms: {{sgdm: {{{a}, {b}}}}}\n" for a, b in ((rate, momentum), (momentum, rate)))
    (folder / "mine.yaml").write_text(one)
    tuner("run study.yaml --storage sqlite:///whole.db")
    tell = Study.tell

    def telling(self: Study, *args: object) -> None:
        tell(self, *args)  # type: ignore[arg-type]
        self.stop("interrupted")

    monkeypatch.setattr(Study, "tell", telling)
    tuner("run study.yaml", code=130)
    monkeypatch.setattr(Study, "tell", tell)
    (folder / "mine.yaml").write_text(two)
    tuner("run study.yaml")
    found = []
    for name in ("whole.db", "tuner.db"):
        ledger = Ledger(f"sqlite:///{name}")
        found.append(ledger.trials(ledger.study("toy")))
        ledger.close()
    assert found[0] == found[1]
