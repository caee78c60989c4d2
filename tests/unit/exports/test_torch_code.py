"""The exported torch program trains to the weights that the study's own optimizers train to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from exports.programs import (
    STEPS,
    Net,
    Single,
    Square,
    a_setting,
    batches,
    exported,
    loss_of,
    module_of,
    trained_by_us,
    weights,
)
from tuner.catalog.families import FAMILIES, LOOKAHEAD
from tuner.catalog.schedules import SCHEDULES, Schedule
from tuner.core.records import Setting
from tuner.core.values import Scalar
from tuner.exports import export
from tuner.recommendation import build

SCHEDULES_TRIED: tuple[Mapping[str, Scalar], ...] = (
    {"kind": "constant", "warmup": 0.2},
    {"kind": "onecycle"},
)
KINDS = [
    *({"kind": kind, "warmup": 0.0} for kind in SCHEDULES),
    *(
        {"kind": kind, "warmup": 0.13, "warmup_shape": shape}
        for kind in ("cosine", "onecycle", "plateau")
        for shape in ("linear", "cosine", "exponential")
    ),
    {"kind": "linear", "end_ratio": 0.1},
    {"kind": "wsd-sqrt", "end_ratio": 0.1, "warmup": 0.1, "decay_fraction": 0.3},
    {"kind": "multistep", "drops": 4, "first_drop": 0.3, "gamma": 0.5},
    {"kind": "sgdr", "cycles": 4, "cycle_growth": 1.0, "end_ratio": 0.05},
    {"kind": "cyclical", "momentum_ratio": 1.0},
]
RECIPES: dict[str, dict[str, Scalar]] = {
    "clipped": {"clip_norm": 0.5, "clip_value": 0.05},
    "accumulated": {"accumulation": 3, "batch_scaling": "sqrt"},
    "nothing spared": {"no_decay": "nothing"},
    "embeddings spared": {"no_decay": "bias+norm+embedding"},
    "patterns": {
        "multiplier:body.*": 0.3,
        "freeze:out.bias": "yes",
        "no_decay:embed.*": "yes",
        "multiplier:*.0.*": 2.0,
    },
    "layers": {"layer_decay": 0.7},
    "ema": {"average": "ema", "ema_decay": 0.6},
    "swa": {"average": "swa", "swa_start": 0.5},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16", "clip_norm": 1.0},
}


def compare(setting: Setting, kind: type[Net] = Net, tolerance: float = 1e-9) -> None:
    kind = Square if setting.family == "soap" else kind
    program = module_of(exported(setting, "torch").text)
    ours, theirs = weights(trained_by_us(setting, kind_of=kind)), weights(program["train"](kind(), batches(), loss_of))
    torch.testing.assert_close(theirs, ours, rtol=tolerance, atol=tolerance)
    assert not torch.equal(ours, weights(kind()))


@pytest.mark.parametrize("schedule", SCHEDULES_TRIED, ids=lambda s: str(s["kind"]))
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_to_the_same_weights(name: str, schedule: Mapping[str, Scalar]) -> None:
    if FAMILIES[name].schedules is not None and schedule["kind"] not in FAMILIES[name].schedules:
        schedule = SCHEDULES_TRIED[0]
    compare(a_setting(name, schedule))


BOTH = [name for name, row in FAMILIES.items() if {"l2", "weight_decay"} <= set(row.default.hyperparameters)]


@pytest.mark.parametrize("l2", [0.0, 0.02])
@pytest.mark.parametrize("name", BOTH)
def test_both_kinds_of_decay_are_those_of_the_study(name: str, l2: float) -> None:
    compare(a_setting(name, l2=l2, weight_decay=0.3))


@pytest.mark.parametrize("training", RECIPES)
@pytest.mark.parametrize("name", ["sgdm", "adamw", "amsbound", "muon", "nag"])
def test_the_training_options_is_in_the_program(name: str, training: str) -> None:
    values = {"weight_decay": 0.1} if name == "nag" else {}
    kind, tolerance = (Single, 1e-3) if "float16" in training else (Net, 1e-9)
    compare(a_setting(name, training=RECIPES[training], **values), kind, tolerance)


@pytest.mark.parametrize("name", [LOOKAHEAD + "lion", "swats", "schedule-free-adamw", "soap"])
def test_patterns_with_families_of_libraries(name: str) -> None:
    compare(a_setting(name, {"kind": "constant"}, RECIPES["patterns"]))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sgdm", {"dampening": 0.3}),
        ("nag", {"momentum": 0.0}),
        ("rmsprop", {"momentum": 0.5, "centered": 1}),
        ("adagrad", {"initial_accumulator": 0.1, "lr_decay": 0.05}),
        ("lars", {"dampening": 0.1, "trust": 0.05}),
        ("swats", {"eps": 0.5}),
    ],
)
def test_arguments_that_are_seldom_set(name: str, values: dict[str, float]) -> None:
    compare(a_setting(name, **values))


@pytest.mark.parametrize("schedule", KINDS, ids=lambda s: "-".join(map(str, s.values())))
@pytest.mark.parametrize("name", ["sgdm", "adam"])
def test_rates_and_momenta_of_every_schedule(schedule: dict[str, Any], name: str) -> None:
    setting = a_setting(name, schedule)
    program = module_of(exported(setting, "torch", 37).text)
    ours, our_schedule = build(setting, Net(), 37)
    theirs, scheduler = program["build"](Net())
    for step in range(40):
        for a, b in zip(theirs.param_groups, ours.param_groups, strict=True):
            assert a["lr"] == pytest.approx(b["lr"], rel=1e-9, abs=1e-12)
            key = "momentum" if "momentum" in a else "betas"
            assert a[key] == pytest.approx(b[key], rel=1e-9)
        for optimizer, moved in ((theirs, scheduler), (ours, our_schedule)):
            optimizer.step()
            moved.step()
            if Schedule.of(schedule).kind.follows_metric and step % 3 == 0:
                moved.measured([1.0, float("nan"), 0.9, 0.95, 2.0][step // 3 % 5])


def test_a_scheduler_goes_on_from_its_state() -> None:
    for kind in ("cosine", "onecycle", "plateau"):
        program = module_of(exported(a_setting("sgdm", {"kind": kind}), "torch").text)
        _, first = program["build"](Net())
        optimizer, second = program["build"](Net())
        for _ in range(7):
            first.optimizer.step()
            first.step()
        optimizer.load_state_dict(first.optimizer.state_dict())
        second.load_state_dict(first.state_dict())
        for moved in (first, second):
            moved.optimizer.step()
            moved.step()
        assert second.optimizer.param_groups[0]["lr"] == first.optimizer.param_groups[0]["lr"]
        assert second.optimizer.param_groups[0]["momentum"] == first.optimizer.param_groups[0]["momentum"]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_text_is_short_says_whence_it_comes_and_needs_no_tuner(name: str) -> None:
    found = exported(
        a_setting(name, training=RECIPES["patterns"] if name != "prodigy" else None), "torch", about=("whence",)
    )
    lines = found.text.splitlines()
    assert max(map(len, lines)) <= 120
    assert len(lines) < 110
    assert "# whence" in lines
    assert f"# Timed to {STEPS} steps." in lines
    assert "import tuner" not in found.text
    assert "from tuner" not in found.text


def test_without_a_horizon_the_program_is_told_the_steps() -> None:
    program = module_of(export(a_setting("ademamix"), "torch").text)
    with pytest.raises(TypeError, match="total_steps"):
        program["build"](Net())
    optimizer, _ = program["build"](Net(), 50)
    assert optimizer.param_groups[0]["t_alpha_beta3"] == 50.0


def test_what_the_reader_has_to_do_is_said() -> None:
    training = {"batch_size": 64, "label_smoothing": 0.1, "average": "swa"}
    found = exported(a_setting("sgdm", {"kind": "plateau", "signal": "validation"}, training), "torch")
    assert len(found.notes) == 3
    flowing = " ".join(found.text.replace("#", " ").split())
    for note in found.notes:
        assert " ".join(note.split()) in flowing
    for word in ("batch size 64", "label smoothing 0.1", "measured", "BatchNorm"):
        assert word in flowing
