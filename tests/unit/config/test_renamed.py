"""``recipe`` and ``known``, the earlier names of ``training`` and ``initial_settings``, wherever they were written."""

from __future__ import annotations

import pytest

from tuner.config.documents import parse_yaml
from tuner.config.spec import StudySpec
from tuner.config.study_file import read_spec
from tuner.core.errors import InputError

STUDY = """\
study: s
workload: m:W
metric: {name: loss, direction: minimize}
horizon: {epochs: 3}
TRAINING: {accumulation: 2}
current: {family: adamw, learning_rate: 1e-3, TRAINING: {clip_norm: 3}}
space:
  name: mine
  extends: transformer
  TRAINING: {clip_norm: {low: 0.1, high: 10, scale: log}, layer_decay: 0.9}
  arms:
    sgdm: {TRAINING: {average: ema}}
    adamw:
      learning_rate: {low: 1e-5, high: 1e-2, scale: log}
      INITIAL:
        - {learning_rate: 2e-4, TRAINING: {clip_norm: 0.5}, source: a paper}
"""
OLD = {"TRAINING": "recipe", "INITIAL": "known"}
NEW = {"TRAINING": "training", "INITIAL": "initial_settings"}


def written(names: dict[str, str], text: str = STUDY) -> str:
    for name, word in names.items():
        text = text.replace(name, word)
    return text


def read(text: str) -> StudySpec:
    return read_spec(parse_yaml(text, "s.yaml"))


def test_a_study_in_the_old_words_is_the_same_study() -> None:
    old, new = read(written(OLD)), read(written(NEW))
    assert old == new
    assert old.to_json() == new.to_json()
    assert "recipe" not in str(old.to_json())
    assert new.arms[0].default.training["layer_decay"] == 0.9
    assert new.space.arm("adamw").dimension("training.clip_norm") is not None
    assert "a paper" in new.space.arm("adamw").origins.values()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("recipe: {clip: 1}", r"s\.yaml:5: recipe\.clip is not a training option"),
        ("recipe: {clip_norm: -1}", r"s\.yaml:5: recipe\.clip_norm is -1"),
        ("training: {}\nrecipe: {}", r"s\.yaml:6: recipe stands beside s\.yaml:5: training, its name now; .*one of"),
        (
            "current:\n  family: adamw\n  recipe: {}\n  training: {}",
            r"s\.yaml:7: current\.recipe stands beside s\.yaml:8: current\.training",
        ),
        (
            "space:\n  name: x\n  arms:\n    adamw:\n      known: []\n      initial_settings: []",
            r"s\.yaml:9: space\.arms\.adamw\.known stands beside s\.yaml:10: space\.arms\.adamw\.initial_settings",
        ),
        (
            "space:\n  name: x\n  arms:\n    adamw:\n      known:\n      - {source: a, recipe: {clip_norm: -1}}",
            r"s\.yaml:10: space\.arms\.adamw\.known\.0\.recipe\.clip_norm is -1",
        ),
    ],
)
def test_errors_name_what_was_written_and_where(text: str, says: str) -> None:
    head = "".join(STUDY.splitlines(keepends=True)[:4])
    with pytest.raises(InputError, match=says):
        read(head + text)
