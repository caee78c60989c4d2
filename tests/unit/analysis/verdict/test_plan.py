from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from analysis.records import Book, make_spec, started

from tuner.analysis.analysis import Analysis
from tuner.analysis.statistics.estimates import pooled_sd
from tuner.analysis.verdict.finalists import competing, finalists
from tuner.analysis.verdict.kinds import Reference
from tuner.analysis.verdict.plan import next_runs, plan_cost
from tuner.core.records import Outcome, Phase, RunRequest, Source, State

CURRENT = {"family": "adamw", "learning_rate": 3e-3}


def noisy(scale: float = 0.004, **means: float):
    rng = random.Random(0)
    return lambda request, index: means.get(request.arm, 0.9) + rng.gauss(0, scale)


def phases(batches: list[tuple[RunRequest, ...]]) -> Counter[Phase]:
    return Counter(request.phase for batch in batches for request in batch)


class TestFinalists:
    def test_the_best_completed_trial_of_each_arm_the_earlier_on_equal_values(self) -> None:
        book = Book(make_spec()).search({"sgdm": (0.9, 0.95, 0.95, 0.1), "adamw": (0.7, Outcome.DIVERGED, 0.6, 0.5)})
        assert finalists(book.records) == {"sgdm": 1, "adamw": 0}

    def test_less_is_better_when_minimizing(self) -> None:
        book = Book(make_spec(metric={"name": "loss", "direction": "minimize"}))
        book.search({"sgdm": (0.9, 0.2, 0.3), "adamw": (0.7, 0.8, 0.1)})
        assert finalists(book.records) == {"sgdm": 1, "adamw": 2}

    def test_only_as_many_proposals_compete_as_every_arm_had(self) -> None:
        book = Book(make_spec(fidelity="full")).search({"sgdm": (0.9, 0.8, 0.99), "adamw": (0.7, Outcome.LOST)})
        assert competing(book.records) == 2
        assert finalists(book.records) == {"sgdm": 0, "adamw": 0}

    def test_an_arm_without_a_completed_run_has_none(self) -> None:
        book = Book(make_spec()).search({"sgdm": (0.9, 0.8), "adamw": (Outcome.DIVERGED, Outcome.FAILED)})
        assert finalists(book.records) == {"sgdm": 0}

    def test_an_arm_that_was_never_served_does_not_stop_the_others(self) -> None:
        book = Book(make_spec()).search({"sgdm": (0.9, 0.95)})
        assert finalists(book.records) == {"sgdm": 1}

    def test_shorter_horizons_do_not_count(self) -> None:
        book = Book(make_spec()).search({"sgdm": (0.9, 0.95), "adamw": (0.5, 0.6)})
        short = replace(book.runs[1].spec, horizon=replace(book.spec.horizon, amount=1))
        book.runs[1] = replace(book.runs[1], spec=short)
        assert finalists(book.records)["sgdm"] == 0


class TestTheWholeWay:
    def test_a_clear_case_stops_at_the_first_look(self) -> None:
        book = started()
        batches = book.follow(noisy(sgdm=0.95, adamw=0.90))
        assert [len(batch) for batch in batches] == [14, 7, 1]
        assert Analysis(book.records).evidence.verdict.arm == "sgdm"

    def test_a_close_case_goes_to_the_last_look(self) -> None:
        book = started()
        batches = book.follow(noisy(sgdm=0.95, adamw=0.951))
        assert [len(batch) for batch in batches][:2] == [14, 6]
        assert phases(batches)[Phase.TEST] == 1

    def test_an_arm_that_is_beaten_gets_no_more_seeds(self) -> None:
        book = started(("sgdm", "adamw", "nag"))
        batches = book.follow(noisy(sgdm=0.95, adamw=0.85, nag=0.952))
        assert {request.arm for request in batches[1]} == {"sgdm", "nag"}

    def test_seeds_are_the_same_in_all_arms_and_not_those_of_the_search(self) -> None:
        book = started()
        seeds = {arm: [r.seed for r in book.asked() if r.arm == arm] for arm in ("sgdm", "adamw")}
        assert seeds["sgdm"] == seeds["adamw"]
        assert len(set(seeds["sgdm"])) == 7
        assert book.spec.search_seed not in seeds["sgdm"]

    def test_the_test_run_has_the_seed_of_the_first_confirmation_run(self) -> None:
        book = started()
        batches = book.follow(noisy(sgdm=0.95))
        assert batches[-1] == (RunRequest("sgdm", 2, Phase.TEST, batches[0][0].seed),)

    def test_one_arm_alone_is_measured_too(self) -> None:
        book = started(("sgdm",))
        batches = book.follow(noisy(sgdm=0.95))
        assert phases(batches) == {Phase.CONFIRM: 10, Phase.REFERENCE: 10, Phase.TEST: 1}
        assert Analysis(book.records).evidence.verdict.kind == "single"

    def test_the_order_of_rows_changes_nothing(self) -> None:
        book = started()
        for batch in (14, 6, 10):
            asked = book.asked()
            assert len(asked) == batch
            for seed in range(3):
                random.Random(seed).shuffle(book.runs)
                assert book.asked() == asked
            values = noisy(sgdm=0.95, adamw=0.951)
            for request in asked:
                book.end(request, values(request, 0))

    def test_a_lost_run_is_not_asked_for_again(self) -> None:
        book = started()
        batches = book.follow(lambda request, index: Outcome.LOST if index == 3 else 0.9 + index / 1000)
        assert len(batches[0]) == 14
        assert not book.asked()

    def test_asking_in_the_middle_continues_where_it_stopped(self) -> None:
        book = started()
        first = book.asked()
        for request in first[:5]:
            book.end(request, 0.9)
        assert book.asked() == first[5:]


