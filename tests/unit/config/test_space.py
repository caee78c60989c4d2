"""Spaces: dimensions, settings to coordinates and back, and what a budget opens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.catalog.families import FAMILIES, family
from tuner.catalog.training_options import complete
from tuner.config.documents import Section, parse_yaml, read_yaml
from tuner.config.shipped import list_spaces
from tuner.config.space import EFFECTIVE, KIND, ArmSpace, Dimension
from tuner.config.space_files import read_space
from tuner.core.errors import SpaceError
from tuner.core.records import Setting, Source
from tuner.core.values import Scalar

unit = st.floats(0.0, 1.0, exclude_max=True)
RATE = {"low": 1e-4, "high": 1e-1, "scale": "log"}


def arm_of(
    arm: dict[str, Any],
    schedule: dict[str, Any] | None = None,
    name: str = "sgdm",
    training: dict[str, Any] | None = None,
) -> ArmSpace:
    shared = {key: value for key, value in (("schedule", schedule), ("training", training)) if value}
    return read_space(Section({"name": "s", "arms": {name: arm}, **shared}, "s")).arm(name)


def at_budget(arm: str, trials: int) -> ArmSpace:
    return replace(read_space(read_yaml(list_spaces()["sgdm-vs-adam"])).arm(arm), trials=trials)


class TestDimensions:
    @given(unit, st.floats(1e-9, 1e3), st.floats(1.001, 1e6), st.booleans(), st.booleans())
    @settings(max_examples=200, deadline=None)
    def test_a_point_lies_inside_and_comes_back(
        self, u: float, low: float, factor: float, log: bool, zero: bool
    ) -> None:
        d = Dimension("x", low, low * factor, log=log, or_zero=zero and log)
        c = d.at(u)
        assert isinstance(c, float)
        assert d.contains(c)
        assert d.share(c) == pytest.approx(u, abs=1e-6)
        value = d.value(c)
        assert value == 0.0 or d.low <= float(value) <= d.high
        again = d.coordinate(value)
        assert d.contains(again)
        assert d.value(again) == value

    def test_an_eighth_of_an_or_zero_axis_is_zero(self) -> None:
        d = Dimension("l2", 1e-7, 1e-2, log=True, or_zero=True)
        assert d.share(d.low) == pytest.approx(1 / 8)
        zeros = sum(d.value(d.at(i / 800)) == 0.0 for i in range(800))
        assert abs(zeros - 100) <= 1
        assert str(d) == "0 or 1e-07 to 0.01, log"

    def test_whole_numbers_are_even(self) -> None:
        d = Dimension("drops", 1, 4, integer=True)
        assert [d.at(u) for u in (0.0, 0.2499, 0.25, 0.5, 0.75, 1 - 1e-12)] == [1, 1, 2, 3, 4, 4]
        assert all(isinstance(d.at(i / 10), int) for i in range(10))

    def test_choices_are_even(self) -> None:
        d = Dimension("k", choices={"a": 1, "b": 1, "c": 1})
        assert [d.at(u) for u in (0.0, 0.34, 0.99, 1 - 1e-16)] == ["a", "b", "c", "c"]
        assert d.share("a") is None
        assert d.contains("b")
        assert not d.contains("z")
        assert str(d) == "a | b | c"

    def test_rounding_beyond_an_end_is_taken_back(self) -> None:
        d = Dimension("one_minus_beta1", 0.1, 0.5, log=True)
        assert not d.contains(1 - 0.9)
        assert d.snapped(1 - 0.9) == 0.1
        assert d.snapped(0.5 + 1e-12) == 0.5
        assert (d.snapped(0.0999), d.snapped(0.2)) == (0.0999, 0.2), "what lies outside stays there"
        zero = Dimension("l2", 1e-7, 1e-2, log=True, or_zero=True)
        assert zero.value(zero.snapped(1e-7 * (1 - 1e-12))) == 1e-7, "and not 0"
        assert Dimension("k", choices={0.1: 1, 0.2: 1}).snapped(0.1) == 0.1

    def test_opening(self) -> None:
        d = Dimension(KIND, choices={"cosine": 1, "wsd": 1, "step": 25}, opens_at=5)
        assert d.opened(4) is None
        assert list((d.opened(5) or d).choices) == ["cosine", "wsd"]
        assert list((d.opened(25) or d).choices) == ["cosine", "wsd", "step"]
        assert Dimension(KIND, choices={"cosine": 1, "wsd": 9}).opened(5) is None, "one choice is none"
        assert Dimension("x", 1, 2, opens_at=3).opened(2) is None

    @pytest.mark.parametrize(
        ("dimension", "coordinate", "low", "high"),
        [
            (Dimension("x", 1, 10, log=True), 5.0, 1, 10),
            (Dimension("x", 1, 10, log=True), 20.0, 1, 60),
            (Dimension("x", 1, 10, log=True), 0.3, 0.1, 10),
            (Dimension("x", 1, 10), 20.0, 1, 20),
            (Dimension("x", 1, 10), -1.0, -1, 10),
            (Dimension("x", 1, 3, integer=True), 4, 1, 4),
            (Dimension("x", 0.1, 0.5, log=True, most=1.0), 0.9, 0.1, 1.0),
            (Dimension("x", 0.1, 0.5, log=True, least=0.05), 0.06, 0.05, 0.5),
        ],
    )
    def test_widening(self, dimension: Dimension, coordinate: float, low: float, high: float) -> None:
        wide = dimension.widened(coordinate)
        assert (wide.low, wide.high) == (pytest.approx(low), pytest.approx(high))
        assert wide.contains(coordinate)

    def test_widening_a_log_axis_to_zero_opens_zero(self) -> None:
        wide = Dimension("x", 1e-4, 1, log=True).widened(0.0)
        assert wide.or_zero
        assert wide.value(wide.coordinate(0.0)) == 0.0

    def test_widening_choices(self) -> None:
        assert list(Dimension("k", choices={"a": 1}).widened("z").choices) == ["a", "z"]


class TestMeaning:
    def test_the_effective_learning_rate(self) -> None:
        arm = arm_of(
            {
                EFFECTIVE: {"low": 0.01, "high": 100, "scale": "log"},
                "one_minus_momentum": {"low": 0.005, "high": 0.5, "scale": "log"},
            }
        )
        setting = arm.decode({EFFECTIVE: 2.0, "one_minus_momentum": 0.05})
        found = {"learning_rate": 0.1, "momentum": 0.95, "l2": 1e-4, "dampening": 0.0}
        assert setting.hyperparameters == pytest.approx(found)
        assert arm.encode(setting) == pytest.approx({EFFECTIVE: 2.0, "one_minus_momentum": 0.05})

    def test_what_is_fixed(self) -> None:
        arm = arm_of(
            {"learning_rate": {"low": 0.1, "high": 1}, "momentum": 0.5, "schedule": {"kind": "step", "drops": 3}}
        )
        setting = arm.decode({"learning_rate": 0.2})
        assert setting.hyperparameters["momentum"] == 0.5
        assert setting.schedule == {
            "kind": "step",
            "drops": 3.0,
            "gamma": 0.1,
            "warmup": 0.0,
            "warmup_shape": "linear",
        }

    def test_an_arms_schedule_wins_over_the_shared_one(self) -> None:
        shared = {"kind": "linear", "warmup": {"low": 0.1, "high": 0.2}, "end_ratio": 0.5}
        arm = arm_of({"learning_rate": {"low": 0.1, "high": 1}, "schedule": {"kind": "wsd", "warmup": 0.0}}, shared)
        assert [d.name for d in arm.dimensions] == ["learning_rate"]
        setting = arm.decode({"learning_rate": 0.2})
        assert setting.schedule == {
            "kind": "wsd",
            "decay_fraction": 0.2,
            "end_ratio": 0.5,
            "warmup": 0.0,
            "warmup_shape": "linear",
        }

    def test_two_arms_of_one_family(self) -> None:
        arm = arm_of({"family": "adamw", "learning_rate": {"low": 1e-4, "high": 1e-2}}, name="my-adam")
        assert (arm.arm, arm.family.name) == ("my-adam", "adamw")
        assert arm.decode({"learning_rate": 1e-3}).family == "adamw"

    def test_missing_and_unknown_coordinates(self) -> None:
        arm = arm_of({"learning_rate": {"low": 0.1, "high": 1}})
        for wrong in ({}, {"learning_rate": 0.2, "l2": 0.1}, {"lr": 0.2}):
            with pytest.raises(SpaceError, match=r"arm 'sgdm' has coordinates .*; expected \['learning_rate'\]"):
                arm.decode(wrong)
        with pytest.raises(SpaceError, match="arm 'sgdm': learning_rate of sgdm is -1"):
            arm.decode({"learning_rate": -1.0})

    def test_a_default_outside_is_no_known_point(self) -> None:
        arm = arm_of({"learning_rate": {"low": 1, "high": 2}})
        assert arm.encode(arm.default) is None

    def test_order_of_keys_is_kept(self) -> None:
        text = (
            "name: s\nschedule: {kind: {choices: [wsd, cosine]}}\n"
            "arms: {nag: {momentum: {low: 0, high: 0.9}, learning_rate: {low: 0.1, high: 1}}}"
        )
        arm = read_space(parse_yaml(text, "s")).arm("nag")
        assert [d.name for d in arm.dimensions] == ["momentum", "learning_rate", KIND]
        assert list(arm.dimensions[-1].choices) == ["wsd", "cosine"]


class TestClosed:
    """What the budget leaves closed keeps the family's default, and of choices the first."""

    def test_a_schedule_free_family_keeps_its_warm_up(self) -> None:
        arm = arm_of(
            {"learning_rate": RATE}, {"warmup": {"low": 0.1, "high": 0.2, "opens_at": 25}}, "schedule-free-sgd"
        )
        small = replace(arm, trials=5)
        assert small.decode({"learning_rate": 0.01}).schedule["warmup"] == 0.05
        assert arm.decode({"learning_rate": 0.01, "schedule.warmup": 0.2}).schedule["warmup"] == 0.2

    def test_choices_keep_the_first(self) -> None:
        training = {
            "batch_size": {"choices": {"64": 1, "32": 25}},
            "average": {"choices": ["ema", "none"], "opens_at": 25},
            "one_minus_ema_decay": {"choices": {"0.01": 1, "0.1": 25}},
        }
        beta2 = {"choices": [0.95, 0.999], "opens_at": 25}
        arm = replace(arm_of({"learning_rate": RATE, "beta2": beta2}, name="adamw", training=training), trials=5)
        assert [d.name for d in arm.dimensions] == ["learning_rate"]
        setting = arm.decode({"learning_rate": 0.01})
        assert (setting.training["batch_size"], setting.training["average"]) == (64, "ema")
        assert setting.training["ema_decay"] == 0.99
        assert setting.hyperparameters["beta2"] == 0.95
        assert arm.default.training == setting.training
        assert arm.default.hyperparameters["beta2"] == 0.999, "the family's own, as it is"


