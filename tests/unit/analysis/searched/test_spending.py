"""What each arm has spent in full runs, and which values came within equal budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from analysis.records import Book, make_spec

from tuner.analysis.analysis import Analysis
from tuner.analysis.searched.spending import equally_paid, exhausted, in_full_runs, smallest
from tuner.analysis.verdict.finalists import finalists
from tuner.core.records import Outcome, Phase, RunRecord, RunRequest, Source, State
from tuner.study_records import StudyRecords

NINE = {"horizon": {"epochs": 9}, "budget": {"trials_per_arm": 4}}
RUNGS = (1, 3, 9)

Row = Sequence[tuple[int, int, float | Outcome]]
"""Trial, epochs, and what the run came to."""


def climb(rows: Mapping[str, Row], **changes: object) -> Book:
    """A ladder study whose arms trained these runs, in turn where the rows are equally long."""
    book = Book(make_spec(**{**NINE, **changes}))
    for arm, row in rows.items():
        for trial in dict.fromkeys(trial for trial, _, _ in row):
            book.propose(arm, trial, Source.SOBOL)
        for place, (trial, epochs, value) in enumerate(row):
            book.end(RunRequest(arm, trial, Phase.EXPLORE, book.spec.search_seed), value)
            last = book.runs[-1]
            at = replace(last.spec, horizon=replace(book.spec.horizon, amount=epochs), rung=RUNGS.index(epochs))
            book.runs[-1] = replace(last, spec=at, started_at=float(place + 1))
    return book


def pruned(run: RunRecord, step: int) -> RunRecord:
    assert run.result is not None
    return replace(run, result=replace(run.result, outcome=Outcome.PRUNED, value=None, step=step))


class TestSpent:
    def test_a_run_costs_its_share_of_the_horizon(self) -> None:
        book = climb({"sgdm": [(0, 1, 0.5), (1, 1, 0.6), (1, 3, 0.7), (1, 9, 0.9)], "adamw": [(0, 9, 0.8)]})
        assert book.records.spent == pytest.approx({"sgdm": 2 / 9 + 1 / 3 + 1, "adamw": 1.0})

    def test_nobody_gets_a_refund(self) -> None:
        book = climb({"sgdm": [(0, 9, Outcome.DIVERGED), (1, 9, Outcome.FAILED), (2, 9, Outcome.LOST)]})
        assert book.records.spent == {"sgdm": 3.0, "adamw": 0.0}

    def test_a_pruned_run_costs_what_it_trained(self) -> None:
        book = climb({"sgdm": [(0, 9, 0.5), (1, 9, 0.4)]}, fidelity="prune")
        book.runs[1] = pruned(book.runs[1], step=30)
        assert book.records.spent["sgdm"] == pytest.approx(1 + 30 / 90)

    def test_the_same_setting_is_paid_once(self) -> None:
        book = climb({"sgdm": [(0, 9, 0.5), (1, 9, 0.5)]})
        book.runs[1] = replace(book.runs[1], spec=replace(book.runs[1].spec, setting=book.runs[0].spec.setting))
        assert book.records.spent["sgdm"] == 1.0

    def test_only_the_search_and_what_has_ended_counts(self) -> None:
        book = climb({"sgdm": [(0, 9, 0.5), (1, 9, 0.4)]})
        book.runs[1] = RunRecord(book.runs[1].spec, State.RUNNING, 1)
        book.end(RunRequest("sgdm", 0, Phase.CONFIRM, 77), 0.5)
        assert book.records.spent["sgdm"] == 1.0

    @pytest.mark.parametrize(
        ("changes", "counted"),
        [({"fidelity": "full"}, False), ({"fidelity": "full", "allocation": "optimise"}, True), ({}, True)],
    )
    def test_where_budgets_are_counted_in_full_runs(self, changes: dict[str, str], counted: bool) -> None:
        assert in_full_runs(make_spec(**changes)) == counted


def cut(**changes: object) -> Book:
    """Looked at while adamw, whose runs take long, has one in training; sgdm's best came late."""
    book = climb(
        {
            "sgdm": [(0, 1, 0.1), (0, 9, 0.5), (1, 9, 0.6), (2, 9, 0.7), (3, 9, 0.9)],
            "adamw": [(0, 1, 0.1), (0, 9, 0.5), (1, 9, 0.5)],
        },
        **changes,
    )
    book.runs[-1] = RunRecord(book.runs[-1].spec, State.RUNNING, 1, started_at=3.0)
    return book


