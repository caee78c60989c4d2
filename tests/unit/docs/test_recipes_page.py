"""The reference page of the recipe book."""

from __future__ import annotations

from pathlib import Path

from generators.recipes import markdown

from tuner.config.shipped import recipe_names

DOCS = Path(__file__).parents[3] / "docs"


def test_the_file_is_what_the_book_gives() -> None:
    assert (DOCS / "recipes.md").read_text(encoding="utf-8") == markdown(), "stale: run python docs/generate.py"


def test_every_recipe_has_one_row() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    assert sorted(line.split("`")[1] for line in rows) == recipe_names()
