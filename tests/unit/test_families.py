from __future__ import annotations

import math

import pytest

from tuner.errors import InputError
from tuner.families import CAMPS, FAMILIES, family
from tuner.schedules import Schedule


@pytest.mark.parametrize("name", FAMILIES)
def test_every_row_is_whole(name: str) -> None:
    row = family(name)
    names = [h.name for h in row.hyperparameters]
    assert (row.name, row.camp in CAMPS, len(set(names))) == (name, True, len(names))
    assert all(h.low <= h.default <= h.high and h.meaning for h in row.hyperparameters)
    assert row.source
    assert row.default_source
    assert row.momentum in names
    assert not {"l2", "weight_decay"} <= set(names), "L2 and decoupled decay are two things"
    assert Schedule.of(row.default.schedule).kind.name == "cosine"
    assert row.default.hyperparameters == row.complete({})
    assert row.cost == (row.state_slots, len(names))


def test_the_table() -> None:
    assert list(FAMILIES) == ["sgdm", "nag", "adamw", "adam", "nadam"]
    assert [row.state_slots for row in FAMILIES.values()] == [1, 1, 2, 2, 2]
    with pytest.raises(TypeError):
        FAMILIES["mine"] = FAMILIES["sgdm"]  # type: ignore[index]


def test_what_is_given_wins_over_the_default() -> None:
    found = family("sgdm").complete({"momentum": 0, "learning_rate": 3})
    assert found == {"learning_rate": 3.0, "momentum": 0.0, "l2": 1e-4}
    assert all(isinstance(value, float) for value in found.values())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lr": 0.1}, "no hyperparameter 'lr'; expected one of learning_rate, momentum, l2"),
        ({"momentum": 1.0}, "momentum of sgdm is 1; expected 0 to 0.99999"),
        ({"momentum": -0.1}, "momentum of sgdm is -0.1"),
        ({"momentum": True}, "momentum of sgdm is True; expected a number"),
        ({"momentum": "0.9"}, "momentum of sgdm is '0.9'; expected a number"),
        ({"momentum": math.nan}, "momentum of sgdm is nan; expected a number"),
        ({"learning_rate": math.inf}, "learning_rate of sgdm is inf; expected a number"),
    ],
)
def test_wrong_values(given: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        family("sgdm").complete(given)


def test_an_unknown_family() -> None:
    with pytest.raises(InputError, match="'lion'; expected one of sgdm, nag, adamw, adam, nadam"):
        family("lion")
