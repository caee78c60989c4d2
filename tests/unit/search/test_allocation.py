"""Which arm may spend next, and up to what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.spec import COMPARE, OPTIMISE
from tuner.search.allocation import floor_of, max_ucb, offers

budgets = st.integers(1, 30).map(float)
spendings = st.lists(st.floats(0.0, 30.0), min_size=1, max_size=4)


def spend(kind: str, budget: float, values: Mapping[str, float], share: float = 1.0) -> dict[str, float]:
    """Serve arms whose full runs always come to the same value, until nobody has use for more."""
    spent, rewards = dict.fromkeys(values, 0.0), {arm: list[float]() for arm in values}
    for _ in range(1000):
        for offer in offers(kind, budget, spent, rewards):
            if offer.budget - spent[offer.arm] >= share - 1e-9:
                spent[offer.arm] += share
                rewards[offer.arm].append(values[offer.arm])
                break
        else:
            return spent
    raise AssertionError("it does not end")


class TestCompare:
    def test_the_one_that_spent_least_comes_first(self) -> None:
        found = offers(COMPARE, 5.0, {"a": 2.0, "b": 1.0, "c": 2.0}, {})
        assert [offer.arm for offer in found] == ["b", "a", "c"]
        assert {offer.budget for offer in found} == {5.0}

    @pytest.mark.parametrize("share", [1.0, 1 / 3, 1 / 9])
    def test_ends_with_equal_budgets(self, share: float) -> None:
        assert spend(COMPARE, 6.0, {"a": 1.0, "b": 9.0}, share) == pytest.approx({"a": 6.0, "b": 6.0})


class TestOptimise:
    @pytest.mark.parametrize("share", [1.0, 1 / 3])
    def test_every_arm_gets_its_floor_and_the_better_one_the_rest(self, share: float) -> None:
        found = spend(OPTIMISE, 12.0, {"good": 0.9, "bad": 0.1, "ugly": 0.2}, share)
        assert min(found.values()) >= 6.0 - 1e-9
        assert found["good"] > found["bad"] + 6.0
        assert sum(found.values()) == pytest.approx(36.0)

    def test_until_the_floors_are_paid_nobody_gets_more(self) -> None:
        first = offers(OPTIMISE, 6.0, {"a": 3.0, "b": 1.0}, {"a": [0.9], "b": [0.1]})[0]
        assert (first.arm, first.budget) == ("b", 3.0)

    def test_who_has_no_use_for_it_leaves_it_to_the_next(self) -> None:
        found = offers(OPTIMISE, 6.0, {"a": 3.0, "b": 3.0}, {"a": [0.9], "b": [0.1]})
        assert [offer.arm for offer in found] == ["a", "b"]

    @given(budgets, spendings)
    def test_nobody_is_offered_more_than_is_left(self, budget: float, costs: Sequence[float]) -> None:
        spent = {f"arm{i}": min(cost, budget) for i, cost in enumerate(costs)}
        left = budget * len(spent) - sum(spent.values())
        for offer in offers(OPTIMISE, budget, spent, {}):
            assert offer.budget - spent[offer.arm] <= left + 1e-9

    @given(budgets)
    def test_the_floor_is_half_at_least(self, budget: float) -> None:
        assert budget / 2 <= floor_of(budget) <= budget


class TestTheBandit:
    def test_an_arm_that_was_tried_little_may_still_have_something(self) -> None:
        index = max_ucb({"a": [0.5] * 30, "b": [0.5]}, {"a": 30.0, "b": 1.0})
        assert index["b"] > index["a"]

    def test_scale_and_level_of_the_metric_do_not_matter(self) -> None:
        rewards, pulls = {"a": [0.1, 0.4], "b": [0.3]}, {"a": 3.0, "b": 2.0}
        scaled = {arm: [100.0 * value - 7.0 for value in row] for arm, row in rewards.items()}
        assert max_ucb(rewards, pulls) == pytest.approx(max_ucb(scaled, pulls))

    def test_what_diverged_or_is_in_training_is_no_reward(self) -> None:
        index = max_ucb({"a": [-math.inf, math.nan], "b": [0.3, 0.4]}, {"a": 2.0, "b": 2.0})
        assert all(math.isfinite(value) for value in index.values())
        assert index["b"] > index["a"]
