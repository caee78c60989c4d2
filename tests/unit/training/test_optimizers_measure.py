from __future__ import annotations

import pytest

from tuner.catalog.families import FAMILIES, family
from tuner.core.errors import InputError
from tuner.training.optimizers.measure import Probe, state_bytes, step_costs


@pytest.mark.parametrize("name", [*FAMILIES, "lookahead-soap"])
def test_the_table_says_of_the_state_what_is_measured(name: str) -> None:
    assert state_bytes(name) == pytest.approx(4 * family(name).state_slots, abs=0.02)


def test_the_probe_is_the_one_that_its_docstring_describes() -> None:
    parameters = sum(p.numel() for p in Probe().parameters())
    assert f"{parameters:,} parameters" in (Probe.__doc__ or "")


def test_the_cost_of_a_step_is_relative_to_sgd() -> None:
    costs = step_costs(["sgd", "nadam", "soap"], repeats=3)
    assert list(costs) == ["sgd", "nadam", "soap"]
    assert costs["sgd"] == 1.0
    assert 1.0 < costs["nadam"] < costs["soap"], "two averages and their roots; and products of matrices beside them"
    assert set(step_costs(["sgdm"], repeats=1)) == {"sgdm"}


def test_an_unknown_family_has_no_cost() -> None:
    with pytest.raises(InputError, match="expected one of"):
        step_costs(["lyon"])
