"""The HTML report: complete for every kind of answer, alone on the page, the same for the same records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from analysis.records import Book, make_spec, started

from tuner.analysis.analysis import Analysis
from tuner.core.errors import InputError
from tuner.core.records import Outcome
from tuner.recommendation import Recommendation
from tuner.reporting.markdown import markdown
from tuner.reporting.report.page import CONTENTS, html
from tuner.study_records import StudyRecords

BAD = Outcome.DIVERGED
ARMS = ("sgdm", "adamw")
MANY = {f"arm{i:02d}": {"learning_rate": {"low": 1e-5, "high": 1e-1, "scale": "log"}} for i in range(13)}
LOADING = {"src", "srcset", "data", "poster", "action"}


def confirmed(a: float, b: float, scale: float = 0.004, seed: int = 0, **changes: object) -> Book:
    rng = np.random.default_rng(seed)
    rows = {arm: list(mean + scale * rng.normal(size=10)) for arm, mean in zip(ARMS, (a, b), strict=True)}
    return started(**changes).confirm(rows)


def many_arms() -> Book:
    arms = {name: {**axes, "family": "adamw"} for name, axes in MANY.items()}
    book = Book(make_spec(tuple(MANY), space={"name": "many", "arms": arms}))
    book.search({arm: tuple(0.8 + 0.01 * i + 0.02 * j for j in range(4)) for i, arm in enumerate(MANY)})
    return book.confirm({arm: [0.8 + 0.01 * i + 0.001 * j for j in range(6)] for i, arm in enumerate(MANY)})


def without_curves() -> Book:
    book = confirmed(0.95, 0.90)
    book.runs = [replace(run, result=replace(run.result, measurements=()), curve=()) for run in book.runs]
    return book


def minimised() -> Book:
    book = Book(make_spec(metric={"name": "loss", "direction": "minimize"}))
    book.search(dict.fromkeys(ARMS, (0.9, 0.5, BAD, 0.7)))
    return book.confirm({"sgdm": [0.5 + i / 100 for i in range(10)], "adamw": [0.7 + i / 100 for i in range(10)]})


def long_search() -> Book:
    rng = np.random.default_rng(3)
    book = Book(make_spec()).search({arm: [*(0.9 + 0.01 * rng.normal(size=14)), BAD, BAD] for arm in ARMS})
    return book.confirm({"sgdm": [0.9, 0.91, 0.92], "adamw": [0.9, 0.92, 0.91]})


def on_a_ladder() -> Book:
    """Short runs of one epoch flatter, and rank settings unlike the full ones of three."""
    short = (0.99, 0.985, 0.98, 0.975, 0.97, 0.965)
    book = Book(make_spec(budget={"trials_per_arm": 8})).search(dict.fromkeys(ARMS, short))
    for arm in ARMS:
        book.shorten(arm, *range(len(short)))
        for trial, value in enumerate((0.90, 0.95, 0.91, 0.94, 0.93)):
            book.climb(arm, trial, value)
    return book.confirm({"sgdm": [0.95, 0.951, 0.949], "adamw": [0.94, 0.942, 0.941]})


BOOKS: dict[str, Callable[[], Book]] = {
    "ladder": on_a_ladder,
    "winner": lambda: confirmed(0.95, 0.90),
    "tie": lambda: confirmed(0.95, 0.95, scale=0.0),
    "inconclusive": lambda: confirmed(0.952, 0.95, seed=2),
    "unconfirmed": lambda: started(confirmation={"max_runs": 0}),
    "single": lambda: started(("sgdm",)).confirm({"sgdm": [0.9, 0.91, 0.92]}),
    "diverged on fresh seeds": lambda: started().confirm({"sgdm": [BAD] * 10, "adamw": [BAD] * 10}),
    "diverged in the search": lambda: Book(make_spec()).search({"sgdm": (0.9, BAD, BAD, BAD), "adamw": (BAD,) * 4}),
    "without curves": without_curves,
    "minimised": minimised,
    "long search": long_search,
    "many arms": many_arms,
}


class Page(HTMLParser):
    """What the tests ask of a page: ids, what it would load, what figures are called, what words it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.loads: list[str] = []
        self.figures: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        self.loads += [str(value) for name, value in attrs if name in LOADING]
        if "href" in found:
            self.targets.append(str(found["href"]))
        if tag == "svg":
            self.figures.append(found)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(name: str) -> tuple[str, Page]:
    book = BOOKS[name]()
    text = html(Analysis(book.records))
    return text, Page(text)


@pytest.mark.parametrize("name", list(BOOKS))
def test_every_kind_of_answer_has_every_section(name: str) -> None:
    text, page = page_of(name)
    assert [i for i in page.ids if i in dict(CONTENTS)] == [i for i, _ in CONTENTS]
    assert len(set(page.ids)) == len(page.ids)
    assert not page.loads
    assert not {"script", "link", "img", "iframe", "object"} & page.tags
    assert all(target.removeprefix("#") in page.ids for target in page.targets if target.startswith("#"))
    assert all(target.startswith("#") for target in page.targets)
    assert "@import" not in text
    assert "url(http" not in text
    assert all(str(figure.get("aria-label", "")).strip() for figure in page.figures)
    assert not {"nan", "inf", "None", "-inf"} & set(" ".join(page.words).replace(",", " ").split())
    assert len(text.encode()) < 1_500_000


