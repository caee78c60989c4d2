"""The ladder inside one arm: it keeps its budget, leaves what broke off, and knows when short runs lie."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuner.search.ladder import Ladder, Seen, Step, agreement, design_size, warped
from tuner.search.surrogate import Array

THIRDS = (1 / 9, 1 / 3, 1.0)
NO_WORDS = np.array([], dtype=np.intp)

Value = Callable[[tuple[float, ...], int, int], float]
"""What a setting at a point comes to on a rung; the last argument is its trial."""


@dataclass
class Climb:
    """One arm's search without a study around it."""

    value: Value
    budget: float
    costs: tuple[float, ...] = THIRDS
    dimensions: int = 1
    seed: int = 0
    seen: list[Seen] = field(default_factory=list)
    points: list[tuple[float, ...]] = field(default_factory=list)
    left: float | None = None
    steps: list[Step] = field(default_factory=list)

    def draw(self, number: int) -> Array:
        return np.random.default_rng([self.seed, number]).random((60, self.dimensions))

    def run(self) -> Climb:
        ladder = Ladder(self.costs, NO_WORDS, self.dimensions)
        points, left = self.points, self.budget if self.left is None else self.left
        while True:
            step = ladder.next(self.seen, lambda: self.draw(len(self.seen)), self.budget, left, len(points))
            if step is None:
                return self
            trial = step.trial
            if trial is None:
                trial = len(points)
                points.append(step.point or tuple(self.draw(10_000 + trial)[0].tolist()))
            self.steps.append(step)
            self.seen.append(Seen(trial, points[trial], step.rung, self.value(points[trial], step.rung, trial)))
            left -= self.costs[step.rung]
            assert len(self.steps) < 1000

    @property
    def spent(self) -> float:
        return sum(self.costs[step.rung] for step in self.steps)

    @property
    def full(self) -> list[Seen]:
        return [one for one in self.seen if one.rung == len(self.costs) - 1]


def peak(point: tuple[float, ...], rung: int, trial: int) -> float:
    return -abs(point[0] - 0.37) - 0.1 * (2 - rung)


def noise_below(point: tuple[float, ...], rung: int, trial: int) -> float:
    """Short runs say nothing of the full ones."""
    if rung == 2:
        return peak(point, rung, trial)
    return float(np.random.default_rng([7, trial, rung]).random())


def cliff(point: tuple[float, ...], rung: int, trial: int) -> float:
    return -math.inf if point[0] > 0.5 else peak(point, rung, trial)


class TestAlways:
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        value=st.sampled_from([peak, noise_below, cliff, lambda *_: 0.5, lambda *_: -math.inf]),
        budget=st.sampled_from([1.0, 1.3, 2.0, 3.0, 5.5]),
        costs=st.sampled_from([THIRDS, (1.0,), (0.2, 0.4, 1.0), (0.5, 1.0)]),
        dimensions=st.integers(1, 3),
        seed=st.integers(0, 3),
    )
    def test_what_holds_whatever_is_seen(
        self, value: Value, budget: float, costs: tuple[float, ...], dimensions: int, seed: int
    ) -> None:
        found = Climb(value, budget, costs, dimensions, seed).run()
        assert budget - 1.0 <= found.spent <= budget + 1e-6
        highest: dict[int, int] = {}
        dead: set[int] = set()
        for one in found.seen:
            assert one.rung > highest.get(one.trial, -1), "a setting only goes up"
            assert one.trial not in dead, "what diverged is left alone"
            highest[one.trial] = one.rung
            if one.score == -math.inf:
                dead.add(one.trial)
        if value is peak:
            assert found.full, "something can be a finalist"

    def test_the_same_seen_the_same_step(self) -> None:
        one, two = Climb(peak, 4.0).run(), Climb(peak, 4.0).run()
        assert one.steps == two.steps
        for at in range(5, len(one.seen), 4):
            fresh = Ladder(THIRDS, NO_WORDS, 1)
            left = 4.0 - sum(THIRDS[step.rung] for step in one.steps[:at])
            offered = len({s.trial for s in one.seen[:at]})
            assert fresh.next(one.seen[:at], lambda at=at: one.draw(at), 4.0, left, offered) == one.steps[at]  # type: ignore[misc]

    def test_a_unit_makes_no_difference(self) -> None:
        def scaled(point: tuple[float, ...], rung: int, trial: int) -> float:
            return 1000.0 * peak(point, rung, trial) - 40.0

        assert [s.rung for s in Climb(scaled, 3.0).run().steps] == [s.rung for s in Climb(peak, 3.0).run().steps]

    def test_nothing_affordable_is_nothing(self) -> None:
        assert Ladder(THIRDS, NO_WORDS, 1).next([], lambda: np.empty((0, 1)), 3.0, 0.1, 0) is None

    def test_no_setting_left_is_nothing(self) -> None:
        seen = [Seen(i, (i / 10,), 2, float(i)) for i in range(10)]
        assert Ladder(THIRDS, NO_WORDS, 1).next(seen, lambda: np.empty((0, 1)), 20.0, 10.0, 20) is None


