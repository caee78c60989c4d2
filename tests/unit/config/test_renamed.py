"""``recipe`` and ``known``, the earlier names of ``training`` and ``initial_settings``, wherever they were written."""

from __future__ import annotations

from typing import Any

import pytest

from tuner.config.documents import parse_yaml
from tuner.config.spec import StudySpec, read_spec, stored_spec
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


def renamed(value: Any) -> Any:
    """A stored document as it was before: the old keys, at every depth."""
    if isinstance(value, dict):
        words = {"training": "recipe", "initial_settings": "known", "workload_training": "workload_recipe"}
        return {words.get(key, key): renamed(item) for key, item in value.items()}
    return [renamed(item) for item in value] if isinstance(value, list) else value


def test_what_the_ledger_kept_under_the_old_names_reads_back_the_same() -> None:
    initial = {"found": "earlier", "origin": "study a", "family": "adamw", "learning_rate": 5e-4}
    given = {**read(written(NEW)).to_json(), "initial_settings": [{**initial, "training": {"clip_norm": 2.0}}]}
    given["workload_training"] = {"clip_norm": 1.0}
    before = renamed(given)
    assert {"recipe", "known", "workload_recipe"} <= set(before)
    spec = stored_spec(before, "s")
    assert spec == stored_spec(given, "s")
    assert spec.initial_settings[0].written["training"] == {"clip_norm": 2.0}


def test_a_widened_range_keeps_its_dimension() -> None:
    moved = {"arm": "adamw", "dimension": "recipe.clip_norm", "side": "upper", "old": 10.0, "new": 100.0}
    given = {**read(written(NEW)).to_json(), "widened": [{"trials": 3, "proposed": {"adamw": 4}, "moved": [moved]}]}
    found = stored_spec(given, "s").space.arm("adamw").dimension("training.clip_norm")
    assert found is not None
    assert found.high == 100.0


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
