"""A study, its exported tables and its mirror give the same answer; so does an MLflow experiment of another program."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import command_line
import pytest

from tuner.tracking.mlflow_client import connect

STUDY = """\
study: toy
workload: tuner.training.workloads.toy:ToyQuadratic
horizon: {steps: 8}
space: quick
arms: [sgdm, adamw]
budget: {trials_per_arm: 3}
confirmation: {seeds: 6, references: false, test: false}
executor: local
"""
MAPPING = """\
arm: params.optimizer
value: metrics.val_acc
direction: maximize
phase: tags.stage
params: [params.lr]
schedule: cosine
"""


@pytest.fixture(autouse=True)
def folder(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNER_TRACKING", "none")
    (working_folder / "study.yaml").write_text(STUDY)
    (working_folder / "map.yaml").write_text(MAPPING)
    return working_folder


def tuner(*command: str, code: int = 0) -> str:
    return command_line.tuner(*command, code=code).output


def answer(*command: str) -> dict[str, Any]:
    (study,) = json.loads(tuner("analyze --json", *command))["studies"]
    return dict(study)


def what_matters(study: dict[str, Any]) -> Any:
    finalists = {arm["arm"]: arm["best_params"] for arm in study["arms"]}
    differences = [(pair["a"], float(f"{pair['difference']:.10g}"), pair["n_pairs"]) for pair in study["pairs"]]
    return study["study"], study["verdict"]["kind"], study["verdict"]["arm"], finalists, differences


def sorted_pairs(study: dict[str, Any]) -> dict[str, Any]:
    """Order each pair by name: a study has the arms in the space's order, a recording by name."""
    for pair in study["pairs"]:
        if pair["a"] > pair["b"]:
            pair |= {"a": pair["b"], "b": pair["a"], "difference": -pair["difference"]}
    return study


@pytest.mark.mlflow
def test_a_study_of_ours_its_tables_and_its_mirror_agree() -> None:
    tuner("run study.yaml")
    (ours,) = json.loads(tuner("recommend toy --json"))["studies"]
    wanted = what_matters(sorted_pairs(ours))
    assert wanted[1] == "winner"
    assert "runs of study toy to r.csv.gz" in tuner("export-runs toy --runs r.csv.gz --curves c.csv.gz")
    tables = answer("--runs r.csv.gz --curves c.csv.gz")
    assert what_matters(tables) == wanted
    assert tables["min_effect"] == pytest.approx(ours["min_effect"])
    store = "sqlite:///mlflow.db"
    tuner(f"mirror toy --tracking {store}")
    for name in ("tuner", "tuner/toy"):
        mirrored = answer(f"--mlflow-experiment {name} --tracking {store}")
        assert what_matters(mirrored) == wanted


@pytest.mark.mlflow
def test_an_experiment_of_somebody_else() -> None:
    store = "sqlite:///mlflow.db"
    client = connect(store)
    experiment = client.create_experiment("theirs")
    for arm, base in (("mine", 0.9), ("adamw", 0.8)):
        for seed in range(8):
            log(client, experiment, arm, seed, [base / 2, base + seed / 1000])
    log(client, experiment, "adamw", 8, [0.5, float("nan")])
    client.create_run(experiment, tags={"stage": "confirm"})  # a parent that trained nothing, still running
    theirs = f"--mlflow-experiment theirs --tracking {store}"
    study = answer(theirs, "--mapping map.yaml --min-effect 0.01")
    assert (study["study"], study["metric"], study["verdict"]["arm"]) == ("theirs", "val_acc", "mine")
    assert study["pairs"][0]["n_pairs"] == 8
    assert {arm["arm"]: arm["n_diverged"] for arm in study["arms"]} == {"mine": 0, "adamw": 1}
    assert study["recommended"]["params"] == {"lr": 0.1}
    assert "was not written by tuner; expected a mapping" in tuner("analyze", theirs, code=2)
    assert "has no experiment 'nosuch'; expected one of: Default, theirs" in tuner(
        f"analyze --mlflow-experiment nosuch --tracking {store}", code=2
    )
    log(client, experiment, "adamw", 0, [0.1, 0.2])
    message = tuner("analyze", theirs, "--mapping map.yaml", code=2)
    assert "MLflow experiment 'theirs', run " in message
    assert "seed is 0, and arm, schedule, params, phase and seed are those of" in message


def log(client: Any, experiment: str, arm: str, seed: int, values: list[float]) -> None:
    run = client.create_run(experiment, tags={"stage": "confirm"}).info.run_id
    for name, value in (("optimizer", arm), ("seed", seed), ("lr", 0.1), ("unused", "x")):
        client.log_param(run, name, value)
    for step, value in enumerate(values):
        client.log_metric(run, "val_acc", value, step=step)
    client.set_terminated(run)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("arm: params.o\nvalue: metrics.v\n", "map.yaml:1: direction is missing"),
        ("arm: [a]\nvalue: metrics.v\n", "map.yaml:1: arm is ['a']; expected a text, such as params.lr"),
        (MAPPING + "horizont: 3\n", "Did you mean 'horizon'"),
        (MAPPING.replace("[params.lr]", "[lr]"), "map.yaml:5: params is ['lr']; expected a list such as"),
    ],
)
def test_a_wrong_mapping(folder: Path, mapping: str, message: str) -> None:
    (folder / "map.yaml").write_text(mapping)
    assert message in tuner("analyze --mlflow-experiment x --mapping map.yaml --tracking sqlite:///m.db", code=2)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "are both missing; expected one of them"),
        ("--runs r.csv --mlflow-experiment x", "are both given; expected one of them"),
        ("--mlflow-experiment x --curves c.csv", "--curves is given without --runs"),
        ("--runs r.csv --mapping map.yaml", "--mapping and --tracking are given without an experiment"),
        ("--mlflow-experiment x", "tracking is 'none'"),
        ("--runs nosuch.csv", "nosuch.csv: there is no such file"),
    ],
)
def test_what_does_not_belong_together(command: str, message: str) -> None:
    assert message in tuner(f"analyze {command}", code=2)


def test_cards_say_what_to_record_next(folder: Path) -> None:
    rows = ["run_id,study,arm,seed,phase,outcome,direction,value"]
    for study, (arm, value), i in product("pq", (("x", 1), ("y", 5)), range(7)):
        rows.append(f"{study}{arm}{i},{study},{arm},{i},confirm,,minimize,{value + i / 99}")
    rows += ["lone,r,x,1,explore,diverged,minimize,"]
    (folder / "runs.csv").write_text("\n".join(rows))
    shown = tuner("analyze --runs runs.csv")
    assert "p: x is better" in shown
    assert "q: x is better" in shown
    assert "r: nothing to recommend" in shown
    assert "tuner resume" not in shown
    assert "tuner extend" not in shown


def test_nothing_to_export() -> None:
    tuner("export-runs toy --runs r.csv", code=2)
