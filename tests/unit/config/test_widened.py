"""What the ledger keeps of widened ranges, and what comes of it when it is read back."""

from __future__ import annotations

from typing import Any

import pytest
from analysis.records import make_spec

from tuner.config.stored import stored_spec
from tuner.core.errors import InputError

MOVED = {"arm": "adamw", "dimension": "learning_rate", "side": "upper", "old": 3e-2, "new": 0.3}
ROUND = {"trials": 2, "proposed": {"sgdm": 4, "adamw": 5}, "moved": [MOVED]}


class TestReadingBack:
    def test_applies_to_its_arm_alone(self) -> None:
        spec = make_spec(widen=True, widened=[ROUND])
        assert [spec.space.arm(arm).dimensions[0].high for arm in ("sgdm", "adamw")] == [100, 0.3]
        assert spec.space.arm("adamw").dimensions[1:] == make_spec().space.arm("adamw").dimensions[1:]

    def test_keeps_what_was_read(self) -> None:
        spec = make_spec(widen=True, widened=[ROUND, {**ROUND, "moved": [{**MOVED, "old": 0.3, "new": 3.0}]}])
        assert spec.space.arm("adamw").dimensions[0].high == 3.0
        assert stored_spec(spec.to_json(), "toy") == spec

    def test_a_study_without_it_is_stored_as_ever(self) -> None:
        assert not {"widen", "widened"} & set(make_spec().to_json())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"widen": 2}, "widen is 2; expected true or false"),
        ({"widen": True, "budget": {"hours": 1}}, "widen is true, but the budget has no trials; .*trials_per_arm: N"),
        ({"widen": True, "sampler": "cmaes"}, "cmaes, which keeps the ranges that it began with"),
        ({"widened": {}}, "widened is {}; expected a list, as the database keeps it"),
        (
            {"widened": [{**ROUND, "moved": [{**MOVED, "side": "left"}]}]},
            "side is 'left'; expected one of lower, upper",
        ),
    ],
)
def test_wrong_ones(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_spec(**changes)
