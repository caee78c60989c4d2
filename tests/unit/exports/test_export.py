"""What every export shares: the target, the comment at the top, the recommendation it comes from, the command."""

from __future__ import annotations

from pathlib import Path

import command_line
import pytest
from command_line import STUDY
from generators.exports import markdown

from exports.programs import a_setting
from tuner.core.errors import InputError
from tuner.core.records import Horizon, Setting
from tuner.exports import TARGETS, export


@pytest.mark.parametrize("to", TARGETS)
def test_a_bad_setting_is_refused_by_every_target(to: str) -> None:
    for setting, word in (
        (Setting("adamm", {}, {"kind": "cosine"}), "adamm"),
        (Setting("adam", {"lr": 1.0}, {"kind": "cosine"}), "lr"),
        (Setting("adam", {}, {"kind": "cosin"}), "cosin"),
        (Setting("adam", {}, {"kind": "cosine"}, {"clip": 1.0}), "clip"),
        (Setting("prodigy", {}, {"kind": "cosine"}, {"layer_decay": 0.5}), "one learning rate"),
    ):
        with pytest.raises(InputError, match=word):
            export(setting, to, horizon=Horizon(3, "epochs"))


@pytest.mark.parametrize("horizon", [Horizon(0, "steps"), Horizon(2.5, "steps"), Horizon(3, "days")])
def test_a_horizon_that_is_none_is_refused(horizon: Horizon) -> None:
    with pytest.raises(InputError, match="the horizon is"):
        export(a_setting("sgdm"), "torch", horizon=horizon)


def test_an_unknown_target_names_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"jax.*torch, lightning, huggingface, timm, yaml"):
        export(a_setting("sgdm"), "jax")


def test_the_page_is_what_the_code_writes() -> None:
    page = Path(__file__).parents[3] / "docs" / "exports.md"
    assert page.read_text(encoding="utf-8") == markdown(), "docs/exports.md is stale: run python docs/generate.py"


def test_the_command(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_TRACKING", "none")
    (working_folder / "study.yaml").write_text(STUDY.replace("trials_per_arm: 2", "trials_per_arm: 1"))

    def tuner(command: str, code: int = 0) -> str:
        return command_line.tuner(command, code=code).output

    tuner("run study.yaml")
    for to in TARGETS:
        text = tuner(f"export toy --to {to} --epochs 5" if to == "timm" else f"export toy --to {to}")
        assert "Recommended by study 'toy': arm" in text
        assert f"Timed to {'5 epochs' if to == 'timm' else '4 steps'}." in text
    text = tuner("export toy --to torch --arm adamw --steps 900")
    assert "total_steps=900" in text
    assert "AdamW(" in text
    assert tuner("export toy --to yaml --out found.yaml") == "Written: found.yaml\n"
    assert "current:" in (working_folder / "found.yaml").read_text()
    assert "counts epochs" in tuner("export toy --to timm", 2)
    assert "expected one of torch" in tuner("export toy --to jax", 2)
    assert "no arm 'lion'" in tuner("export toy --to torch --arm lion", 2)
    assert "one of the two" in tuner("export toy --to torch --steps 5 --epochs 5", 2)
    assert "cannot be written" in tuner("export toy --to torch --out nowhere/x.py", 2)
