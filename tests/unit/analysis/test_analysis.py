"""An analysis computes each of its parts once, and does not depend on the order of runs."""

from __future__ import annotations

import json
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from analysis.records import Book, make_spec, started
from tuner.analysis import analysis, conclusion
from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import Evidence, Nothing
from tuner.analysis.verdict import contest, decision
from tuner.core.errors import NoEvidence
from tuner.core.records import Horizon, Outcome
from tuner.reporting import card
from tuner.reporting.files import write_all
from tuner.reporting.markdown import markdown
from tuner.study_records import StudyRecords

PARTS: tuple[tuple[Any, str], ...] = (
    (analysis, "contest"),
    (analysis, "points_of"),
    (analysis, "rung_agreements"),
    (analysis, "evidence_of"),
    (analysis, "nothing_of"),
    (analysis, "tuning_curves"),
    (analysis, "sensitivities"),
    (conclusion, "leaderboard"),
    (conclusion, "caveats_of"),
    (conclusion, "family_verdict"),
    (conclusion, "pairs_of"),
    (contest, "finalists"),
    (contest, "collect"),
    (decision, "seeds_needed"),
)
"""What costs time, where it is called."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each part was computed."""
    counts: Counter[str] = Counter()

    def counted(name: str, compute: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **more: Any) -> Any:
            counts[name] += 1
            return compute(*args, **more)

        return wrapped

    for module, name in PARTS:
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return counts


def inconclusive() -> Book:
    """Two finalists on ten fresh seeds, with a ladder's short runs before."""
    book = started(confirmation={"min_effect": 0.0001})
    for arm in book.spec.space.arms:
        book.shorten(arm.arm, 0, 1)
    rows = {"sgdm": [0.950, 0.951, 0.949, 0.952, 0.950], "adamw": [0.951, 0.949, 0.950, 0.953, 0.950]}
    return book.confirm({arm: row * 2 for arm, row in rows.items()})


def without_result() -> Book:
    return Book(make_spec()).search({"sgdm": (Outcome.DIVERGED,), "adamw": (Outcome.FAILED,)})


def leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, dict):
        for key, item in data.items():
            yield key
            yield from leaves(item)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from leaves(item)
    else:
        yield data


class TestEachPartOnce:
    def test_nothing_before_it_is_asked_for(self, calls: Counter[str]) -> None:
        Analysis(inconclusive().records)
        assert not calls

    def test_whoever_asks(self, calls: Counter[str], tmp_path: Path) -> None:
        records = inconclusive().records
        calls.clear()
        whole = Analysis(records)
        write_all(whole, tmp_path)
        card.text(whole.evidence)
        markdown(whole.evidence, findings=whole.findings)
        assert whole.answer is whole.evidence
        assert {name: calls[name] for _, name in PARTS} == {name: int(name != "nothing_of") for _, name in PARTS}

    def test_also_where_there_is_nothing_to_recommend(self, calls: Counter[str]) -> None:
        whole = Analysis(without_result().records)
        assert isinstance(whole.answer, Nothing)
        assert whole.answer is whole.answer
        with pytest.raises(NoEvidence, match="1 diverged, 1 failed"):
            _ = whole.findings
        counts = {name: calls[name] for name in ("contest", "points_of", "nothing_of", "leaderboard", "family_verdict")}
        assert counts == {"contest": 1, "points_of": 1, "nothing_of": 1, "leaderboard": 1, "family_verdict": 0}

    def test_what_the_search_spent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        paid: Counter[str] = Counter()
        pay = StudyRecords.paid

        def counted(self: StudyRecords, runs: Any) -> Any:
            rows = list(runs)
            paid.update({run.spec.arm for run in rows})
            return pay(self, rows)

        records = inconclusive().records
        monkeypatch.setattr(StudyRecords, "paid", counted)
        Analysis(records).to_json()
        assert paid == {"sgdm": 1, "adamw": 1}


class TestTheOrderOfRuns:
    def test_it_changes_nothing(self) -> None:
        book = inconclusive()
        book.runs = [replace(run, started_at=float(i)) for i, run in enumerate(book.runs)]
        before = Analysis(book.records).to_json()
        for seed in range(3):
            random.Random(seed).shuffle(book.runs)
            assert Analysis(book.records).to_json() == before

    def test_the_given_records_stay_as_they_are(self) -> None:
        book = inconclusive()
        records = StudyRecords.of(book.spec, book.trials, reversed(book.runs))
        whole = Analysis(records)
        assert [run.run_id for run in whole.records.runs] == sorted(run.run_id for run in book.runs)
        assert records.runs == tuple(reversed(book.runs))


class TestTheAnswer:
    def test_the_evidence_is_the_answer(self) -> None:
        assert isinstance(Analysis(inconclusive().records).answer, Evidence)

    def test_without_a_completed_run_it_is_how_the_runs_ended(self) -> None:
        answer = Analysis(without_result().records).answer
        assert isinstance(answer, Nothing)
        assert answer.reason == ("study 'toy' has no completed run to recommend from; of 2 runs: 1 diverged, 1 failed.")
        assert {row.arm: (row.n_diverged, row.n_failed) for row in answer.arms} == {"sgdm": (1, 0), "adamw": (0, 1)}

    def test_without_any_run(self) -> None:
        answer = Analysis(Book(make_spec()).records).answer
        assert isinstance(answer, Nothing)
        assert answer.reason.endswith("of 0 runs: none has ended.")

    def test_what_is_expected_is_what_the_leaderboard_says(self) -> None:
        for book in (inconclusive(), started()):
            evidence = Analysis(book.records).evidence
            row = next(row for row in evidence.arms if row.arm == evidence.arm)
            expected = evidence.expected
            assert (expected.ci_low, expected.ci_high) == (row.ci_low, row.ci_high)
            assert expected.value == (row.best_value if row.mean is None else row.mean)
            assert expected.n == (row.n_confirmed or 1)

    def test_the_document_is_plain_json(self) -> None:
        for book in (inconclusive(), started()):
            document = Analysis(book.records).to_json()
            assert json.loads(json.dumps(document, allow_nan=False))["studies"][0]["analyses"]["rungs"]
            assert not any(isinstance(leaf, Enum) for leaf in leaves(document))

    def test_numbers_too_large_to_square_overflow_in_silence(self) -> None:
        book = started().confirm({"sgdm": [1.7e308] * 10, "adamw": [-1.7e308] * 10})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert Analysis(book.records).evidence.arm == "sgdm"
        assert not [str(warning.message) for warning in caught if "overflow" in str(warning.message)]


class TestImportances:
    @staticmethod
    def searched(*, long: int, short: int) -> Book:
        """One arm whose first settings trained over the full horizon, the others on the lowest rung."""
        total = long + short
        book = Book(make_spec(("adamw",), budget={"trials_per_arm": total}))
        book.search({"adamw": [0.5 + 0.01 * (i % 7) for i in range(total)]})
        return book.shorten("adamw", *range(long, total))

    def test_at_the_full_horizon(self) -> None:
        (row,) = Analysis(self.searched(long=14, short=4).records).importances
        assert (row.n, row.horizon) == (14, None)
        assert row.shares

    def test_on_the_lowest_rung_where_too_few_got_further(self) -> None:
        (row,) = Analysis(self.searched(long=3, short=14).records).importances
        assert (row.n, row.horizon) == (14, Horizon(1, "epochs"))
        assert row.to_json()["horizon"] == "1 epoch"

    def test_none_where_neither_is_enough(self) -> None:
        (row,) = Analysis(self.searched(long=3, short=3).records).importances
        assert (row.shares, row.horizon) == ((), None)
        assert row.reason
