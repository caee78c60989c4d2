from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from analysis.records import SPACE, Book, make_spec, started
from analysis.simulated import simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import Evidence
from tuner.analysis.verdict.advice import chance, search_seeds
from tuner.analysis.verdict.contest import contest
from tuner.core.errors import NoEvidence
from tuner.core.records import Outcome

Values = Sequence[float | Outcome]
BAD, LOST = Outcome.DIVERGED, Outcome.LOST
seed_values = st.lists(
    st.tuples(st.sampled_from([0.5, 0.6, 0.7, 0.75, BAD, LOST]), st.sampled_from([0.5, 0.55, 0.6, 0.65, BAD, LOST])),
    min_size=10,
    max_size=10,
)


def judge(a: Values, b: Values, arms: tuple[str, str] = ("sgdm", "adamw"), **changes: object) -> Evidence:
    book = started(arms, **changes).confirm({arms[0]: a, arms[1]: b})
    return Analysis(book.records).evidence


def spread(mean: float, n: int = 10, scale: float = 0.004, seed: int = 0) -> list[float]:
    return list(mean + scale * np.random.default_rng(seed).normal(size=n))


class TestKinds:
    def test_winner(self) -> None:
        evidence = judge(spread(0.95), spread(0.90, seed=1))
        assert (evidence.verdict.kind, evidence.verdict.arm, evidence.verdict.camp) == ("winner", "sgdm", "sgdm")
        assert evidence.arm == "sgdm"
        assert "better than those of adamw" in evidence.verdict.sentence

    def test_tie_goes_to_the_cheaper_even_if_its_mean_is_lower(self) -> None:
        noise = spread(0.0)
        evidence = judge([0.950 + x for x in noise], [0.9501 + x + 1e-5 * (-1) ** i for i, x in enumerate(noise)],
                      confirmation={"min_effect": 0.002, "alpha": 0.0005})  # fmt: skip
        assert (evidence.verdict.kind, evidence.verdict.arm, evidence.arm) == ("tie", None, "sgdm")
        assert evidence.verdict.seeds_needed is None
        assert "cheapest" in evidence.why

    def test_a_tie_of_equal_state_goes_to_the_faster(self) -> None:
        for fast in ("adam", "adamw"):
            book = started(("adam", "adamw"))
            book.step_seconds = {fast: 0.005}
            book = Book(book.spec, step_seconds=book.step_seconds)
            book.search(dict.fromkeys(("adam", "adamw"), (0.9, 0.91, 0.95, 0.93)))
            book.confirm({arm: spread(0.95) for arm in ("adam", "adamw")})
            assert Analysis(book.records).evidence.arm == fast

    def test_inconclusive_says_how_many_seeds_would_settle_it(self) -> None:
        evidence = judge(spread(0.9525), spread(0.95, seed=1))
        assert evidence.verdict.kind == "inconclusive"
        assert evidence.verdict.seeds_needed is not None
        assert 10 < evidence.verdict.seeds_needed <= 1000
        assert str(evidence.verdict.seeds_needed) in evidence.verdict.sentence
        assert evidence.arm == "sgdm"

    def test_more_than_a_thousand_seeds_in_words(self) -> None:
        a, b = spread(0.9502, 40), spread(0.95, 40, seed=1)
        evidence = judge(a, b, confirmation={"min_effect": 0.0, "seeds": 40})
        assert evidence.verdict.seeds_needed is None
        assert "more than 1,000" in evidence.verdict.reason

    def test_nothing_confirmed(self) -> None:
        book = started(confirmation={"max_runs": 0})
        evidence = Analysis(book.records).evidence
        assert evidence.verdict.kind == "inconclusive"
        assert evidence.expected.source == "search"
        assert "not_confirmed" in {c.code for c in evidence.caveats}

    def test_no_completed_run(self) -> None:
        book = Book(make_spec()).search({"sgdm": (BAD,), "adamw": (BAD,)})
        with pytest.raises(NoEvidence, match="2 diverged"):
            _ = Analysis(book.records).evidence

    def test_identical_runs_tie(self) -> None:
        evidence = judge([0.9] * 10, [0.9] * 10)
        assert evidence.verdict.kind == "tie"
        assert evidence.pairs[0].p == 1.0

    def test_five_pairs_are_too_few_and_it_says_so(self) -> None:
        evidence = judge([0.95] * 5, [0.90] * 5, confirmation={"seeds": 5, "min_effect": 0.001})
        assert evidence.verdict.kind == "inconclusive"
        assert "can never be significant" in evidence.verdict.reason
        assert "few_seeds" in {c.code for c in evidence.caveats}

    def test_three_arms_the_best_must_beat_both(self) -> None:
        book = started(("sgdm", "adamw", "nag"))
        book.confirm({"sgdm": spread(0.96), "adamw": spread(0.90, seed=1), "nag": spread(0.9585, seed=2)})
        evidence = Analysis(book.records).evidence
        assert evidence.verdict.kind == "inconclusive"
        by_name = {(p.a, p.b): p.verdict for p in evidence.pairs}
        assert by_name["sgdm", "adamw"] == "a"

    def test_an_unfinished_confirmation_waits_for_its_look(self) -> None:
        evidence = judge([0.95] * 6, [0.90] * 6)
        assert evidence.verdict.kind == "inconclusive"
        assert "6 of 7" in evidence.verdict.reason


