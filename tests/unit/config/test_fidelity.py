"""How long the search's runs train, as the study file says it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.documents import Section, parse_yaml
from tuner.config.fidelity import LEAST, Fidelity, read_fidelity
from tuner.config.spec import StudySpec
from tuner.config.study_file import read_spec
from tuner.core.errors import InputError
from tuner.core.records import Horizon


def read(value: Any, default: str = "full") -> Fidelity:
    section = Section({} if value is None else {"fidelity": value}, "s")
    found = read_fidelity(section, default)
    section.finish()
    return found


def study(text: str) -> StudySpec:
    head = "study: a\nworkload: m:C\nmetric: {name: loss, direction: minimize}\nhorizon: {epochs: 9}\n"
    return read_spec(parse_yaml(f"{head}{text}\n", "s"))


class TestReading:
    def test_a_word(self) -> None:
        assert [read(word).kind for word in ("ladder", "full", "prune", None)] == ["ladder", "full", "prune", "full"]

    def test_its_parts(self) -> None:
        assert read({"kind": "ladder", "rungs": 4, "reduction": 2}) == Fidelity("ladder", 4, 2)
        assert read({"kind": "ladder", "horizons": [1, 3]}).horizons == (1.0, 3.0)
        assert read({"kind": "prune", "pruner": "asha"}).pruner == "asha"

    @pytest.mark.parametrize(
        "value",
        [
            "short",
            3,
            {"rungs": 3},
            {"kind": "ladder", "reduction": 1},
            {"kind": "ladder", "horizons": [3, 1]},
            {"kind": "ladder", "horizons": [0, 1]},
            {"kind": "ladder", "horizons": [True]},
            {"kind": "prune", "pruner": "hyperband"},
            {"kind": "ladder", "steps": 3},
        ],
    )
    def test_what_is_wrong_is_refused(self, value: Any) -> None:
        with pytest.raises(InputError):
            read(value)

    def test_it_reads_back(self) -> None:
        for value in ("prune", {"kind": "ladder", "rungs": 4, "horizons": [1, 2.5]}):
            found = read(value)
            assert read(found.to_json()) == found


class TestRungs:
    def test_thirds_of_the_horizon(self) -> None:
        ladder = Fidelity("ladder")
        assert [h.amount for h in ladder.ladder(Horizon(5000, "steps"))] == [556, 1667, 5000]
        assert [h.amount for h in ladder.ladder(Horizon(18, "epochs"))] == [2, 6, 18]

    def test_too_short_ones_are_left_out(self) -> None:
        ladder = Fidelity("ladder")
        assert [h.amount for h in ladder.ladder(Horizon(3, "epochs"))] == [1, 3]
        assert [h.amount for h in ladder.ladder(Horizon(1, "epochs"))] == [1]
        assert [h.amount for h in ladder.ladder(Horizon(140, "steps"))] == [140]

    def test_those_that_are_given_are_taken(self) -> None:
        ladder = Fidelity("ladder", horizons=(0.5, 2.0))
        assert [h.amount for h in ladder.ladder(Horizon(9, "epochs"))] == [0.5, 2.0, 9]

    def test_full_and_pruned_runs_have_one(self) -> None:
        for kind in ("full", "prune"):
            assert Fidelity(kind).ladder(Horizon(900, "steps")) == (Horizon(900, "steps"),)

    @given(
        st.floats(0.1, 1e5),
        st.sampled_from(["steps", "epochs"]),
        st.integers(2, 8),
        st.integers(2, 10),
    )
    def test_they_grow_and_the_full_one_is_last(self, amount: float, unit: str, rungs: int, reduction: int) -> None:
        full = Horizon(amount, unit)
        found = [h.amount for h in Fidelity("ladder", rungs, reduction).ladder(full)]
        assert found == sorted(set(found))
        assert found[-1] == amount
        assert len(found) <= rungs
        assert all(short >= LEAST[unit] and short == int(short) for short in found[:-1])


class TestInAStudyFile:
    def test_the_default_is_the_ladder_where_the_sampler_can_climb(self) -> None:
        assert study("").fidelity.kind == "ladder"
        assert study("sampler: sobol").fidelity.kind == "ladder"
        assert study("sampler: tpe").fidelity.kind == "full"
        assert study("").rung_costs == pytest.approx((1 / 9, 1 / 3, 1.0))

    def test_a_sampler_that_cannot_is_refused_on_it(self) -> None:
        with pytest.raises(InputError, match="is 'tpe'; expected one of surrogate, random, sobol with"):
            study("sampler: tpe\nfidelity: ladder")

    def test_a_rung_beyond_the_horizon_is_refused(self) -> None:
        with pytest.raises(InputError, match="has a rung of 9 epochs, and the full horizon is 9 epochs"):
            study("fidelity: {kind: ladder, horizons: [1, 9]}")

    def test_the_allocation(self) -> None:
        assert [study(text).allocation for text in ("", "allocation: optimise")] == ["compare", "optimise"]
        with pytest.raises(InputError, match="allocation is 'best'"):
            study("allocation: best")
