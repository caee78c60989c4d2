"""What the search taught, on trials whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.records import Book, make_spec
from tuner.analysis.searched.edges import edges
from tuner.analysis.searched.points import Point, points_of, scored
from tuner.analysis.searched.sensitivity import in_words, sensitivity
from tuner.analysis.searched.tuning_curves import band_ranks, tuning_curve
from tuner.config.space import Dimension
from tuner.core.records import Outcome, Setting, Source, TrialRecord
from tuner.search.importance import FEWEST, importance
from tuner.study_records import StudyRecords

SETTING = Setting("adamw", {"learning_rate": 0.1}, {"kind": "constant"})
RATE = Dimension("learning_rate", 1e-5, 1.0, log=True)
BAD = Outcome.DIVERGED


def point(index: int, value: float | Outcome, rate: float = 0.1, source: Source = Source.RANDOM) -> Point:
    trial = TrialRecord("adamw", index, source, SETTING, {"learning_rate": rate})
    return Point(trial, value) if isinstance(value, Outcome) else Point(trial, Outcome.COMPLETED, value)


class TestExplored:
    def test_a_trial_without_a_value_is_told_by_how_it_ended(self) -> None:
        book = Book(make_spec()).search({"sgdm": (0.9, BAD, Outcome.FAILED, Outcome.LOST), "adamw": (0.5,)})
        book.runs[0] = replace(
            book.runs[0], spec=replace(book.runs[0].spec, horizon=replace(book.spec.horizon, amount=1))
        )
        points = points_of(book.records)
        assert [p.outcome for p in points["sgdm"]] == [Outcome.PRUNED, BAD, Outcome.FAILED]
        assert points["adamw"][0].value == 0.5

    def test_scores_point_up_and_leave_out_what_tells_nothing(self) -> None:
        points = [point(0, 0.3), point(1, BAD), point(2, Outcome.PRUNED)]
        assert [score for _, score in scored(points, -1)] == [-0.3, -math.inf]


class TestTuningCurves:
    def test_medians_of_the_best_are_quantiles_of_the_sample(self) -> None:
        curve = tuning_curve("a", [point(i, float(i)) for i in range(4)], sign=1)
        assert curve.budgets == (1, 2, 3, 4)
        assert curve.median == (1.0, 2.0, 3.0, 3.0)

    def test_less_is_better_mirrors_it(self) -> None:
        up = tuning_curve("a", [point(i, float(i)) for i in range(9)], sign=1)
        down = tuning_curve("a", [point(i, -float(i)) for i in range(9)], sign=-1)
        assert [-v for v in down.median if v is not None] == list(up.median)
        assert [None if v is None else -v for v in down.bands[0].worst] == list(up.bands[0].worst)

    def test_the_wider_band_holds_the_narrower_one(self) -> None:
        for n in (4, 12, 40, 150):
            (low, middle, high), (lower, _, higher) = band_ranks(n, 0.9), band_ranks(n, 0.95)
            assert all(a <= b <= c <= d <= e for a, b, c, d, e in zip(lower, low, middle, high, higher, strict=True))

    def test_the_band_covers_the_whole_true_curve_as_often_as_it_says(self) -> None:
        n, studies = 12, 2_000
        low, _, high = (np.array(row) for row in band_ranks(n, 0.9))
        draws = np.sort(np.random.default_rng(0).random((studies, n)), axis=1)
        ladder = np.hstack([np.zeros((studies, 1)), draws, np.ones((studies, 1))])
        truth = 0.5 ** (1 / np.arange(1, n + 1))
        covered = ((ladder[:, low + 1] <= truth) & (truth <= ladder[:, high + 1])).all(axis=1).mean()
        assert 0.88 <= covered <= 1.0

    def test_diverged_trials_are_the_worst(self) -> None:
        curve = tuning_curve("a", [point(0, BAD), point(1, BAD), point(2, BAD), point(3, 0.5), point(4, 0.6)], sign=1)
        assert curve.median[0] is None
        assert curve.median[-1] == 0.6
        assert (curve.n, curve.diverged) == (5, 3)

    @pytest.mark.parametrize(
        ("values", "source", "reason"),
        [
            ((0.1, 0.2, 0.3), Source.RANDOM, "at least 4"),
            ((0.1, 0.2, 0.3, 0.4), Source.MODEL, "0 independent"),
            ((0.1, 0.2, 0.3, 0.4, Outcome.PRUNED), Source.SOBOL, "chosen by early results"),
            ((BAD, BAD, BAD, BAD), Source.SOBOL, "all 4 independent trials diverged"),
        ],
    )
    def test_no_curve_without_a_sample(self, values: tuple[float | Outcome, ...], source: Source, reason: str) -> None:
        curve = tuning_curve("a", [point(i, value, source=source) for i, value in enumerate(values)], sign=1)
        assert not curve.budgets
        assert reason in curve.reason

    def test_sobol_points_are_said_to_be_no_independent_draws(self) -> None:
        curve = tuning_curve("a", [point(i, float(i), source=Source.SOBOL) for i in range(5)], sign=1)
        assert "Sobol" in curve.reason


class TestSensitivity:
    def test_the_range_of_good_rates(self) -> None:
        rates = [1e-4, 1e-3, 1e-2, 1e-1, 0.5, 0.9]
        values: list[float | Outcome] = [0.5, 0.90, 0.95, 0.91, 0.2, BAD]
        points = [point(i, v, rate=r) for i, (r, v) in enumerate(zip(rates, values, strict=True))]
        row = sensitivity("a", RATE, points, 1, 0.06)
        assert (row.low, row.high, row.best, row.good, row.n) == (1e-3, 1e-1, 1e-2, 3, 5)
        assert row.decades == pytest.approx(2.0)
        assert row.searched == pytest.approx(5.0)
        assert row.cliff == pytest.approx(math.log10(90))
        assert "decades above the best rate" in in_words(row)

    def test_without_a_smallest_effect_a_tenth_of_the_spread(self) -> None:
        points = [point(i, v, rate=10.0 ** -(i + 1)) for i, v in enumerate((0.0, 0.5, 1.0, 0.96, 0.0))]
        assert sensitivity("a", RATE, points, 1, None).tolerance == pytest.approx(0.05)

    def test_too_few_trials_and_no_rate(self) -> None:
        assert "at least 5" in sensitivity("a", RATE, [point(0, 0.5)], 1, 0.1).reason
        assert "not searched" in sensitivity("a", None, [point(0, 0.5)], 1, 0.1).reason


class TestImportance:
    def rows(self, n: int) -> tuple[Book, list[tuple[dict[str, float], float]]]:
        book = Book(make_spec())
        space = book.spec.space.arm("adamw")
        rng = np.random.default_rng(1)
        rows = []
        for _ in range(n):
            u, v = rng.random(2)
            axes = {"learning_rate": u, "weight_decay": v}
            rows.append(({d.name: d.at(axes[d.name]) for d in space.dimensions}, -abs(u - 0.7)))
        return book, rows

    def test_what_decides_stands_out_and_the_rest_does_not(self) -> None:
        book, rows = self.rows(40)
        row = importance(book.spec.space.arm("adamw"), rows)
        assert [share.name for share in row.shares] == ["learning_rate", "weight_decay"]
        assert [share.stands_out for share in row.shares] == [True, False]
        assert sum(share.share for share in row.shares) == pytest.approx(1.0)
        assert importance(book.spec.space.arm("adamw"), rows) == row

    def test_reasons(self) -> None:
        book, rows = self.rows(FEWEST)
        space = book.spec.space
        assert f"takes {FEWEST}" in importance(space.arm("adamw"), rows[1:]).reason
        assert "same value" in importance(space.arm("adamw"), [(at, 1.0) for at, _ in rows]).reason
        assert (
            "nothing to compare"
            in importance(
                space.arm("sgdm"), [({"effective_learning_rate": 1.0 + i}, float(i)) for i in range(FEWEST)]
            ).reason
        )


def test_edges_name_the_side_of_each_finalist() -> None:
    book = Book(make_spec()).search({"sgdm": (0.5, 0.9), "adamw": (0.5, 0.9)})
    at = {"sgdm": {"effective_learning_rate": 90.0}, "adamw": {"learning_rate": 1.1e-5, "weight_decay": 0.01}}
    trials = [replace(t, coordinates=at[t.arm]) for t in book.trials]
    touched = edges(StudyRecords.of(book.spec, trials, ()), {"sgdm": 1, "adamw": 1})
    assert [(e.arm, e.dimension.name, e.side) for e in touched] == [
        ("sgdm", "effective_learning_rate", "upper"),
        ("adamw", "learning_rate", "lower"),
    ]