class TestLostPairs:
    def test_a_diverged_run_loses_its_pair_even_against_the_worst_value(self) -> None:
        evidence = judge([0.9] * 10, [BAD] * 7)
        assert (evidence.verdict.kind, evidence.verdict.arm) == ("winner", "sgdm")
        assert evidence.pairs[0].prob_a_better == 1.0

    def test_two_diverged_runs_draw_but_arms_without_a_completed_run_do_not_tie(self) -> None:
        evidence = judge([BAD] * 10, [BAD] * 10, confirmation={"min_effect": 0.1})
        assert evidence.pairs[0].difference == 0.0
        assert (evidence.verdict.kind, evidence.verdict.seeds_needed) == ("inconclusive", None)
        assert evidence.verdict.reason == "every run on fresh seeds diverged or failed"
        assert (evidence.why, evidence.expected.source) == ("it leads in the search", "search")

    def test_an_arm_without_a_completed_run_ties_with_nobody(self) -> None:
        evidence = judge([0.9] * 5, [BAD] * 5, confirmation={"min_effect": 0.1, "seeds": 5})
        assert (evidence.verdict.kind, evidence.arm) == ("inconclusive", "sgdm")
        assert evidence.verdict.reason.endswith("; every run of adamw on fresh seeds diverged or failed")

    def test_a_failed_run_counts_like_a_diverged_one(self) -> None:
        a, b = spread(0.95), spread(0.949, seed=1)
        one, two = judge(a, [*b[:9], BAD]), judge(a, [*b[:9], Outcome.FAILED])
        assert one.pairs == two.pairs

    def test_a_lost_run_is_a_missing_pair(self) -> None:
        evidence = judge(spread(0.95), [*spread(0.949, 9, seed=1), LOST])
        assert evidence.pairs[0].n_pairs == 9
        assert "lost_runs" in {c.code for c in evidence.caveats}

    @given(seed_values, st.integers(0, 9))
    @settings(max_examples=25, deadline=None)
    def test_diverging_never_helps(self, rows: list[tuple[float | Outcome, float | Outcome]], where: int) -> None:
        a, b = [x for x, _ in rows], [y for _, y in rows]
        pair = judge([*a[:where], 0.5, *a[where + 1 :]], b).pairs[0]
        worse = judge([*a[:where], BAD, *a[where + 1 :]], b).pairs[0]
        if pair.difference is not None:
            assert worse.difference is not None
            assert pair.prob_a_better is not None
            assert worse.prob_a_better is not None
            assert worse.prob_a_better <= pair.prob_a_better