def test_the_same_records_give_the_same_bytes() -> None:
    book = BOOKS["long search"]()
    one = html(Analysis(book.records))
    assert html(Analysis(StudyRecords.of(book.spec, book.trials[::-1], book.runs[::-1]))) == one


def test_the_verdict_comes_first_and_the_setting_is_there_exactly() -> None:
    book = BOOKS["winner"]()
    found = Analysis(book.records)
    text = " ".join(Page(html(found)).words)
    assert found.evidence.verdict.sentence in text
    assert str(found.evidence.setting.hyperparameters["learning_rate"]) in text
    assert text.index(found.evidence.verdict.sentence) < text.rindex("What it rests on") < text.rindex("Caveats")


def test_user_text_is_escaped() -> None:
    book = BOOKS["winner"]()
    spec = replace(book.spec, name="<b>&study", metric="<i>loss")
    text = html(Analysis(replace(book.records, spec=spec)))
    assert "<b>&study" not in text
    assert "<i>loss" not in text
    assert "&lt;b&gt;&amp;study" in text


def test_diverged_runs_and_edges_are_said() -> None:
    _, page = page_of("long search")
    text = " ".join(page.words)
    assert "2 of 16 (12 %)" in text
    labels = " ".join(str(figure["aria-label"]) for figure in page.figures)
    assert "2 diverged or failed" in labels
    assert "Importance within sgdm" in labels or "none; " in text


def test_arms_beyond_the_palette_are_named_and_folded() -> None:
    text, page = page_of("many arms")
    assert text.count("<details open>") == 1
    assert all(arm in " ".join(page.words) for arm in MANY)


def test_the_markdown_says_it_too() -> None:
    book = BOOKS["long search"]()
    found = Analysis(book.records)
    text = markdown(found.evidence, findings=found.findings)
    for title in ("Best at a budget", "Importance of the settings", "Sensitivity to the learning rate"):
        assert f"## {title}" in text
    assert "13 independent trials" not in markdown(found.evidence)
    assert "independent trials" in text


def test_the_json_holds_the_analyses() -> None:
    book = BOOKS["long search"]()
    analyses = Analysis(book.records).to_json()["studies"][0]["analyses"]
    assert set(analyses) == {"best_at_budget", "sensitivity", "importance", "edges", "diverged", "rungs"}
    assert analyses["diverged"][0] == {"arm": "sgdm", "diverged": 2, "trials": 16}


def test_the_recommendation_writes_it(tmp_path: Path) -> None:
    book = BOOKS["winner"]()
    found = Analysis(book.records)
    recommendation = Recommendation.of(found)
    assert recommendation.html() == html(found)
    assert (tmp_path / "r" / "report.html") in recommendation.save(tmp_path / "r")
    with pytest.raises(InputError, match="open_study"):
        Recommendation(found.evidence).html()


def test_recorded_runs_of_optimizers_that_nobody_knows(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from tuner.cli import main

    rows = ["run_id,arm,seed,phase,outcome,direction,value,param.lr,study"]
    for study in ("one", "two"):
        for arm, base in (("mine", 0.9), ("theirs", 0.8)):
            explored = [(f"e{i}", 0, "explore", base - 0.01 * i, 10.0**-i) for i in range(5)]
            fresh = [(f"c{i}", i + 1, "confirm", base + 0.001 * i, 1.0) for i in range(8)]
            for name, seed, phase, value, rate in (*explored, *fresh):
                rows.append(f"{study}-{arm}-{name},{arm},{seed},{phase},completed,maximize,{value},{rate},{study}")
    table = tmp_path / "runs.csv"
    table.write_text("\n".join(rows) + "\n")
    done = CliRunner().invoke(main, ["analyze", "--runs", str(table), "--report", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    for study in ("one", "two"):
        text = (tmp_path / "out" / study / "report.html").read_text()
        assert [i for i in Page(text).ids if i in dict(CONTENTS)] == [i for i, _ in CONTENTS]
        assert "their time is not recorded" in text
        assert "5 independent trials. The recording does not say how they were proposed" in text


def test_a_ladder_shows_full_runs_and_how_far_short_ones_are_to_be_trusted() -> None:
    book = on_a_ladder()
    found = Analysis(book.records)
    assert [row.best_value for row in found.evidence.arms] == [0.95, 0.95], "no short run is the best"
    page, text = html(found), markdown(found.evidence, findings=found.findings)
    for written in (page, text):
        assert "Short runs and full ones" in written
        assert "1 epoch" in written
        assert "1 epochs" not in written
        assert "-0.30" in written
        assert "short runs rank" in written.lower()
        assert "in full runs" in written
    assert "7" in {f"{row.full_runs:.3g}" for row in found.evidence.arms}
    flat = confirmed(0.95, 0.9, fidelity="full")
    assert "Short runs and full ones" not in html(Analysis(flat.records))
