"""The reference page of the optimizers."""

from __future__ import annotations

from pathlib import Path

import pytest
from generators.optimizers import markdown

from tuner.catalog.families import FAMILIES

PAGE = Path(__file__).parents[3] / "docs" / "optimizers.md"


@pytest.fixture(scope="module")
def text() -> str:
    return markdown()


def test_the_file_is_what_the_table_gives(text: str) -> None:
    assert PAGE.read_text(encoding="utf-8") == text, "docs/optimizers.md is stale: run python docs/generate.py"


def test_the_first_lines_name_the_command(text: str) -> None:
    assert "`python docs/generate.py`" in text.splitlines()[2]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_a_row_and_a_page_with_all_that_can_be_set(name: str, text: str) -> None:
    row = FAMILIES[name]
    overview = [line for line in text.splitlines() if line.startswith(f"| [`{name}`](#{name})")]
    assert len(overview) == 1
    assert float(overview[0].split(" | ")[2]) == pytest.approx(4 * row.state_slots, abs=0.06)
    page = text.split(f"\n### {name}\n")[1].split("\n### ")[0]
    assert page.startswith(f"\n`{row.formula}`\n")
    for h in row.hyperparameters:
        if name.startswith("lookahead-") and not h.name.startswith("lookahead_"):
            assert f"| `{h.name}` |" not in page
            continue
        line = next(line for line in page.splitlines() if line.startswith(f"| `{h.name}` |"))
        assert h.meaning in line
        assert line.count(" | ") == 5
        if h.search is not None:
            assert f"{h.search.low:g} to {h.search.high:g}" in line
            assert f" | {h.search.opens_at} | " in line
    flowing = " ".join(page.split())
    assert row.note in flowing
    assert row.source.split(";")[-1].strip() in flowing


def test_both_kinds_of_decay_are_explained_with_their_formulas(text: str) -> None:
    assert "`g += l2 w`" in text
    assert "`w *= 1 - lr weight_decay`" in text