class TestFinding:
    @pytest.mark.parametrize("seed", range(3))
    def test_the_peak_of_a_function(self, seed: int) -> None:
        found = Climb(peak, 4.0, seed=seed).run()
        assert max(one.score for one in found.full) > -0.05

    def test_beside_a_cliff(self) -> None:
        found = Climb(cliff, 4.0).run()
        assert max(one.score for one in found.full) > -0.05
        late = found.seen[len(found.seen) // 2 :]
        assert sum(one.score == -math.inf for one in late) <= len(late) // 3

    def test_more_is_trained_in_full_once_short_runs_were_seen_to_lie(self) -> None:
        """Both have seen eight settings at all lengths, and have as much left to spend."""

        def after(value: Value) -> list[int]:
            told = [(trial, rung) for trial in range(8) for rung in range(3)]
            points = [(0.06 + 0.125 * trial,) for trial in range(8)]
            seen = [Seen(trial, points[trial], rung, value(points[trial], rung, trial)) for trial, rung in told]
            started = Climb(value, 24.0, seen=seen, points=points, left=10.0).run()
            return [step.rung for step in started.steps]

        honest, lying = after(peak), after(noise_below)
        assert sum(rung == 2 for rung in lying) > sum(rung == 2 for rung in honest)
        assert lying[0] == 2
        assert honest[0] < 2

    def test_it_screens_many_more_settings_than_it_trains_in_full(self) -> None:
        counts = Counter(one.rung for one in Climb(peak, 8.0).run().seen)
        assert counts[0] + counts[1] >= 2 * counts[2]


class TestParts:
    def test_the_design_grows_with_the_budget_up_to_eight_a_dimension(self) -> None:
        sizes = [design_size(budget, THIRDS, 2) for budget in (1, 4, 8, 12, 100)]
        assert sizes == sorted(sizes)
        assert sizes[0] == 3
        assert sizes[-1] == 16

    def test_a_run_in_training_counts_as_a_middling_one(self) -> None:
        scores, rungs = np.array([1.0, 2.0, 3.0, np.nan]), np.zeros(4, dtype=np.intp)
        found = warped(scores, rungs)
        assert found[3] == pytest.approx(np.median(found[:3]))

    @given(st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(-math.inf), st.just(math.nan)), min_size=1, max_size=20))
    def test_warped_values_are_finite_and_keep_the_order(self, scores: list[float]) -> None:
        found = warped(np.array(scores), np.zeros(len(scores), dtype=np.intp))
        assert np.isfinite(found).all()
        known = sorted((score, value) for score, value in zip(scores, found, strict=True) if not math.isnan(score))
        assert all(a[1] <= b[1] + 1e-9 for a, b in pairwise(known))

    def test_agreement_of_opposite_rungs_is_below_none(self) -> None:
        down = [Seen(i, (i / 9,), r, float(i if r else -i)) for i in range(9) for r in (0, 1)]
        assert -1.0 <= agreement(down) < 0.0
        assert agreement([]) == pytest.approx(0.8)
