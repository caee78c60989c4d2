"""Settings that a study is told to try: as data, in the arms of their families."""

from __future__ import annotations

from typing import Any

import pytest
from analysis.records import make_spec

from tuner.config.documents import Section
from tuner.config.initial_settings import InitialSetting, read_all, trying
from tuner.config.parts import Part
from tuner.config.space_files import read_written
from tuner.core.errors import InputError
from tuner.core.records import Source
from tuner.search.proposals import Split, split_for

MULTISTEP = {"kind": "multistep", "first_drop": 0.3}
EARLIER = InitialSetting(
    "sgdm", {"learning_rate": 0.2, "schedule": MULTISTEP}, Source.EARLIER, "study a, sgdm trial 3: loss 0.1"
)
RECIPE = InitialSetting("adamw", {"learning_rate": 2e-3, "training": {"clip_norm": 2.0}}, Source.PUBLISHED, "recipe x")
SPACE: dict[str, Any] = {
    "name": "s",
    "schedule": {"kind": {"choices": ["cosine", "wsd"]}},
    "training": {"clip_norm": 1.0, "no_decay": "nothing"},
    "arms": {
        "sgdm": {},
        "adamw": {"initial_settings": [{"learning_rate": 3e-4, "source": "a paper"}]},
        "mine": {"family": "adamw"},
    },
}


def space(*initial: InitialSetting, study: Part | None = None) -> Any:
    own = study or Part()
    return trying(read_written(Section(SPACE, "s")).searched(None, own, {}), initial, own)


def test_each_goes_to_the_arms_of_its_family() -> None:
    found = space(EARLIER, RECIPE)
    assert [arm.earlier[0].hyperparameters["learning_rate"] for arm in found if arm.earlier] == [0.2]
    rates = {arm.arm: [s.hyperparameters["learning_rate"] for s in arm.published] for arm in found}
    assert rates == {"sgdm": [], "adamw": [2e-3, 3e-4], "mine": [2e-3]}


def test_origin_and_source_are_known() -> None:
    found = space(EARLIER, RECIPE)
    sgdm, adamw = found.arm("sgdm"), found.arm("adamw")
    assert sgdm.source_of(sgdm.earlier[0]) is Source.EARLIER
    assert sgdm.origins[sgdm.earlier[0].fingerprint] == EARLIER.origin
    assert [adamw.origins[s.fingerprint] for s in adamw.published] == ["recipe x", "a paper"]


def test_the_arms_training_options_lie_under_its_own_and_the_studys_above() -> None:
    (mine,) = space(RECIPE).arm("mine").published
    assert (mine.training["clip_norm"], mine.training["no_decay"]) == (2.0, "nothing")
    (mine,) = space(RECIPE, study=Part(fixed={"training.clip_norm": 5.0})).arm("mine").published
    assert mine.training["clip_norm"] == 5.0


def test_a_schedule_that_is_not_offered_is_offered_then() -> None:
    sgdm = space(EARLIER).arm("sgdm")
    assert list(sgdm.dimension("schedule.kind").choices) == ["cosine", "wsd", "multistep"]
    assert sgdm.encode(sgdm.earlier[0]) is not None
    assert list(space(RECIPE).arm("sgdm").dimension("schedule.kind").choices) == ["cosine", "wsd"]


def test_ranges_stay_and_what_lies_outside_is_named() -> None:
    far = InitialSetting("sgdm", {"learning_rate": 50.0}, Source.EARLIER, "far")
    sgdm = space(far).arm("sgdm")
    (setting,) = sgdm.earlier
    assert sgdm.encode(setting) is None
    assert sgdm.outside(setting) == ("effective_learning_rate is 500, searched is 0.01 to 100, log",)
    assert sgdm.outside(sgdm.default) == ()


def test_earlier_ones_come_right_after_default_and_current() -> None:
    current = {"family": "sgdm", "learning_rate": 0.3, "schedule": {"kind": "cosine"}}
    spec = make_spec(current=current, initial_settings=[EARLIER.to_json(), RECIPE.to_json()])
    sgdm = spec.space.arm("sgdm")
    assert [sgdm.source_of(s) for s in sgdm.initial_settings] == [Source.DEFAULT, Source.CURRENT, Source.EARLIER]
    assert [spec.space.arm("adamw").source_of(s) for s in spec.space.arm("adamw").initial_settings] == [
        "default",
        "published",
    ]


def test_at_most_half_of_a_budget_is_for_known_ones_but_default_and_current_are_tried() -> None:
    many = [InitialSetting("sgdm", {"learning_rate": 0.01 * i}, Source.EARLIER, f"{i}") for i in range(1, 9)]
    current = {"family": "sgdm", "learning_rate": 0.3, "schedule": {"kind": "cosine"}}
    spec = make_spec(current=current, initial_settings=[one.to_json() for one in many])
    sgdm = spec.space.arm("sgdm")
    assert len(sgdm.initial_settings) == 10
    assert [split_for("tpe", trials, sgdm).initial for trials in (1, 2, 3, 4, 8, 12, 40)] == [1, 2, 2, 2, 4, 6, 10]
    assert split_for("random", 8, spec.space.arm("adamw")) == Split(1, 0, 7)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("x", "initial_settings is 'x'; expected a list"),
        ([{"found": "dreamt", "origin": "o", "family": "sgdm"}], "found is 'dreamt'"),
        ([{"found": "earlier", "origin": "o", "family": "sgmd"}], "family is 'sgmd'"),
    ],
)
def test_what_is_no_setting(given: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_all(Section({"initial_settings": given}, "db"))


def test_a_setting_out_of_bounds() -> None:
    with pytest.raises(InputError, match="momentum"):
        make_spec(initial_settings=[{**EARLIER.to_json(), "momentum": 2.0}])