class TestEqualBudgets:
    def test_equal_arms_compete_with_all_they_have(self) -> None:
        book = climb({"sgdm": [(0, 9, 0.5), (1, 9, 0.6)], "adamw": [(0, 9, 0.5), (1, 1, 0.1)]})
        assert equally_paid(book.records) == book.runs

    def test_a_cut_search_compares_what_every_budget_reached(self) -> None:
        book = cut()
        assert smallest(book.records) == pytest.approx(10 / 9)
        mine = [run.run_id for run in equally_paid(book.records) if run.spec.arm == "sgdm"]
        assert [run_id.split(".")[1] for run_id in mine] == ["0000", "0000"], "the third came to 2.11, 1 more"
        assert finalists(book.records) == {"sgdm": 0, "adamw": 0}

    def test_the_order_is_that_in_which_runs_were_handed_out(self) -> None:
        book = cut()
        book.runs[4] = replace(book.runs[4], started_at=0.5)
        assert finalists(book.records) == {"sgdm": 3, "adamw": 0}

    def test_it_is_said(self) -> None:
        book = cut()
        texts = {c.code: c.text for c in Analysis(book.records).evidence.caveats}
        assert texts["budget_cut"] == "The search ended early: 1.11 of 4 full runs of each arm's budget are compared."
        book = cut(budget={"hours": 1})
        texts = {c.code: c.text for c in Analysis(book.records).evidence.caveats}
        assert "Only the first 1.11 full runs of each arm are compared" in texts["budget_cut"]

    def test_nothing_is_said_of_a_budget_that_was_spent(self) -> None:
        book = climb({arm: [(i, 9, 0.5 + i / 10) for i in range(4)] for arm in ("sgdm", "adamw")})
        codes = {c.code for c in Analysis(book.records).evidence.caveats}
        assert not codes & {"budget_cut", "settings_exhausted", "unequal_budgets", "short_horizon_lies"}

    def test_an_arm_that_ran_out_of_settings_sets_no_limit(self) -> None:
        book = climb({"sgdm": [(i, 9, 0.5 + i / 10) for i in range(4)], "adamw": [(0, 9, 0.8)]})
        assert exhausted(book.records) == ("adamw",)
        assert finalists(book.records) == {"sgdm": 3, "adamw": 0}
        caveats = {c.code: c.text for c in Analysis(book.records).evidence.caveats}
        assert "adamw (after 1 full run)" in caveats["settings_exhausted"]
        assert "budget_cut" not in caveats

    def test_an_arm_that_came_late_or_still_trains_has_not_run_out(self) -> None:
        book = climb({"sgdm": [(i, 9, 0.5 + i / 10) for i in range(4)], "adamw": [(0, 9, 0.8), (1, 9, 0.1)]})
        late = [run for run in book.runs if run.spec.arm == "adamw"]
        runs = [*book.runs[:4], *(replace(run, started_at=run.started_at + 10) for run in late)]
        assert exhausted(StudyRecords.of(book.spec, (), runs)) == ()
        runs = [*book.runs[:5], RunRecord(late[1].spec, State.RUNNING, 1, started_at=2.0)]
        assert exhausted(StudyRecords.of(book.spec, (), runs)) == ()
        assert finalists(StudyRecords.of(book.spec, book.trials, runs)) == {"sgdm": 0, "adamw": 0}


class TestABudgetThatMoves:
    def test_all_compete_and_the_claim_is_about_settings(self) -> None:
        book = cut(allocation="optimise")
        assert finalists(book.records) == {"sgdm": 3, "adamw": 0}
        book.confirm({"sgdm": [0.9 + i / 1000 for i in range(10)], "adamw": [0.5 + i / 1000 for i in range(10)]})
        found = Analysis(book.records).evidence
        (text,) = [c.text for c in found.caveats if c.code == "unequal_budgets"]
        assert text.startswith("sgdm got 4.11, adamw 1.11 full runs, and a verdict about families needs equal budgets")
        assert (found.verdict.kind, found.family.kind) == ("winner", "not_assessed")
        assert "needs equal budgets" in found.family.reason

    def test_the_evidence_has_what_each_arm_cost(self) -> None:
        book = cut()
        document = Analysis(book.records).evidence.to_json()["studies"][0]
        assert {row["arm"]: round(row["full_runs"], 3) for row in document["arms"]} == {"sgdm": 4.111, "adamw": 1.111}
        assert document["cost"]["phases"]["explore"]["full_runs"] == pytest.approx(5 + 2 / 9)
        assert document["cost"]["full_runs"] == pytest.approx(5 + 2 / 9)
