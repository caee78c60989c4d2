"""The claim about families: known answers, symmetries, and its error over the whole procedure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from analysis.records import Book, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.analysis.analysis import Analysis
from tuner.analysis.verdict.family import (
    FamilyVerdict,
    curve_weights,
    fewest_trials,
    permutation_test,
    share_within,
)
from tuner.core.records import Outcome, Source

GOOD = (0.90, 0.93, 0.94, 0.95, 0.96, 0.92)
POOR = (0.80, 0.83, 0.84, 0.85, 0.86, 0.82)
small = st.lists(st.sampled_from([-math.inf, 0.1, 0.2, 0.3, 0.5, 0.9]), min_size=1, max_size=5)


def judged(
    values: dict[str, Sequence[float | Outcome]], fresh: dict[str, Sequence[float]], **changes: object
) -> FamilyVerdict:
    book = Book(make_spec(tuple(values), budget={"trials_per_arm": 6}, **changes)).search(values).confirm(fresh)
    return Analysis(book.records).evidence.family


def spread(mean: float, seed: int = 0) -> list[float]:
    return list(mean + 0.004 * np.random.default_rng(seed).normal(size=10))


class TestTheTest:
    def test_the_weights_are_the_expected_best_of_k_over_all_subsets(self) -> None:
        values = np.array([1.0, 2.0, 5.0, 7.0, 11.0])
        for most in (1, 3, 5):
            best = [np.mean([max(chosen) for chosen in itertools.combinations(values, k)]) for k in range(1, most + 1)]
            assert values @ np.array(curve_weights(5, most)) == pytest.approx(np.mean(best))

    @given(small, small)
    @settings(max_examples=40, deadline=None)
    def test_swapping_the_arms_turns_the_gap_and_keeps_p(self, a: list[float], b: list[float]) -> None:
        p, gap = permutation_test(np.array(a), np.array(b))
        q, pag = permutation_test(np.array(b), np.array(a))
        assert (p, gap) == (pytest.approx(q), pytest.approx(-pag))
        assert 0.0 < p <= 1.0

    def test_only_ranks_matter(self) -> None:
        a, b = np.array([0.3, 0.9, 0.7, 0.8]), np.array([0.2, 0.1, 0.6, -math.inf])
        assert permutation_test(a, b) == permutation_test(np.exp(9 * a), np.exp(9 * b))

    def test_random_deals_agree_with_all_deals(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(0)
        a, b = rng.normal(0.8, 1.0, 7), rng.normal(0.0, 1.0, 6)
        exact = permutation_test(a, b)[0]
        monkeypatch.setattr("tuner.analysis.verdict.family.EXACT_UP_TO", 10)
        assert permutation_test(a, b)[0] == pytest.approx(exact, abs=0.01)

    @pytest.mark.parametrize(("m", "n"), [(4, 4), (8, 8), (6, 10)])
    def test_exchangeable_trials_are_rejected_in_at_most_five_percent(self, m: int, n: int) -> None:
        rng = np.random.default_rng(1)
        ps = [permutation_test(rng.normal(size=m), rng.normal(size=n))[0] for _ in range(800)]
        assert np.mean(np.array(ps) <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 800)

    def test_three_trials_an_arm_cannot_reach_the_level(self) -> None:
        assert fewest_trials(0.05) == 4
        assert permutation_test(np.array([7.0, 8.0, 9.0]), np.array([1.0, 2.0, 3.0]))[0] == pytest.approx(0.1)

    def test_half_samples_within_the_margin(self) -> None:
        same = np.array([0.90, 0.91, 0.92, 0.93])
        assert share_within(same, same + 0.001, 0.1) == 1.0
        assert share_within(same, same - 0.5, 0.1) == 0.0
        assert share_within(np.full(4, -math.inf), same, 0.1) == 0.0


class TestTheVerdict:
    def test_a_family_whose_searches_and_finalist_are_better(self) -> None:
        family = judged({"sgdm": GOOD, "adamw": POOR}, {"sgdm": spread(0.96), "adamw": spread(0.86, 1)})
        assert (family.kind, family.arm, family.camp) == ("winner", "sgdm", "sgdm")
        assert family.p == pytest.approx(2 / math.comb(10, 5))

    def test_one_lucky_trial_is_not_a_better_family(self) -> None:
        lucky = (0.90, 0.83, 0.96, 0.84, 0.82, 0.85)
        family = judged({"sgdm": lucky, "adamw": POOR}, {"sgdm": spread(0.96), "adamw": spread(0.86, 1)})
        assert (family.kind, family.arm) == ("inconclusive", None)
        assert "with better luck in its search" in family.reason

    def test_the_search_alone_names_no_family(self) -> None:
        family = judged({"sgdm": GOOD, "adamw": POOR}, {"sgdm": spread(0.9525), "adamw": spread(0.95, 1)})
        assert family.kind == "inconclusive"
        assert family.seeds_needed is not None

    def test_two_arms_of_the_other_camp_make_a_camp_better(self) -> None:
        values = {"sgdm": GOOD, "adamw": POOR, "nag": tuple(v - 0.001 for v in GOOD)}
        fresh = {"sgdm": spread(0.96), "adamw": spread(0.86, 1), "nag": spread(0.90, 2)}
        family = judged(values, fresh)
        assert (family.kind, family.arm, family.camp) == ("winner", None, "sgdm")
        assert "but may explain that over nag" in family.reason

    def test_a_tie_of_the_finalists_and_of_the_searches(self) -> None:
        values = {"sgdm": GOOD, "adamw": tuple(v + 0.0002 for v in GOOD)}
        fresh = {"sgdm": spread(0.95), "adamw": [v + 0.0001 * (-1) ** i for i, v in enumerate(spread(0.95))]}
        family = judged(values, fresh, confirmation={"min_effect": 0.04})
        assert family.kind == "tie"
        narrow = judged(values, fresh, confirmation={"min_effect": 0.002})
        assert (narrow.kind, "luck of the search is too large" in narrow.reason) == ("inconclusive", True)

    def test_too_few_independent_trials(self) -> None:
        family = judged({"sgdm": GOOD[:4], "adamw": POOR[:4]}, {"sgdm": spread(0.95), "adamw": spread(0.85, 1)})
        assert family.kind == "not_assessed"
        assert "3 independent trials" in family.reason

    def test_what_a_model_proposed_does_not_count(self) -> None:
        book = Book(make_spec(budget={"trials_per_arm": 6})).search({"sgdm": GOOD, "adamw": POOR})
        book.trials = [replace(t, source=Source.MODEL) if t.index > 3 else t for t in book.trials]
        book.confirm({"sgdm": spread(0.96), "adamw": spread(0.86, 1)})
        evidence = Analysis(book.records).evidence
        assert evidence.family.kind == "not_assessed"
        assert "one_search_only" in {c.code for c in evidence.caveats}

    def test_trials_that_a_ladder_chose_are_no_fair_sample(self) -> None:
        book = Book(make_spec(budget={"trials_per_arm": 6})).search({"sgdm": GOOD, "adamw": POOR})
        run = next(run for run in book.runs if run.spec.trial == 5)
        brief = replace(run.spec, horizon=replace(book.spec.horizon, amount=1))
        book.runs = [replace(r, spec=brief) if r is run else r for r in book.runs]
        book.confirm({"sgdm": spread(0.96), "adamw": spread(0.86, 1)})
        family = Analysis(book.records).evidence.family
        assert family.kind == "not_assessed"
        assert "early results decided which of sgdm's trials reached the full horizon" in family.reason

    def test_diverged_trials_are_the_worst_and_lost_ones_are_missing(self) -> None:
        bad = (0.8, Outcome.DIVERGED, Outcome.FAILED, 0.85, 0.86, Outcome.DIVERGED)
        family = judged({"sgdm": GOOD, "adamw": bad}, {"sgdm": spread(0.96), "adamw": spread(0.86, 1)})
        assert family.kind == "winner"
        gone = (0.8, Outcome.LOST, Outcome.LOST, 0.85, 0.86, Outcome.LOST)
        family = judged({"sgdm": GOOD, "adamw": gone}, {"sgdm": spread(0.96), "adamw": spread(0.86, 1)})
        assert family.kind == "not_assessed"

    def test_one_arm_and_no_confirmation(self) -> None:
        assert judged({"sgdm": GOOD}, {"sgdm": spread(0.96)}).kind == "not_assessed"
        assert judged({"sgdm": GOOD, "adamw": POOR}, {}).kind == "not_assessed"
