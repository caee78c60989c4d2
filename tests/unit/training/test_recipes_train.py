"""Every recipe of the book builds its optimizer and trains two steps of a small model."""

from __future__ import annotations

import pytest

from training.helpers import DIGITS, assign, trained
from tuner.core.records import Outcome
from tuner.recipes.book import Published, all_recipes

BOOK = all_recipes()


@pytest.mark.parametrize("recipe", BOOK, ids=[recipe.name for recipe in BOOK])
def test_two_steps(recipe: Published) -> None:
    setting = recipe.initial_setting(32).parsed().over({"batch_size": 32})
    result = trained(
        assign(
            DIGITS,
            recipe.family,
            steps=2,
            metric="accuracy",
            direction="maximize",
            schedule=setting.schedule,
            hyperparameters=setting.hyperparameters,
            training=setting.training,
        )
    )
    assert (result.outcome, result.step) == (Outcome.COMPLETED, 2), result.reason
