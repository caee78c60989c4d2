"""Pages on recipes and suggestions, and the table of initial settings."""

from __future__ import annotations

import io

import pytest
from analysis.records import make_spec
from rich.console import Console

from tuner.config.documents import parse_yaml
from tuner.config.initial_settings import InitialSetting
from tuner.core.records import Horizon, Source
from tuner.recipes.book import all_recipes, find_recipe
from tuner.recipes.suggestion import Features, rank, study_document
from tuner.reporting import recipe_pages
from tuner.reporting.preview.initial_table import homeless, initial_table

CONVNET = Features(
    kind="convnet",
    traits=frozenset({"convnet", "batch-norm"}),
    tasks=frozenset({"image-classification"}),
    layers={"Conv2d": 20, "BatchNorm2d": 19},
    parameters=11_200_000,
    batch=None,
    horizon=Horizon(30, "epochs"),
    metric="accuracy",
    direction="maximize",
    remarks=("One thing was not seen.",),
)


def drawn(part: object) -> str:
    out = io.StringIO()
    Console(file=out, width=220).print(part)
    return out.getvalue()


def test_the_table_has_a_row_for_each() -> None:
    text = drawn(recipe_pages.recipes(all_recipes()))
    row = next(line for line in text.splitlines() if "resnet-50 " in line)
    for cell in ("convnet, residual", "sgdm", "0.1", "0.0001 (L2)", "step", "256 images", "He et al. 2016"):
        assert cell in row


@pytest.mark.parametrize("recipe", all_recipes(), ids=lambda recipe: recipe.name)
def test_a_page_says_everything(recipe: object) -> None:
    from tuner.recipes.book import Published

    assert isinstance(recipe, Published)
    page = recipe_pages.recipe_page(recipe)
    for said in (recipe.title, recipe.dataset, recipe.source, recipe.notes, recipe.family, *recipe.tasks):
        assert said in page
    found = recipe_pages.recipe_json(recipe)
    assert parse_yaml(recipe_pages.as_yaml(found), "s").data == found


def test_a_suggestion_says_what_was_seen_and_why() -> None:
    matches = rank(all_recipes(), CONVNET)[:3]
    document = study_document("mine", "a.b:C", {}, matches, CONVNET)
    text = recipe_pages.suggestion(CONVNET, matches, document)
    assert "a convolutional network of 11.2 M parameters (20 Conv2d, 19 BatchNorm2d), with batch-norm." in text
    assert "batch unknown, horizon 30 epochs" in text
    assert "One thing was not seen." in text
    assert "which yours cannot be compared with" in text
    assert "say --pretrained" in text
    assert parse_yaml(text[text.index("study: mine") :], "s").data == document


def test_nothing_like_it() -> None:
    assert "has nothing like it" in recipe_pages.suggestion(CONVNET, (), {})


def test_known_settings_with_their_places() -> None:
    initial = [
        InitialSetting("sgdm", {"learning_rate": 0.2 * i}, Source.EARLIER, f"study before, sgdm trial {i}")
        for i in (1, 2, 3)
    ]
    initial += [find_recipe("wgan-gp").initial_setting(), find_recipe("awd-lstm").initial_setting()]
    current = {"family": "adamw", "learning_rate": 3e-4}
    spec = make_spec(current=current, initial_settings=[entry.to_json() for entry in initial])
    text = drawn(initial_table(spec))
    assert "default of sgdm" in text
    assert "your current settings" in text
    assert text.count("left out: this budget has room for 2 initial settings per arm") == 2
    assert homeless(spec) == ["recipe wgan-gp (adam)", "recipe awd-lstm (sgd)"]
    assert text.count("left out: no arm of its family") == 2
