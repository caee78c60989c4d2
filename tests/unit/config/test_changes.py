"""Changes of a question as functions on values: nothing is read again, and what follows is put together again."""

from __future__ import annotations

import pytest
from analysis.records import make_spec, make_study

from tuner.config.changes import with_arm, with_initial_settings, with_workload_training
from tuner.config.initial_settings import InitialSetting
from tuner.config.stored import stored_spec
from tuner.core.errors import InputError
from tuner.core.records import Source

CURRENT = {"family": "adamw", "learning_rate": 0.01, "training": {"clip_norm": 3}}
ONE = InitialSetting("adamw", {"learning_rate": 2e-3}, Source.EARLIER, "study a")
TWO = InitialSetting("sgdm", {"learning_rate": 0.2}, Source.PUBLISHED, "recipe b")


def test_what_the_workload_takes_for_granted_counts_least() -> None:
    spec = with_workload_training(make_spec(current=CURRENT), {"clip_norm": 1.0, "batch_size": 32})
    assert {arm.default.training["clip_norm"] for arm in spec.arms} == {1.0}
    assert spec.current is not None
    assert (spec.current.training["clip_norm"], spec.current.training["batch_size"]) == (3.0, 32)
    assert spec.current in spec.space.arm("adamw").initial_settings
    assert spec == make_spec(current=CURRENT, workload_training={"clip_norm": 1.0, "batch_size": 32})
    assert with_workload_training(spec, {}) == make_spec(current=CURRENT)


def test_initial_settings_take_the_place_of_the_former_ones() -> None:
    spec = with_initial_settings(make_spec(), [ONE, TWO, ONE])
    assert spec.initial_settings == (ONE, TWO)
    assert [len(arm.initial_settings) for arm in spec.arms] == [2, 2]
    assert spec == make_spec(initial_settings=[ONE.to_json(), TWO.to_json()])
    assert with_initial_settings(spec, []) == make_spec()


def test_an_initial_setting_out_of_bounds_is_refused() -> None:
    with pytest.raises(InputError, match=r"study a: momentum"):
        with_initial_settings(make_spec(), [InitialSetting("sgdm", {"momentum": 2.0}, Source.EARLIER, "study a")])


@pytest.mark.parametrize("arm", ["nag", "lion", "lookahead-sgdm"])
def test_another_arm_is_as_if_it_had_been_asked_for(arm: str) -> None:
    begun = with_workload_training(make_spec(current=CURRENT, training={"clip_norm": 2.0}), {"batch_size": 32})
    spec = with_arm(begun, arm)
    assert arm in [one.arm for one in spec.arms]
    assert spec == stored_spec(spec.to_json(), spec.name)
    assert spec.space.arm(arm).default.training["clip_norm"] == 2.0
    for one in begun.arms:
        assert spec.space.arm(one.arm) == one


def test_an_arm_that_is_there_or_is_none() -> None:
    with pytest.raises(InputError, match="arm 'sgdm' is in the study already"):
        with_arm(make_spec(), "sgdm")
    with pytest.raises(InputError, match="there is no arm 'sgmd'; expected one of"):
        with_arm(make_spec(), "sgmd")


def test_they_work_on_a_file_as_on_a_spec() -> None:
    file = with_initial_settings(make_study(metric=None), [TWO])
    assert file.metric is None
    assert len(file.space.arm("sgdm").published) == 1
