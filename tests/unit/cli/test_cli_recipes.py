"""``tuner recipes``, ``tuner suggest``, and what ``tuner check`` says of initial settings."""

from __future__ import annotations

import json
from pathlib import Path

import command_line
import pytest
import yaml
from command_line import tuner

from tuner.config.documents import parse_yaml
from tuner.config.shipped import recipe_names
from tuner.config.study_file import read_study

BUILT_IN = "tuner.training.workloads."
STUDY = command_line.STUDY.replace("trials_per_arm: 2", "trials_per_arm: 4")


@pytest.fixture(autouse=True)
def folder(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNER_TRACKING", "none")
    monkeypatch.setenv("COLUMNS", "200")
    return working_folder


def test_the_book() -> None:
    text = tuner("recipes").output
    assert all(name in text for name in recipe_names())
    few = tuner("recipes --for translation").output
    assert "transformer-base" in few
    assert "resnet-50" not in few
    assert "expected one of" in tuner("recipes --for cooking", code=2).output
    found = json.loads(tuner("recipes --for detection", "--json").output)
    assert "mask-rcnn" in [recipe["name"] for recipe in found]


@pytest.mark.parametrize("name", recipe_names())
def test_one_recipe_with_yaml_that_is_read(name: str) -> None:
    text = tuner(f"recipes {name}").output
    assert f"known_recipes: [{name}]" in text
    pasted = parse_yaml(text[text.index("current:\n") :], "pasted")
    start = {"study": "s", "workload": "a.b:c", "space": "quick", **pasted.data}
    current = read_study(parse_yaml(yaml.safe_dump(start), "study")).current
    assert current is not None
    assert f"{current.hyperparameters['learning_rate']:g}"[:4] in text


def test_an_unknown_recipe() -> None:
    assert "Did you mean 'yolov3'" in tuner("recipes yolo3", code=2).output


@pytest.mark.parametrize(
    ("workload", "nearest"),
    [("digits:DigitsCNN", "resnet-cifar"), ("gan:DigitsGAN", "wgan-gp"), ("tabular:TabularMLP", "mlp-sklearn")],
)
def test_what_is_suggested_runs_through_check(workload: str, nearest: str, folder: Path) -> None:
    text = tuner(f"suggest {BUILT_IN}{workload}").output
    assert f"1. {nearest} (" in text
    (folder / "mine.yaml").write_text(text[text.index("study: ") :])
    checked = tuner("check mine.yaml --no-timing").output
    assert f"recipe {nearest}" in checked
    assert "left out" not in checked


def test_a_suggestion_as_json() -> None:
    found = json.loads(tuner(f"suggest {BUILT_IN}chars:CharTransformer", "--json").output)
    assert found["schema_version"] == 1
    assert found["nearest"][0]["name"] == "nanogpt-char"
    assert found["nearest"][0]["learning_rate"] == pytest.approx(0.001 * 2**-0.5, rel=1e-3)
    assert found["study"]["space"]["extends"] == "transformer"


def test_options_reach_the_workload() -> None:
    found = json.loads(tuner(f"suggest {BUILT_IN}digits:DigitsCNN", '--options {"width":4}', "--json").output)
    assert found["study"]["workload"]["options"] == {"width": 4}


def test_a_function_has_no_model_yet(folder: Path) -> None:
    (folder / "my_loop_of_functions.py").write_text("def train(run):\n    pass\n")
    text = tuner("suggest my_loop_of_functions:train", code=2).output
    assert "makes its model only while it trains" in text
    assert "tuner recipes --for TASK" in text


def test_check_names_what_is_tried_and_what_is_left_out(folder: Path) -> None:
    arms = "arms: {sgdm: {initial_settings: [{learning_rate: 1e-7, source: a slow paper}]}}"
    space = f"space: {{name: mine, extends: quick, {arms}}}"
    (folder / "a.yaml").write_text(STUDY.replace("space: quick", space) + "known_recipes: [resnet-50, dcgan]\n")
    text = tuner("check a.yaml --no-timing").output
    assert "recipe resnet-50" in text
    assert "a slow paper" in text
    assert "left out: effective_learning_rate is 1e-06, searched is 0.01 to 100, log" in text
    assert "recipe dcgan (adam)" in text
    assert "left out: no arm of its family" in text


def test_check_foresees_a_warm_start_and_writes_nothing(folder: Path) -> None:
    (folder / "a.yaml").write_text(STUDY)
    (folder / "b.yaml").write_text(STUDY.replace("study: toy", "study: next") + "warm_start: toy\n")
    assert "does not exist" in tuner("check b.yaml --no-timing", code=2).output
    assert not (folder / "tuner.db").exists()
    tuner("run a.yaml")
    assert "study toy, sgdm trial" in tuner("check b.yaml --no-timing").output
    assert "next" not in tuner("list").output
