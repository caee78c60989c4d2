"""What a number of seeds can detect: the simulation that the advice rests on."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.records import make_spec

from tuner.analysis.verdict import power
from tuner.analysis.verdict.advice import outlook
from tuner.analysis.verdict.looks import looks_for


@pytest.mark.parametrize("shape", power.SHAPES)
def test_the_shift_gives_the_share_of_won_seeds(shape: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (power.SHAPES[shape](rng, (50_000,)) for _ in range(2))
    assert ((a + power.shift_for(shape, 0.75)) > b).mean() == pytest.approx(0.75, abs=0.01)


def test_the_advised_seeds_see_what_they_promise_and_fewer_do_not() -> None:
    advised = power.seeds_for(0.05)
    assert advised is not None
    assert all(power.power(shape, advised, 0.05) >= 0.8 for shape in power.SHAPES)
    assert any(power.power(shape, advised - 4, 0.05) < 0.8 for shape in power.SHAPES)


def test_more_seeds_see_smaller_differences_and_tie_more_often() -> None:
    seen = [power.smallest_seen(n, 0.05) or 1.0 for n in (10, 20, 40)]
    assert seen == sorted(seen, reverse=True)
    ties = [power.tie_rate(n, 0.05) for n in (6, 12, 24)]
    assert ties == sorted(ties)
    assert power.smallest_seen(3, 0.05) is None


def test_fast_and_exact_judges_agree() -> None:
    draws = np.random.default_rng(1).normal(size=(2, 300, 14))
    draws[0] += 0.9
    looks = looks_for(14, 0.05)
    exact, fast = (power.judge(draws, looks, 0.05, 1.0, exact=exact) for exact in (True, False))
    assert (exact.winner == fast.winner).mean() > 0.95
    assert (exact.winner == 0).mean() == pytest.approx((fast.winner == 0).mean(), abs=0.05)


def test_the_interim_look_decides_clear_cases() -> None:
    draws = np.random.default_rng(2).normal(size=(2, 50, 10))
    draws[1] -= 9.0
    assert power.judge(draws, looks_for(10, 0.05), 0.05).early.all()


def test_the_outlook_of_a_study() -> None:
    ahead = outlook(make_spec(), 2)
    assert ahead is not None
    assert ahead.seeds == 10
    assert ahead.advised is not None
    assert 20 < ahead.advised < 80
    assert 0.2 < ahead.ties < 0.5
    assert ahead.seeds_for_ties is not None
    assert outlook(make_spec(confirmation={"max_runs": 0}), 2) is None
