"""Sizes that the pages quote (how many families, schedules, recipes, arms) are those of the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuner.catalog.families import FAMILIES
from tuner.catalog.schedules import SCHEDULES, WARMUP_SHAPES
from tuner.config.documents import read_yaml
from tuner.config.shipped import list_spaces, recipe_names
from tuner.config.space_files import read_space

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md")
"""The pages that quote sizes of the whole catalog; others speak of a few schedules of one space, or of one study."""

_ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_ONES += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBERS = {
    **{word: value for value, word in enumerate(_ONES, start=1)},
    **{ten: 20 + 10 * index for index, ten in enumerate(_TENS)},
    **{
        f"{ten}-{one}": 20 + 10 * index + value
        for index, ten in enumerate(_TENS)
        for value, one in enumerate(_ONES[:9], start=1)
    },
}
WORD = r"\b(\d+|" + "|".join(sorted(NUMBERS, key=len, reverse=True)) + r")\b"

SIZES = {
    "optimizer families": len(FAMILIES),
    "schedules": len(SCHEDULES),
    "warm-ups": len(WARMUP_SHAPES),
    "published recipes": len(recipe_names()),
}


def number(text: str) -> int:
    return int(text) if text.isdigit() else NUMBERS[text.lower()]


def quoted(page: str, what: str) -> list[int]:
    """Return every number that stands directly before a noun, written as a word or in digits."""
    noun = re.escape(what).replace(r"\ ", r"\s+")
    return [number(match) for match in re.findall(rf"{WORD}\s+{noun}\b", page, re.IGNORECASE)]


@pytest.mark.parametrize(("text", "value"), [("Forty-four", 44), ("fifteen", 15), ("thirty", 30), ("7", 7)])
def test_number_words_are_read(text: str, value: int) -> None:
    assert quoted(f"about {text}\npublished recipes, and 9 others", "published recipes") == [value]


@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_quoted_size_is_that_of_the_table(page: Path, what: str) -> None:
    wrong = [value for value in quoted(page.read_text(encoding="utf-8"), what) if value != SIZES[what]]
    assert not wrong, f"{page.name} says {wrong} {what}; the table has {SIZES[what]}"


@pytest.mark.parametrize("what", SIZES)
def test_the_readme_quotes_each_size_once(what: str) -> None:
    assert quoted((ROOT / "README.md").read_text(encoding="utf-8"), what) == [SIZES[what]]


def test_the_readme_names_as_many_places_to_read_as_it_says() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Read the code")[2].partition("\n## ")[0]
    (places,) = quoted(section, "places")
    names = re.findall(r"\]\((tuner/[^)]*)\)", section)
    assert len(names) == places
    assert all((ROOT / name).exists() for name in names)


def test_the_table_of_spaces_counts_their_arms() -> None:
    page = (ROOT / "docs" / "study-file.md").read_text(encoding="utf-8")
    for name, path in list_spaces().items():
        (arms,) = re.findall(rf"^\| `{re.escape(name)}` \| ([^|]*) \|", page, re.MULTILINE)
        count = re.match(WORD, arms)
        named = number(count[0]) if count else len(arms.split(","))
        assert named == len(read_space(read_yaml(path)).arms), name