class TestSymmetries:
    @given(seed_values)
    @settings(max_examples=25, deadline=None)
    def test_swapping_labels_swaps_the_winner(self, rows: list[tuple[float | Outcome, float | Outcome]]) -> None:
        a, b = [x for x, _ in rows], [y for _, y in rows]
        one, two = judge(a, b), judge(b, a)
        assert (one.verdict.kind, one.verdict.seeds_needed) == (two.verdict.kind, two.verdict.seeds_needed)
        assert one.verdict.arm == {"sgdm": "adamw", "adamw": "sgdm", None: None}[two.verdict.arm]
        assert one.pairs[0].p == two.pairs[0].p

    @given(seed_values)
    @settings(max_examples=25, deadline=None)
    def test_negating_values_and_direction_keeps_the_verdict(
        self, rows: list[tuple[float | Outcome, float | Outcome]]
    ) -> None:
        def minus(values: Values) -> list[float | Outcome]:
            return [v if isinstance(v, Outcome) else -v for v in values]

        a, b = [x for x, _ in rows], [y for _, y in rows]
        one = judge(a, b)
        book = Book(make_spec(metric={"name": "val_accuracy", "direction": "minimize"}))
        book.search(dict.fromkeys(("sgdm", "adamw"), (-0.9, -0.91, -0.95, -0.93)))
        book.confirm({"sgdm": minus(a), "adamw": minus(b)})
        two = Analysis(book.records).evidence
        assert (one.verdict.kind, one.verdict.arm) == (two.verdict.kind, two.verdict.arm)
        assert one.verdict.seeds_needed == two.verdict.seeds_needed
        p, q = one.pairs[0], two.pairs[0]
        assert (p.p, p.verdict, p.prob_a_better, p.n_pairs) == (q.p, q.verdict, q.prob_a_better, q.n_pairs)
        if p.difference is not None and q.difference is not None:
            assert p.difference == pytest.approx(-q.difference)
        if p.ci_low is not None and q.ci_high is not None:
            assert p.ci_low == pytest.approx(-q.ci_high)
            assert p.ci_high == pytest.approx(-(q.ci_low or 0.0))

    @given(seed_values, st.randoms(use_true_random=False))
    @settings(max_examples=25, deadline=None)
    def test_row_order_changes_nothing(
        self, rows: list[tuple[float | Outcome, float | Outcome]], order: random.Random
    ) -> None:
        book = started().confirm({"sgdm": [x for x, _ in rows], "adamw": [y for _, y in rows]})
        before = Analysis(book.records).evidence.to_json()
        order.shuffle(book.runs)
        order.shuffle(book.trials)
        assert Analysis(book.records).evidence.to_json() == before

    @given(st.floats(-10, 10), st.floats(-10, 10), st.integers(1, 20))
    @settings(max_examples=25, deadline=None)
    def test_one_seed_never_yields_a_winner(self, a: float, b: float, planned: int) -> None:
        evidence = judge([a], [b], confirmation={"seeds": max(2, planned)})
        assert evidence.verdict.kind == "inconclusive"


class TestTheRuleOnManyStudies:
    def test_the_simulation_is_the_rule(self) -> None:
        draws = np.random.default_rng(7).normal(size=(3, 12, 10))
        draws[0] += 1.5
        draws[2] -= np.linspace(0, 3, 12)[:, None]
        for study in range(12):
            rows = draws[:, study]
            book = started(("sgdm", "adamw", "nag"))
            book.confirm(dict(zip(("sgdm", "adamw", "nag"), rows.tolist(), strict=True)))
            state = contest(book.records)
            assert simulate(rows[:, None, :])[state.kind] == 1.0

    def test_the_advice_holds_what_it_promises(self) -> None:
        rng = np.random.default_rng(8)
        rows = rng.normal(size=(2, 30))
        rows[0] += 1.0
        n = search_seeds(rows, 0.0025, 0.05, margin=0.1, start=11)
        assert n is not None
        assert chance(rows, n, 0.0025, 0.05, 0.1) >= 0.8 > chance(rows, n - 1, 0.0025, 0.05, 0.1)


