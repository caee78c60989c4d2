"""Spaces: dimensions, settings to coordinates and back, and what a budget opens."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.documents import Section, parse_yaml, read_yaml
from tuner.errors import SpaceError
from tuner.families import FAMILIES
from tuner.records import Scalar, Setting
from tuner.schedules import SCHEDULES
from tuner.space import EFFECTIVE, KIND, ArmSpace, Dimension, SearchSpace, read_space
from tuner.spec import list_spaces

BUDGETS = (1, 5, 10, 24, 25, 60, 10**6)
unit = st.floats(0.0, 1.0, exclude_max=True)


def shipped(name: str) -> SearchSpace:
    return read_space(read_yaml(list_spaces()[name]))


def arm_of(arm: dict[str, Any], schedule: dict[str, Any] | None = None, name: str = "sgdm") -> ArmSpace:
    data = {"name": "s", "arms": {name: arm}, **({"schedule": schedule} if schedule else {})}
    return read_space(Section(data, "s")).arm(name)


ARMS = [(space, arm.arm) for space in list_spaces() for arm in shipped(space)]


def at_budget(space: str, arm: str, trials: int) -> ArmSpace:
    from dataclasses import replace

    return replace(shipped(space).arm(arm), trials=trials)


def close(one: Scalar, two: Scalar) -> bool:
    if isinstance(one, str) or isinstance(two, str):
        return one == two
    return math.isclose(one, two, rel_tol=1e-9, abs_tol=1e-12)


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


@pytest.mark.parametrize(("space", "arm"), ARMS)
class TestShippedSpaces:
    @pytest.mark.parametrize("trials", BUDGETS)
    def test_the_default_is_inside_and_comes_back(self, space: str, arm: str, trials: int) -> None:
        there = at_budget(space, arm, trials)
        assert there.dimensions, "something is searched"
        coordinates = there.encode(there.family.default)
        assert coordinates is not None
        assert there.known == (there.family.default,)
        back = there.decode(coordinates)
        assert back.family == there.family.name
        for name, value in there.family.default.hyperparameters.items():
            assert close(back.hyperparameters[name], value), name
        assert back.schedule["kind"] == "cosine"

    @given(data=st.data())
    @settings(max_examples=40, deadline=None)
    def test_every_point_is_a_valid_setting_that_comes_back(self, space: str, arm: str, data: st.DataObject) -> None:
        there = at_budget(space, arm, data.draw(st.sampled_from(BUDGETS)))
        coordinates = {d.name: d.at(data.draw(unit)) for d in there.dimensions}
        setting = there.decode(coordinates)
        assert set(setting.hyperparameters) == {h.name for h in there.family.hyperparameters}
        kind = SCHEDULES[str(setting.schedule["kind"])]
        assert set(setting.schedule) == {"kind", "warmup", *(p.name for p in kind.parameters)}
        again = there.encode(setting)
        if again is not None:  # rounding may put a point of the very edge outside
            back = there.decode(again)
            assert all(close(back.hyperparameters[k], v) for k, v in setting.hyperparameters.items())
            assert all(close(back.schedule[k], v) for k, v in setting.schedule.items())

    def test_small_budgets_open_few(self, space: str, arm: str) -> None:
        counts = [len(at_budget(space, arm, trials).dimensions) for trials in BUDGETS]
        assert counts == sorted(counts)
        if space != "quick":
            assert counts[0] <= 2 < counts[-1]
        there = at_budget(space, arm, 5)
        assert {d.name for d in there.closed} | {d.name for d in there.dimensions} == {
            d.name for d in there.all_dimensions
        }
        kinds = there.dimension(KIND)
        assert kinds is not None
        assert list(kinds.choices) == ["cosine", "wsd"]


def test_the_shipped_spaces() -> None:
    assert list(list_spaces()) == ["five-families", "quick", "sgdm-vs-adam"]
    assert [a.arm for a in shipped("sgdm-vs-adam")] == ["sgdm", "adamw"]
    assert [a.arm for a in shipped("five-families")] == list(FAMILIES)
    assert all(shipped(name).about for name in list_spaces())


class TestMeaning:
    def test_the_effective_learning_rate(self) -> None:
        arm = arm_of(
            {
                EFFECTIVE: {"low": 0.01, "high": 100, "scale": "log"},
                "one_minus_momentum": {"low": 0.005, "high": 0.5, "scale": "log"},
            }
        )
        setting = arm.decode({EFFECTIVE: 2.0, "one_minus_momentum": 0.05})
        assert setting.hyperparameters == pytest.approx({"learning_rate": 0.1, "momentum": 0.95, "l2": 1e-4})
        assert arm.encode(setting) == pytest.approx({EFFECTIVE: 2.0, "one_minus_momentum": 0.05})

    def test_what_is_fixed(self) -> None:
        arm = arm_of(
            {"learning_rate": {"low": 0.1, "high": 1}, "momentum": 0.5, "schedule": {"kind": "step", "drops": 3}}
        )
        setting = arm.decode({"learning_rate": 0.2})
        assert setting.hyperparameters["momentum"] == 0.5
        assert setting.schedule == {"kind": "step", "drops": 3.0, "gamma": 0.1, "warmup": 0.0}

    def test_an_arms_schedule_wins_over_the_shared_one(self) -> None:
        shared = {"kind": "linear", "warmup": {"low": 0.1, "high": 0.2}, "end_ratio": 0.5}
        arm = arm_of({"learning_rate": {"low": 0.1, "high": 1}, "schedule": {"kind": "wsd", "warmup": 0.0}}, shared)
        assert [d.name for d in arm.dimensions] == ["learning_rate"]
        setting = arm.decode({"learning_rate": 0.2})
        assert setting.schedule == {"kind": "wsd", "decay_fraction": 0.2, "end_ratio": 0.5, "warmup": 0.0}

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
        assert arm.encode(FAMILIES["sgdm"].default) is None

    def test_order_of_keys_is_kept(self) -> None:
        text = (
            "name: s\nschedule: {kind: {choices: [wsd, cosine]}}\n"
            "arms: {nag: {momentum: {low: 0, high: 0.9}, learning_rate: {low: 0.1, high: 1}}}"
        )
        arm = read_space(parse_yaml(text, "s")).arm("nag")
        assert [d.name for d in arm.dimensions] == ["momentum", "learning_rate", KIND]
        assert list(arm.dimensions[-1].choices) == ["wsd", "cosine"]


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
        arm = at_budget("sgdm-vs-adam", setting.family, trials).including(setting)
        assert arm.known[-1] == setting
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
        coordinates = wide.encode(wide.known[-1])
        assert coordinates is not None
        assert wide.decode(coordinates).hyperparameters["l2"] == 0.0