class TestTrainingOptions:
    def test_coordinates(self) -> None:
        training = {
            "clip_norm": {"low": 0.1, "high": 10, "scale": "log", "or_zero": True},
            "one_minus_ema_decay": {"low": 1e-4, "high": 0.1, "scale": "log"},
            "accumulation": {"low": 1, "high": 4},
            "precision": {"choices": ["float32", "bfloat16"]},
            "multipliers": {"head.*": {"low": 0.1, "high": 10, "scale": "log"}},
            "average": "ema",
        }
        arm = arm_of({"learning_rate": RATE}, training=training)
        point: dict[str, Scalar] = {
            "learning_rate": 0.01,
            "training.clip_norm": 0.5,
            "training.one_minus_ema_decay": 0.01,
            "training.accumulation": 2,
            "training.precision": "bfloat16",
            "training.multiplier:head.*": 3.0,
        }
        setting = arm.decode(point)
        said = {"clip_norm": 0.5, "ema_decay": 0.99, "accumulation": 2, "precision": "bfloat16", "average": "ema"}
        assert setting.training == complete({**said, "multiplier:head.*": 3.0})
        assert arm.encode(setting) == pytest.approx(point)

    def test_the_default_is_made_to_fit(self) -> None:
        training = {
            "batch_size": {"choices": [32, 64]},
            "clip_norm": {"low": 0.1, "high": 10, "scale": "log"},
            "layer_decay": {"low": 0.5, "high": 1.0},
            "label_smoothing": 0.1,
        }
        arm = arm_of({"learning_rate": RATE}, training=training)
        found = arm.default.training
        assert (found["batch_size"], found["clip_norm"]) == (64, pytest.approx(1.0)), "0 is in neither range"
        assert (found["layer_decay"], found["label_smoothing"]) == (1.0, 0.1)
        assert arm.encode(arm.default) is not None
        assert arm.default.hyperparameters == family("sgdm").default.hyperparameters
        assert arm.source_of(arm.default) is Source.DEFAULT

    def test_a_setting_outside_has_no_coordinates(self) -> None:
        arm = arm_of({"learning_rate": RATE}, training={"batch_size": {"choices": [32, 64]}})
        assert arm.encode(replace(arm.default, training=complete({"batch_size": 128}))) is None

    def test_current_widens_it(self) -> None:
        training = {"batch_size": {"choices": [32, 64]}, "clip_norm": {"low": 0.1, "high": 1, "scale": "log"}}
        arm = arm_of({"learning_rate": RATE}, training=training)
        current = replace(arm.default, training=complete({"batch_size": 128}))
        wide = arm.including(current)
        coordinates = wide.encode(current)
        assert coordinates is not None
        assert wide.decode(coordinates).training == current.training
        assert wide.source_of(current) is Source.CURRENT


