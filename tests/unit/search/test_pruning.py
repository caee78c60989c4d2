"""Whether a run in training is stopped, compared with the arm's earlier runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.fidelity import PRUNERS
from tuner.search.pruning import Curve, should_prune


def curve(end: float, steps: int = 6) -> Curve:
    return [(10 * (i + 1), end * (i + 1) / steps) for i in range(steps)]


GOOD = [curve(0.6 + 0.05 * i) for i in range(6)]


@pytest.mark.parametrize("name", PRUNERS)
class TestEither:
    def test_stops_the_worst_and_keeps_the_best(self, name: str) -> None:
        assert should_prune(name, curve(0.1)[:3], GOOD, sign=1)
        assert not should_prune(name, curve(0.99)[:3], GOOD, sign=1)

    def test_less_is_better_where_it_is(self, name: str) -> None:
        falling = [[(step, -value) for step, value in row] for row in GOOD]
        assert should_prune(name, [(10, -0.01)], falling, sign=-1)
        assert not should_prune(name, [(10, -0.9)], falling, sign=-1)

    def test_nothing_to_compare_with_stops_nothing(self, name: str) -> None:
        assert not should_prune(name, curve(0.1), [], sign=1)
        assert not should_prune(name, curve(0.1), [[]], sign=1)
        assert not should_prune(name, [], GOOD, sign=1)

    @given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=6), st.floats(0.1, 100.0))
    def test_a_unit_makes_no_difference(self, name: str, values: list[float], unit: float) -> None:
        mine = [(10 * (i + 1), value) for i, value in enumerate(values)]
        scaled = [[(step, value * unit) for step, value in row] for row in (mine, *GOOD)]
        assert should_prune(name, mine, GOOD, 1) == should_prune(name, scaled[0], scaled[1:], 1)


def test_the_median_needs_a_few_runs_first() -> None:
    assert not should_prune("median", curve(0.1)[:2], GOOD[:3], sign=1)
    assert should_prune("median", curve(0.1)[:2], GOOD[:4], sign=1)


def test_halving_stops_at_rungs_only() -> None:
    """Rungs lie at one, three and nine times the first measurement."""
    middling = [(10, 0.9), (20, 0.001)]
    assert not should_prune("asha", middling, GOOD, sign=1)
    assert should_prune("asha", [*middling, (30, 0.002)], GOOD, sign=1)


def test_a_run_that_was_stopped_early_counts_where_it_was() -> None:
    stopped = [row[:1] for row in GOOD]
    assert should_prune("asha", [(10, 0.05)], stopped, sign=1)
    assert not should_prune("asha", [(10, 0.5), (20, 0.0), (30, 0.0)], stopped, sign=1)
