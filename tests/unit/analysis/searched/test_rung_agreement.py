"""Whether short runs rank settings as full ones do."""

from __future__ import annotations

import pytest
from analysis.records import Book, make_spec, started
from hypothesis import given
from hypothesis import strategies as st

from tuner.analysis.analysis import Analysis
from tuner.analysis.caveats import caveats_of
from tuner.analysis.searched.rung_agreement import RungAgreement, best_known, rank_correlation, rung_agreements
from tuner.analysis.verdict.contest import contest
from tuner.analysis.verdict.family import FamilyVerdict
from tuner.analysis.verdict.kinds import VerdictKind
from tuner.core.records import Horizon, Outcome


def both(short: list[float], full: list[float | Outcome], **changes: object) -> Book:
    """Settings of sgdm that trained one epoch and three."""
    book = Book(make_spec(("sgdm",), budget={"trials_per_arm": 12}, **changes)).search({"sgdm": short})
    book.shorten("sgdm", *range(len(short)))
    for trial, value in enumerate(full):
        book.climb("sgdm", trial, value)
    return book


def of(book: Book) -> RungAgreement:
    (row,) = rung_agreements(book.records)
    return row


class TestAgreement:
    def test_of_the_settings_on_both(self) -> None:
        row = of(both([0.1, 0.2, 0.3, 0.4, 0.9], [0.5, 0.6, 0.7, 0.8]))
        assert row == RungAgreement("sgdm", Horizon(1, "epochs"), Horizon(3, "epochs"), 4, 1.0)
        assert of(both([0.1, 0.2, 0.3, 0.4], [0.8, 0.7, 0.6, 0.5])).correlation == -1.0

    def test_a_full_run_that_diverged_is_the_worst(self) -> None:
        assert of(both([0.4, 0.1, 0.2, 0.3], [Outcome.DIVERGED, 0.5, 0.6, 0.7])).correlation == pytest.approx(-0.2)

    def test_a_lost_one_tells_nothing(self) -> None:
        assert of(both([0.4, 0.1, 0.2, 0.3], [Outcome.LOST, 0.5, 0.6, 0.7])).n == 3

    def test_takes_four_pairs_and_an_order(self) -> None:
        assert of(both([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])).correlation is None
        assert of(both([0.1, 0.1, 0.1, 0.1], [0.5, 0.6, 0.7, 0.8])).correlation is None

    def test_less_is_better_makes_no_difference(self) -> None:
        book = both([0.1, 0.3, 0.2, 0.4], [0.5, 0.6, 0.7, 0.8])
        other = both(
            [0.1, 0.3, 0.2, 0.4], [0.5, 0.6, 0.7, 0.8], metric={"name": "val_accuracy", "direction": "minimize"}
        )
        assert of(book) == of(other)

    def test_there_is_none_where_every_run_is_a_full_one(self) -> None:
        book = started(fidelity="full")
        assert rung_agreements(book.records) == ()
        assert Analysis(book.records).findings.to_json()["rungs"] == []

    def test_the_rung_that_tells_most(self) -> None:
        one, two, three, four, full = (Horizon(amount, "epochs") for amount in (1, 2, 3, 4, 9))
        rows = [RungAgreement("a", rung, full, n, 0.5) for rung, n in ((one, 4), (two, 6), (three, 6), (four, 1))]
        assert [row.horizon for row in best_known(rows)] == [three]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=12))
def test_a_rank_correlation_is_symmetric_and_within_one(pairs: list[tuple[int, int]]) -> None:
    rho = rank_correlation([(float(a), float(b)) for a, b in pairs])
    swapped = rank_correlation([(float(b), float(a)) for a, b in pairs])
    assert (rho is None) == (swapped is None)
    if rho is not None and swapped is not None:
        assert rho == pytest.approx(swapped)
        assert -1.0 <= rho <= 1.0


def test_the_caveat_says_where_the_short_horizon_lies() -> None:
    def codes(book: Book) -> dict[str, str]:
        family = FamilyVerdict(VerdictKind.NOT_ASSESSED, "one arm")
        caveats = caveats_of(book.records, rung_agreements(book.records), contest(book.records), family)
        return {caveat.code: caveat.text for caveat in caveats}

    lies = codes(both([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.6, 0.5, 0.9, 0.3, 0.7, 0.8]))
    assert lies["short_horizon_lies"].startswith(
        "Short runs rank sgdm's settings differently from full runs (rank correlation 0.3 over 6 settings)"
    )
    assert "short_horizon_lies" not in codes(both([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]))
