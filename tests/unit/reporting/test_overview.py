"""Tables for people."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from analysis.records import Book, make_spec, started

from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import SCHEDULES
from tuner.core.records import Outcome, RunRecord, State
from tuner.doctor import Finding, Health
from tuner.reporting import overview
from tuner.reporting.words import searched
from tuner.storage.reading import StudyRow

ROW = StudyRow(1, "toy", {}, "open", "", 1_700_000_000.0, 754.0, 3)


def text_of(part: object, width: int = 160) -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width).print(part)
    return out.getvalue()


def status(book: Book, holder: str | None = None, **changes: object) -> str:
    row = replace(ROW, **changes)  # type: ignore[arg-type]
    return text_of(overview.status(row, book.records, holder))


class TestStudies:
    def test_none(self) -> None:
        assert "No study yet. Start one with: tuner run" in text_of(overview.studies([], {}, {}))

    def test_some(self) -> None:
        other = replace(ROW, id=2, name="other", state="finished")
        text = text_of(overview.studies([ROW, other], {"toy": "process 3 on h", "other": None}, {"toy": 4, "other": 0}))
        assert "process 3 on h" in text
        assert "12 min 34 s" in text
        assert text.index("toy") < text.index("other")


class TestStatus:
    def test_in_the_middle(self) -> None:
        book = started()
        book.runs[-1] = RunRecord(book.runs[-1].spec, State.RUNNING, 1)
        text = status(book)
        assert "state: open" in text
        assert "runs: 7 completed, 1 running" in text
        assert "go on with: tuner resume toy" in text

    def test_driven_by_somebody(self) -> None:
        text = status(started(), holder="process 3 on h")
        assert "driven by: process 3 on h" in text
        assert "go on with" not in text

    def test_stopped_with_failures(self) -> None:
        book = Book(make_spec()).search({"sgdm": (Outcome.FAILED,) * 2, "adamw": (Outcome.DIVERGED,)})
        result = book.runs[0].result
        assert result is not None
        book.runs[0] = replace(book.runs[0], result=replace(result, reason="KeyError: 'x' [bold]"))
        text = status(book, state="stopped", reason="too many")
        assert "state: stopped (too many)" in text
        assert "failed: KeyError: 'x' [bold]" in text
        assert "runs: 1 diverged, 2 failed" in text

    def test_nothing_yet_and_finished(self) -> None:
        assert "runs: none yet" in status(Book(make_spec()))
        assert "go on with" not in status(started(), state="finished")


class TestTables:
    def test_families(self) -> None:
        text = text_of(overview.families(), 250)
        assert all(name in text for name in FAMILIES)
        measured = text_of(overview.families(dict.fromkeys(FAMILIES, (7.25, 3.5))), 250)
        assert measured.count("7.25") == measured.count("3.5") == len(FAMILIES)

    @pytest.mark.parametrize("name", FAMILIES)
    def test_a_family(self, name: str) -> None:
        row = FAMILIES[name]
        text = text_of(overview.family_page(row, {name: (7.25, 3.5)}), 400)
        assert all(h.name in text and h.meaning in text for h in row.hyperparameters)
        assert all(searched(h.search) in text for h in row.hyperparameters)
        assert "7.25 bytes of state per parameter, a step costs 3.5 times sgd's" in text

    def test_schedules(self) -> None:
        text = text_of(overview.schedules(), 250)
        assert all(name in text for name in SCHEDULES)

    @pytest.mark.parametrize("name", SCHEDULES)
    def test_a_schedule(self, name: str) -> None:
        text = text_of(overview.schedule_page(SCHEDULES[name]))
        assert "warmup" in text
        assert all(p.name in text for p in SCHEDULES[name].parameters)

    def test_spaces(self) -> None:
        assert "two-rates" in text_of(overview.spaces([make_spec().space]))

    def test_health(self) -> None:
        table, well = overview.health([Finding("python", Health.TOLD, "3.11"), Finding("ledger", Health.WELL, "fine")])
        assert well
        assert "ok" in text_of(table)
        table, well = overview.health([Finding("ray", Health.PROBLEM, "no answer")])
        assert not well
        assert "PROBLEM" in text_of(table)
