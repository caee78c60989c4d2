"""The reference page of the schedules, its pictures, and the chart in a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from generators.schedules import WARMUP_FORMULAS, markdown

from tuner.catalog.schedules import SCHEDULES, WARMUP_SHAPES, WARMUP_START, Schedule
from tuner.core.errors import InputError
from tuner.reporting.schedule_plots import plot, plot_all, sketch

DOCS = Path(__file__).parents[3] / "docs"
PNG = b"\x89PNG"


def rows(text: str, heading: str) -> dict[str, str]:
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return {line.split("`")[1]: line for line in lines}


class TestPage:
    def test_the_file_is_what_the_table_gives(self) -> None:
        text = (DOCS / "schedules.md").read_text(encoding="utf-8")
        assert text == markdown(), "docs/schedules.md is stale: run python docs/generate.py"

    def test_every_kind_has_a_row_with_its_formula_and_source(self) -> None:
        found = rows(markdown(), "Kinds")
        assert list(found) == list(SCHEDULES)
        for name, kind in SCHEDULES.items():
            assert kind.formula in found[name].replace("\\|", "|")
            assert kind.meaning in found[name]
            assert found[name].count(" | ") == 3

    def test_every_parameter_has_a_row_that_names_its_kinds(self) -> None:
        found = rows(markdown(), "Parameters")
        for name, kind in SCHEDULES.items():
            for p in kind.parameters:
                assert f"`{name}`" in found[p.name]
                assert f"| {p.low:g} to {p.high:g}" in found[p.name]
                assert p.meaning in found[p.name]
        assert "| all |" in found["warmup"]
        assert "`linear`" not in found["power"]

    def test_the_warm_up_formulas_say_what_the_functions_do(self) -> None:
        from math import cos, pi

        assert list(WARMUP_FORMULAS) == list(WARMUP_SHAPES) == list(rows(markdown(), "Warm-up"))
        written = {"linear": "s + (1 - s) * u", "cosine": "1 + (s - 1) * (1 + cos(pi * u)) / 2"}
        for name, formula in WARMUP_FORMULAS.items():
            text = written.get(name, formula)
            assert text.replace(" * ", " ") == formula
            for u in (0.0, 0.3, 1.0):
                value = eval(text, {"s": WARMUP_START, "u": u, "cos": cos, "pi": pi})
                assert WARMUP_SHAPES[name](0.2 * u, 0.2) == pytest.approx(value, abs=1e-12)

    def test_the_note_on_comparability_is_there(self) -> None:
        text = " ".join(markdown().split())
        assert SCHEDULES["plateau"].note in text

    def test_the_picture_is_there(self) -> None:
        assert "(images/schedules.png)" in markdown()
        assert (DOCS / "images" / "schedules.png").read_bytes().startswith(PNG)


class TestPictures:
    def test_every_kind_has_variants_that_are_settings(self) -> None:
        for name, kind in SCHEDULES.items():
            assert kind.variants or not kind.parameters, f"schedule {name} has no variants for its picture"
            for changes in kind.variants:
                assert Schedule.of({"kind": name, **changes}) != Schedule.of({"kind": name})

    @pytest.mark.parametrize(("name", "panels"), [("constant", 1), ("onecycle", 2), ("plateau", 2)])
    def test_one_kind(self, name: str, panels: int, tmp_path: Path) -> None:
        path = tmp_path / f"{name}.svg"
        assert plot(name, path) == path
        assert path.read_text().count('id="axes_') == panels

    def test_all_kinds(self, tmp_path: Path) -> None:
        path = plot_all(tmp_path / "all.svg")
        assert path.read_text().count('id="axes_') == len(SCHEDULES) + 1

    def test_an_unknown_kind(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="'cosin'"):
            plot("cosin", tmp_path / "x.png")


class TestSketch:
    @pytest.mark.parametrize("name", SCHEDULES)
    def test_every_column_has_a_dot(self, name: str) -> None:
        lines = sketch(Schedule.of({"kind": name, "warmup": 0.1}), width=40, height=6).splitlines()
        plotted = [line[3:].ljust(40) for line in lines[:6]]
        assert all(any(line[column] != " " for line in plotted) for column in range(40))
        assert all(len(line) <= 43 for line in lines[:8])
        assert [line[:3] for line in lines[:6]] == ["1 ┤", "  │", "  │", "  │", "  │", "0 ┤"]
        assert lines[6:8] == ["  └" + "─" * 40, "   0" + "horizon".rjust(39)]

    def test_the_momentum_and_the_example_are_told(self) -> None:
        assert "0.5 at its peak" in sketch(Schedule.of({"kind": "onecycle", "momentum_ratio": 0.5}))
        assert "momentum" not in sketch(Schedule.of({"kind": "cyclical", "momentum_ratio": 1}))
        assert sketch(Schedule.of({"kind": "plateau"})).endswith("against an example loss")