def mine(learning_rate: float, kind: str = "cosine", family: str = "adamw", **hyper: float) -> Setting:
    row = FAMILIES[family]
    return Setting(family, {**row.complete({**hyper, "learning_rate": learning_rate})}, {"kind": kind, "warmup": 0.0})


class TestTheUsersSetting:
    """Whatever the user trains with now, the space is made to hold it, and every point of it stays valid."""

    @pytest.mark.parametrize("trials", [5, 12, 30, 100])
    @pytest.mark.parametrize(
        "setting",
        [
            mine(1e-3),
            mine(1.0),
            mine(1e-9, "step"),
            mine(1e-3, "constant", beta1=0.0, weight_decay=0.0),
            mine(1e-3, "linear", beta1=0.9999, weight_decay=90.0, eps=1e10),
            mine(0.1, family="sgdm", momentum=0.0, l2=0.0),
            mine(0.1, family="sgdm", momentum=0.9999, l2=10.0),
        ],
        ids=str,
    )
    def test_is_known(self, setting: Setting, trials: int) -> None:
        arm = at_budget(setting.family, trials).including(setting)
        assert arm.initial_settings[-1] == setting
        assert arm.source_of(setting) is Source.CURRENT
        coordinates = arm.encode(setting)
        assert coordinates is not None
        assert arm.encode(FAMILIES[setting.family].default) is not None
        for u in (0.0, 0.25, 0.5, 0.75, 1 - 1e-12):
            arm.decode({d.name: d.at(u) for d in arm.dimensions})
        kinds = arm.dimension(KIND)
        assert kinds is not None
        assert setting.schedule["kind"] in kinds.choices

    def test_zero_without_a_zero_zone(self) -> None:
        arm = arm_of({"learning_rate": {"low": 0.01, "high": 1}, "l2": {"low": 1e-5, "high": 1, "scale": "log"}})
        wide = arm.including(mine(0.1, family="sgdm", l2=0.0))
        coordinates = wide.encode(wide.initial_settings[-1])
        assert coordinates is not None
        assert wide.decode(coordinates).hyperparameters["l2"] == 0.0
