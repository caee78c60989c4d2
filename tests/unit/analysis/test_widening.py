"""Whether a search goes on in wider ranges: at which edges, how far, how often, with how many trials."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.analysis.analysis import Analysis
from tuner.analysis.searched.edges import Edge
from tuner.analysis.searched.points import points_of
from tuner.analysis.widening import more_trials, moved, widened
from tuner.config.space import Dimension
from tuner.config.spec import StudySpec
from tuner.config.stored import stored_spec
from tuner.core.records import Phase, RunRequest, Source, TrialRecord
from tuner.study_records import StudyRecords

from .records import Book, make_spec

RATE = {"low": 1e-4, "high": 1e-2, "scale": "log"}
MOMENTUM = {"low": 0.3, "high": 0.9, "scale": "log"}


def make(trials: int = 4, **changes: Any) -> StudySpec:
    arms = {"adamw": {"learning_rate": RATE}, "sgdm": {"learning_rate": RATE, "one_minus_momentum": MOMENTUM}}
    space = {"name": "s", "schedule": {"kind": "cosine"}, "arms": arms}
    return make_spec(("adamw", "sgdm"), space=space, budget={"trials_per_arm": trials}, widen=True, **changes)


def searched(spec: StudySpec, best: dict[str, dict[str, float]]) -> Book:
    """A search in which the second of two trials is the best of its arm, at these coordinates."""
    book = Book(spec)
    for arm in spec.arms:
        inside = {d.name: d.at(0.5) for d in arm.dimensions}
        for index, coordinates in enumerate((inside, {**inside, **best.get(arm.arm, {})})):
            book.trials.append(TrialRecord(arm.arm, index, Source.SOBOL, arm.decode(coordinates), coordinates))
            book.end(RunRequest(arm.arm, index, Phase.EXPLORE, spec.search_seed), 0.5 + 0.1 * index)
    return book


def asked(book: Book) -> StudySpec | None:
    return widened(book.records)


class TestWidened:
    def test_the_side_at_which_the_best_trial_lies(self) -> None:
        spec = asked(searched(make(), {"adamw": {"learning_rate": 9e-3}}))
        assert spec is not None
        ends = [(d.low, d.high) for arm in spec.arms for d in arm.dimensions]
        assert ends == [(1e-4, 0.1), (1e-4, 1e-2), (0.3, 0.9)]
        assert [(m.arm, m.side, m.old, m.new) for m in spec.widened[0].moved] == [("adamw", "upper", 1e-2, 0.1)]

    def test_every_arm_gets_the_same_more(self) -> None:
        spec = asked(searched(make(20), {"adamw": {"learning_rate": 1.1e-4}}))
        assert spec is not None
        assert (spec.budget.trials_per_arm, spec.widened[0].trials, spec.opened_for) == (25, 5, 20)
        assert spec.widened[0].proposed == {"adamw": 2, "sgdm": 2}

    def test_reads_back_the_same(self) -> None:
        spec = asked(searched(make(), {"adamw": {"learning_rate": 1e-4}, "sgdm": {"learning_rate": 1e-2}}))
        assert spec is not None
        assert stored_spec(spec.to_json(), spec.name) == spec

    def test_at_most_twice(self) -> None:
        first = asked(searched(make(12), {"adamw": {"learning_rate": 9e-3}}))
        assert first is not None
        second = asked(searched(first, {"adamw": {"learning_rate": 0.09}}))
        assert second is not None
        assert (second.budget.trials_per_arm, more_trials(second)) == (18, 3)
        assert second.space.arm("adamw").dimensions[0].high == 1.0
        assert asked(searched(second, {"adamw": {"learning_rate": 0.9}})) is None

    def test_not_inside_and_not_unasked(self) -> None:
        assert asked(searched(make(), {})) is None
        book = searched(make(), {"adamw": {"learning_rate": 9e-3}})
        assert widened(replace(book.records, spec=replace(book.spec, widen=False))) is None

    def test_not_beyond_what_it_means(self) -> None:
        once = asked(searched(make(12), {"sgdm": {"one_minus_momentum": 0.89}}))
        assert once is not None
        assert once.widened[0].moved[0].new == 1.0
        assert asked(searched(once, {"sgdm": {"one_minus_momentum": 1.0}})) is None


@given(
    low=st.floats(1e-8, 1.0),
    width=st.floats(1.01, 1e6),
    log=st.booleans(),
    side=st.sampled_from(["lower", "upper"]),
    room=st.floats(0.0, 1e3),
)
def test_an_end_moves_outwards_and_never_beyond_the_bounds(
    low: float, width: float, log: bool, side: str, room: float
) -> None:
    high = low * width
    d = Dimension("x", low, high, log=log, least=low - room * low / 1001, most=high * (1 + room))
    wider = moved(Edge("adamw", d, low, side)).applied(d)
    assert d.least <= wider.low <= d.low < d.high <= wider.high <= d.most
    assert wider.low > 0 or not log
    assert (wider.low == d.low) if side == "upper" else (wider.high == d.high)
    assert all(wider.contains(d.at(u)) for u in (0.0, 0.5, 0.999))


class TestWhatIsSaid:
    def test_the_range_and_the_trials(self) -> None:
        spec = asked(searched(make(), {"adamw": {"learning_rate": 9e-3}}))
        assert spec is not None
        book = searched(spec, {"adamw": {"learning_rate": 0.05}})
        texts = [
            c.text
            for c in Analysis(StudyRecords(spec, tuple(book.trials), tuple(book.runs))).evidence.caveats
            if c.code == "range_widened"
        ]
        assert len(texts) == 1
        assert texts[0].startswith("learning_rate of adamw was widened at its upper end from 0.01 to 0.1, because ")
        assert texts[0].endswith("Every arm got 2 more full runs.")

    def test_twice_is_one_sentence(self) -> None:
        first = asked(searched(make(), {"adamw": {"learning_rate": 9e-3}}))
        assert first is not None
        second = asked(searched(first, {"adamw": {"learning_rate": 0.09}}))
        assert second is not None
        book = searched(second, {})
        texts = [
            c.text
            for c in Analysis(StudyRecords(second, tuple(book.trials), tuple(book.runs))).evidence.caveats
            if c.code == "range_widened"
        ]
        assert len(texts) == 1
        assert "from 0.01 to 1, because" in texts[0]
        assert "Every arm got 4 more" in texts[0]

    def test_the_alarm_alone_names_the_choice(self) -> None:
        book = searched(replace(make(), widen=False), {"adamw": {"learning_rate": 9e-3}})
        caveats = {c.code: c.text for c in Analysis(book.records).evidence.caveats}
        assert "with widen: true a study does so by itself" in caveats["edge_of_range"]
        assert "range_widened" not in caveats


def test_trials_of_wider_ranges_are_not_independent() -> None:
    spec = asked(searched(make(), {"adamw": {"learning_rate": 9e-3}}))
    assert spec is not None
    book = searched(spec, {})
    book.trials.append(replace(book.trials[0], index=2))
    book.end(RunRequest("adamw", 2, Phase.EXPLORE, spec.search_seed), 0.4)
    points = points_of(StudyRecords(spec, tuple(book.trials), tuple(book.runs)))
    assert [point.independent for point in points["adamw"]] == [True, True, False]
    assert [point.independent for point in points["sgdm"]] == [True, True]
    assert not math.isnan(points["adamw"][2].value or math.nan)


@pytest.mark.parametrize(("trials", "more"), [(1, 2), (8, 2), (9, 3), (12, 3), (100, 25)])
def test_a_quarter_more_and_two_at_least(trials: int, more: int) -> None:
    assert more_trials(make(trials)) == more