class TestExtending:
    def test_more_seeds_continue_the_same_list(self) -> None:
        book = started()
        before = book.follow(noisy(sgdm=0.95, adamw=0.951))
        more = book.with_confirmation(extensions=(16,))
        asked = more.asked()
        assert len(asked) == 12
        assert not {r.seed for r in asked} & {r.seed for batch in before for r in batch}
        assert asked[0].seed == more.spec.confirm_seed(finalists(more.records), 10)

    def test_a_settled_case_needs_no_more(self) -> None:
        book = started()
        book.follow(noisy(sgdm=0.95, adamw=0.90))
        assert not book.with_confirmation(extensions=(30,)).asked()

    def test_other_finalists_have_other_seeds(self) -> None:
        book = started()
        before = {r.seed for batch in book.follow(noisy(sgdm=0.95, adamw=0.951)) for r in batch}
        book.search({})
        book.propose("sgdm", 4, Source.SOBOL)
        book.propose("adamw", 4, Source.SOBOL)
        for arm, value in (("sgdm", 0.99), ("adamw", 0.5)):
            book.end(RunRequest(arm, 4, Phase.EXPLORE, book.spec.search_seed), value)
        asked = book.asked()
        assert len(asked) == 14
        assert not {r.seed for r in asked} & before
        assert Analysis(book.records).evidence.expected.source == "search"


class TestReferences:
    def test_default_and_current_get_the_finalists_seeds(self) -> None:
        book = started(current=CURRENT)
        book.propose("adamw", 4, Source.CURRENT, book.spec.current)
        batches = book.follow(noisy(sgdm=0.90, adamw=0.95))
        seeds = [r.seed for r in batches[0] if r.arm == "adamw"]
        asked = list(batches[1])
        assert [r.seed for r in asked if r.trial == 0] == seeds
        assert [r.seed for r in asked if r.trial == 4] == seeds

    def test_current_settings_of_another_family_stand_in_an_arm_of_their_own(self) -> None:
        book = started(("sgdm", "nag"), current=CURRENT)
        book.propose("current", 0, Source.CURRENT, book.spec.current)
        book.follow(noisy(sgdm=0.95, nag=0.90, current=0.93))
        evidence = Analysis(book.records).evidence
        assert evidence.gain(Reference.CURRENT).gain == pytest.approx(0.02, abs=0.005)
        assert {row.arm for row in evidence.arms} == {"sgdm", "nag"}

    def test_a_reference_that_is_the_finalist_costs_nothing(self) -> None:
        book = Book(make_spec()).search({"sgdm": (0.99, 0.9, 0.9, 0.9), "adamw": (0.9, 0.95, 0.9, 0.9)})
        batches = book.follow(noisy(sgdm=0.99, adamw=0.9))
        assert phases(batches)[Phase.REFERENCE] == 0
        gain = Analysis(book.records).evidence.gain(Reference.DEFAULT)
        assert (gain.gain, gain.n_pairs) == (0.0, 0)
        assert "same setting" in gain.reason

    def test_confirmation_runs_of_a_loser_serve_as_reference(self) -> None:
        book = started(current=CURRENT)
        index = finalists(book.records)["adamw"]
        book.trials = [
            replace(t, source=Source.CURRENT) if (t.arm, t.index) == ("adamw", index) else t for t in book.trials
        ]
        batches = book.follow(noisy(sgdm=0.95, adamw=0.90))
        assert {(r.arm, r.trial) for r in batches[1]} == {("sgdm", 0)}
        assert Analysis(book.records).evidence.gain(Reference.CURRENT).n_pairs == 7

    def test_switched_off(self) -> None:
        book = started(confirmation={"references": False, "test": False})
        assert phases(book.follow(noisy(sgdm=0.95))) == {Phase.CONFIRM: 14}


