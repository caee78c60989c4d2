"""What a person sees while a study runs."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from analysis.records import Book, make_spec, started

from tuner.core.records import Outcome, Phase, RunRecord, RunRequest, Source, State
from tuner.reporting import live
from tuner.study import Snapshot


def snapshot(book: Book) -> Snapshot:
    return Snapshot(book.records, "explore", "")


def mixed() -> Book:
    book = Book(make_spec(fidelity="full"))
    book.search({"sgdm": (0.9, Outcome.DIVERGED, 0.97), "adamw": (Outcome.FAILED, 0.8, Outcome.LOST)})
    book.propose("sgdm", 3, Source.SOBOL)
    book.end(RunRequest("sgdm", 3, Phase.EXPLORE, 0), 0.5)
    book.runs[-1] = RunRecord(book.runs[-1].spec, State.RUNNING, 1)
    return book


def drawn(book: Book, width: int = 200, phase: str = "explore", stopping: str = "") -> str:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width).print(live.table(book.records, phase, 12.0, 3.0, stopping))
    return out.getvalue()


class TestLines:
    def test_each_arm(self) -> None:
        sgdm, adamw = live.arm_lines(mixed().records)
        assert (sgdm.arm, sgdm.spent, sgdm.planned, sgdm.diverged, sgdm.failed, sgdm.running) == ("sgdm", 3, 4, 1, 0, 1)
        assert (adamw.spent, adamw.failed, adamw.running, adamw.confirmed) == (3, 2, 0, 0)
        assert sgdm.best is not None
        assert sgdm.best.value == 0.97

    def test_less_is_better_where_it_is(self) -> None:
        book = Book(make_spec(metric={"name": "val_accuracy", "direction": "minimize"}))
        book.search({"sgdm": (0.9, 0.1, 0.5), "adamw": (0.8,)})
        best = live.arm_lines(book.records)[0].best
        assert best is not None
        assert best.value == 0.1

    def test_nothing_yet(self) -> None:
        lines = live.arm_lines(Book(make_spec()).records)
        assert [(line.spent, line.best) for line in lines] == [(0, None), (0, None)]

    def test_confirmed_runs(self) -> None:
        book = started().confirm({"sgdm": [0.9, 0.91], "adamw": [0.8, 0.82]})
        assert [line.confirmed for line in live.arm_lines(book.records)] == [2, 2]


def climbing() -> Book:
    """On a ladder of one and three epochs: three short runs, the best value among them, and one full run."""
    book = Book(make_spec(budget={"trials_per_arm": 4}))
    return book.search({"sgdm": (0.9, 0.99, 0.8)}).shorten("sgdm", 0, 1, 2).climb("sgdm", 0, 0.95)


class TestOnALadder:
    def test_only_full_runs_can_be_best(self) -> None:
        sgdm, adamw = live.arm_lines(climbing().records)
        assert (sgdm.spent, sgdm.tried, sgdm.progress) == (pytest.approx(2.0), 3, "2/4")
        assert sgdm.best is not None
        assert sgdm.best.value == 0.95
        assert (adamw.spent, adamw.tried, adamw.best) == (0.0, 0, None)

    def test_progress_is_in_full_runs(self) -> None:
        book = climbing()
        total = live.total_work(book.records)
        assert live.work_done(book.records) == pytest.approx(2.0)
        assert f"4 runs ended, worth 2 of at most {total} full runs" in drawn(book)
        assert "sgdm 2/4 full runs, 3 settings tried, best 0.95" in live.plain(book.records, "explore", 1.0, None)

    def test_an_arm_has_no_limit_of_its_own_where_the_budget_moves(self) -> None:
        book = Book(make_spec(allocation="optimise"))
        assert [line.progress for line in live.arm_lines(book.records)] == ["0/?", "0/?"]


class TestProgress:
    def test_the_total_holds_search_and_confirmation(self) -> None:
        spec = make_spec(confirmation={"max_runs": 0})
        assert live.total_work(Book(spec).records) == 8
        assert (live.total_work(Book(make_spec()).records) or 0) > 28
        assert live.total_work(Book(make_spec(budget={"hours": 1})).records) is None

    def test_the_time_to_go(self) -> None:
        book = started(confirmation={"max_runs": 0})
        book.runs = book.runs[:4]
        assert live.eta_seconds(book.records, "explore", 4, 20.0) == pytest.approx(20.0)
        assert live.eta_seconds(book.records, "explore", 1, 20.0) is None
        assert live.eta_seconds(started(confirmation={"max_runs": 0}).records, "explore", 8, 20.0) == 0.0

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (None, "-"),
            (0, "0 s"),
            (59.6, "1 min 00 s"),
            (3599.9, "1 h 00 min"),
            (86400, "24 h 00 min"),
        ],
    )
    def test_the_clock(self, seconds: float | None, words: str) -> None:
        assert live.clock(seconds) == words


class TestDrawing:
    def test_the_table(self) -> None:
        text = drawn(mixed())
        for word in ("toy: searching", "best val_accuracy", "3/4", "0.97", "sgdm", "adamw", "6 of at most", "12 s"):
            assert word in text
        assert "sgdm learning_rate" not in text, "the arm's name is not said twice"

    @pytest.mark.parametrize("width", [40, 60, 80])
    def test_narrow_terminals(self, width: int) -> None:
        assert all(len(line) <= width for line in drawn(mixed(), width).splitlines())

    @pytest.mark.parametrize("phase", live.PHASES)
    def test_every_phase_and_stopping(self, phase: str) -> None:
        assert live.PHASES[phase] in drawn(mixed(), phase=phase)
        assert "(interrupted: stopping)" in drawn(mixed(), phase=phase, stopping="interrupted")
        assert live.PHASES[phase] in live.plain(mixed().records, phase, 1.0, None)

    def test_every_phase_of_a_run_has_words(self) -> None:
        assert {phase.value for phase in Phase} <= set(live.PHASES)

    def test_one_plain_line(self) -> None:
        text = live.plain(mixed().records, "explore", 65.0, None)
        assert "\n" not in text
        assert text.startswith("[1 min 05 s] searching: 6 of at most ")
        assert "sgdm 3/4 full runs, best 0.97, 1 diverged; adamw 3/4 full runs, best 0.8, 2 failed" in text

    def test_hours_have_no_total(self) -> None:
        book = Book(make_spec(budget={"hours": 1}, fidelity="full")).search({"sgdm": (0.9,)})
        assert "searching: 1 run ended; " in live.plain(book.records, "explore", 1.0, None)
        assert "1/?" in drawn(book)


class TestWatching:
    def test_without_a_terminal_lines_are_printed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from rich.console import Console

        monkeypatch.setattr(live, "PLAIN_SECONDS", 0.02)
        out = io.StringIO()
        with live.watching(lambda: snapshot(mixed()), Console(file=out, width=60)):
            time.sleep(0.2)
        lines = out.getvalue().splitlines()
        assert len(lines) >= 2, "one line each, not folded"
        assert all(line.startswith("[") for line in lines)

    def test_in_a_terminal_the_table_is(self) -> None:
        from rich.console import Console

        out = io.StringIO()
        with live.watching(lambda: snapshot(mixed()), Console(file=out, width=120, force_terminal=True)):
            pass
        assert "searching" in out.getvalue()

    def test_the_last_line_is_shown_when_the_study_raises(self) -> None:
        from rich.console import Console

        out = io.StringIO()
        with pytest.raises(KeyError), live.watching(lambda: snapshot(mixed()), Console(file=out)):
            raise KeyError
        assert "searching" in out.getvalue()


def test_records_are_not_changed() -> None:
    book = mixed()
    before = [replace(run) for run in book.runs]
    drawn(book)
    assert book.runs == before