class TestEvidence:
    def test_the_json_has_the_contract_and_no_infinity(self) -> None:
        document = judge(spread(0.95), [*spread(0.949, 9, seed=1), BAD]).to_json()
        json.dumps(document, allow_nan=False)
        assert document["schema_version"] == 1
        (study,) = document["studies"]
        assert {"study", "metric", "direction", "alpha", "min_effect", "verdict", "family_verdict"} <= set(study)
        assert {"kind", "arm", "camp", "seeds_needed", "sentence"} <= set(study["verdict"])
        assert study["family_verdict"]["kind"] == "not_assessed"
        assert set(study["family_verdict"]) == {"kind", "arm", "camp", "seeds_needed", "reason", "p"}
        assert study["verdict"]["method"].startswith("paired sign flips")
        assert study["min_effect_source"] == "comparison"
        assert {"arm", "camp", "params", "schedule", "why"} <= set(study["recommended"])
        wanted = {"a", "b", "difference", "ci_low", "ci_high", "p", "p_holm", "prob_a_better", "n_pairs", "verdict"}
        assert wanted == set(study["pairs"][0])
        wanted = {"arm", "best_params", "schedule", "n_trials", "n_runs", "n_diverged", "mean", "ci_low", "ci_high"}
        assert wanted | {"state_bytes_per_param"} <= set(study["arms"][0])
        assert all(set(caveat) == {"code", "text"} for caveat in study["caveats"])

    def test_edge_of_range_spares_the_zeros(self) -> None:
        book = started()
        axes = {d.name: d for d in book.spec.space.arm("adamw").dimensions}
        decay = axes["weight_decay"]
        low = {"learning_rate": axes["learning_rate"].at(0.02), "weight_decay": decay.at(0.01)}
        book.trials = [
            t if (t.arm, t.index) != ("adamw", 2) else type(t)(t.arm, 2, t.source, t.setting, low) for t in book.trials
        ]
        book.confirm({"sgdm": spread(0.9), "adamw": spread(0.95, seed=1)})
        texts = [c.text for c in Analysis(book.records).evidence.caveats if c.code == "edge_of_range"]
        assert len(texts) == 1
        assert texts[0].startswith("learning_rate")
        assert "lower edge" in texts[0]

    def test_an_edge_beyond_which_nothing_lies_is_none(self) -> None:
        book = started(training={"label_smoothing": {"low": 0, "high": 0.2}, "clip_norm": {"low": 0.1, "high": 9}})
        trial = next(t for t in book.trials if (t.arm, t.index) == ("adamw", 2))
        edges = dict(trial.coordinates) | {"training.label_smoothing": 0.0, "training.clip_norm": 0.1}
        book.trials = [replace(t, coordinates=edges) if t is trial else t for t in book.trials]
        book.confirm({"sgdm": spread(0.9), "adamw": spread(0.95, seed=1)})
        texts = [c.text for c in Analysis(book.records).evidence.caveats if c.code == "edge_of_range"]
        assert [text.split(" = ")[0] for text in texts] == ["training.clip_norm"]

    def test_a_schedule_that_followed_the_metric_is_named(self) -> None:
        book = started(space={**SPACE, "schedule": {"kind": "plateau", "signal": "validation"}})
        book.confirm({"sgdm": spread(0.9), "adamw": spread(0.95, seed=1)})
        caveats = [c for c in Analysis(book.records).evidence.caveats if c.code == "schedule_follows_metric"]
        assert [c.text.split(":")[0] for c in caveats] == [
            "The schedule of sgdm follows validation",
            "The schedule of adamw follows validation",
        ]
        assert "takes part in training" in caveats[0].text

    def test_many_diverged_failed_and_cut(self) -> None:
        book = Book(make_spec()).search({"sgdm": (0.9, BAD, BAD), "adamw": (0.8, Outcome.FAILED, 0.7)})
        codes = [c.code for c in Analysis(book.records).evidence.caveats]
        assert {"many_diverged", "failed_runs", "budget_cut", "one_search_only"} <= set(codes)
        assert len(codes) == len(set(codes))

    def test_unequal_camps_and_capped_seeds(self) -> None:
        book = started(("sgdm", "adamw", "nag"), confirmation={"max_runs": 9})
        book.confirm({arm: spread(0.9, 3, seed=i) for i, arm in enumerate(("sgdm", "adamw", "nag"))})
        codes = {c.code for c in Analysis(book.records).evidence.caveats}
        assert {"unequal_camps", "seeds_capped", "few_seeds", "references_capped"} <= codes

    def test_a_real_but_small_difference_is_called_small(self) -> None:
        noise = spread(0.0)
        evidence = judge([0.9502 + x for x in noise], [0.95 + x for x in noise], confirmation={"min_effect": 0.01})
        assert evidence.verdict.kind == "winner"
        assert "small_difference" in {c.code for c in evidence.caveats}