class TestTheNoise:
    def test_finalists_show_their_noise_first_on_seeds_of_their_own(self) -> None:
        book = started(confirmation={"noise_seeds": 4})
        batches = book.follow(noisy(sgdm=0.95, adamw=0.951))
        assert [len(batch) for batch in batches][:3] == [8, 14, 6]
        assert phases(batches[:1]) == {Phase.NOISE: 8}
        assert phases(batches)[Phase.NOISE] == 8
        seeds = {request.seed for request in batches[0]}
        assert len(seeds) == 4
        assert not seeds & {request.seed for batch in batches[1:] for request in batch}

    def test_their_noise_is_the_smallest_effect_and_nothing_else(self) -> None:
        book = started(confirmation={"noise_seeds": 4})
        book.follow(noisy(sgdm=0.95, adamw=0.951))
        evidence = Analysis(book.records).evidence
        groups = [
            np.array([run.value for run in book.runs if run.spec.phase is Phase.NOISE and run.spec.arm == arm])
            for arm in ("sgdm", "adamw")
        ]
        assert evidence.min_effect == pytest.approx(pooled_sd(groups))
        assert evidence.min_effect_source == "outside"
        assert "min_effect_assumed" in {c.code for c in evidence.caveats}
        quiet = Book(book.spec, book.trials, [run for run in book.runs if run.spec.phase is not Phase.NOISE])
        without = Analysis(quiet.records).evidence
        assert (without.pairs[0].difference, without.pairs[0].p) == (evidence.pairs[0].difference, evidence.pairs[0].p)
        assert without.min_effect_source == "comparison"
        assert "min_effect_from_comparison" in {c.code for c in without.caveats}

    @pytest.mark.parametrize("plan", [{"min_effect": 0.01}, {"noise_seeds": 0}, {"noise_seeds": 1}])
    def test_none_where_it_is_not_needed(self, plan: dict[str, float]) -> None:
        book = started(confirmation={"noise_seeds": 4, **plan})
        assert phases([book.asked()]) == {Phase.CONFIRM: 14}
        assert plan_cost(book.spec, 2).noise == 0

    @pytest.mark.parametrize(
        ("most", "noise"), [(20, 0), (23, 0), (24, 4), (29, 8), (30, 0), (33, 0), (34, 4), (50, 8)]
    )
    def test_under_the_cap_they_take_what_is_left(self, most: int, noise: int) -> None:
        book = started(confirmation={"noise_seeds": 4, "max_runs": most})
        counts = phases(book.follow(noisy(sgdm=0.95, adamw=0.951)))
        assert counts[Phase.NOISE] == plan_cost(book.spec, 2).noise == noise
        assert counts[Phase.NOISE] + counts[Phase.CONFIRM] + counts[Phase.REFERENCE] <= most

    def test_a_confirmation_that_began_without_them_gets_none(self) -> None:
        book = started()
        first = book.asked()[0]
        book.end(first, 0.9)
        assert Phase.NOISE not in phases([book.with_confirmation(noise_seeds=4).asked()])


class TestTheCap:
    @pytest.mark.parametrize(
        ("most", "confirm", "reference"), [(0, 0, 0), (1, 0, 0), (2, 2, 0), (20, 20, 0), (29, 20, 0), (30, 20, 10)]
    )
    def test_never_more_runs_than_allowed(self, most: int, confirm: int, reference: int) -> None:
        book = started(confirmation={"max_runs": most})
        counts = phases(book.follow(noisy(sgdm=0.95, adamw=0.951)))
        assert (counts[Phase.CONFIRM], counts[Phase.REFERENCE]) == (confirm, reference)
        cost = plan_cost(book.spec, 2)
        assert (cost.confirm, cost.references, cost.test) == (confirm, reference, int(confirm > 0))

    def test_the_cost_is_known_before(self) -> None:
        cost = plan_cost(make_spec(current=CURRENT), 2)
        assert (cost.seeds, cost.confirm, cost.references, cost.test, cost.total) == (10, 20, 20, 1, 41)

    @pytest.mark.parametrize("arms", [("sgdm",), ("sgdm", "adamw"), ("sgdm", "adamw", "nag", "adam", "nadam")])
    def test_the_cost_is_an_upper_bound(self, arms: tuple[str, ...]) -> None:
        book = started(arms)
        batches = book.follow(noisy(sgdm=0.95, adamw=0.951, nag=0.8))
        assert sum(map(len, batches)) <= plan_cost(book.spec, len(arms)).total


def test_nothing_is_asked_of_a_study_without_results() -> None:
    book = Book(make_spec()).search({"sgdm": (Outcome.DIVERGED,), "adamw": (Outcome.FAILED,)})
    assert next_runs(book.records) == ()


def test_a_run_in_training_is_not_asked_for_twice() -> None:
    book = started()
    first = book.asked()
    book.end(first[0], 0.9)
    book.runs[-1] = replace(book.runs[-1], state=State.RUNNING, result=None)
    assert first[0] not in book.asked()
