from __future__ import annotations

import numpy as np
import pytest
from analysis.simulated import simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.analysis.statistics import estimates
from tuner.analysis.verdict.looks import extension_level, looks_for, smallest_decisive


def test_equivalence_is_the_interval_inside_the_margin() -> None:
    data = np.array([0.1, -0.2, 0.05, 0.15, -0.05, 0.0])
    reach = abs(data.mean()) + 2.015048 * data.std(ddof=1) / np.sqrt(6)
    assert estimates.equivalent(data, reach + 1e-6, 0.05)
    assert not estimates.equivalent(data, reach - 1e-6, 0.05)
    assert not estimates.equivalent([0.0], 1.0, 0.05)
    assert estimates.equivalent([0.0, 0.0], 0.0, 0.05)


@pytest.mark.parametrize("data", [[1.0], [], [3.0, 3.0], [0.1 + 0.2, 0.3], [1.0, 2.0], [0.0, 0.0, 1e-300]])
def test_bootstrap_intervals_of_degenerate_data_warn_of_nothing(data: list[float]) -> None:
    interval = estimates.bootstrap_interval(data, 0.95)
    if len(data) < 2:
        assert interval is None
    else:
        assert interval is not None
        assert interval[0] <= np.mean(data) <= interval[1]


def test_bootstrap_intervals_mirror_when_the_data_does() -> None:
    data = np.random.default_rng(2).exponential(size=10)
    low, high = estimates.bootstrap_interval(data, 0.95) or (0, 0)
    assert estimates.bootstrap_interval(-data, 0.95) == pytest.approx((-high, -low))
    assert low < data.mean() < high


def test_huge_values_do_not_overflow() -> None:
    groups = [np.array([1.0, 3.0, 4.0]), np.array([-2.0, 2.0])]
    small = estimates.pooled_sd(groups)
    assert estimates.pooled_sd([group * 1e300 for group in groups]) == pytest.approx(small * 1e300)
    assert estimates.pooled_sd([np.zeros(3), np.full(2, 1e-310)]) == 0.0
    huge = np.array([[1e200, -1e200, 1e200], [0.0, 0.0, 0.0]])
    assert estimates.equivalents(huge, 1e199, 0.05).tolist() == [False, True]
    assert estimates.equivalents(huge, 1e202, 0.05).tolist() == [True, True]


def test_holm() -> None:
    assert estimates.holm([]) == []
    assert estimates.holm([0.5, 0.9]) == [1.0, 1.0]


@given(st.integers(1, 400), st.lists(st.integers(1, 2000), max_size=6), st.floats(0.001, 0.3))
@settings(max_examples=80, deadline=None)
def test_the_looks_never_spend_more_than_alpha(planned: int, extensions: list[int], alpha: float) -> None:
    looks = looks_for(planned, alpha, extensions)
    assert sum(look.level for look in looks) <= alpha * (1 + 1e-12)
    assert [look.seeds for look in looks] == sorted({look.seeds for look in looks})
    assert sum(look.level for look in looks) + extension_level(looks, alpha) <= alpha * (1 + 1e-12)
    assert all(look.seeds >= smallest_decisive(look.level) for look in looks if look.interim)


def test_an_extension_moves_no_earlier_look() -> None:
    assert looks_for(10, 0.05, (16, 24))[:3] == looks_for(10, 0.05, (16,))
    assert looks_for(10, 0.05, (8,)) == looks_for(10, 0.05)
    assert looks_for(0, 0.05) == ()


@pytest.mark.parametrize("noise", ["normal", "heavy", "bimodal", "collapsing"])
def test_equal_arms_have_a_winner_in_at_most_five_percent(noise: str) -> None:
    rng = np.random.default_rng(3)
    shape = (2, 4000, 10)
    draws = {
        "normal": lambda: rng.normal(size=shape),
        "heavy": lambda: rng.standard_t(2, size=shape),
        "bimodal": lambda: rng.normal(size=shape) + 6 * (rng.random(shape) < 0.3),
        "collapsing": lambda: rng.normal(size=shape) - 50 * (rng.random(shape) < 0.05),
    }[noise]()
    slack = 3 * np.sqrt(0.05 * 0.95 / shape[1])
    assert simulate(draws)["winner"] <= 0.05 + slack


def test_three_arms_and_a_weak_one_keep_the_error_rate_too() -> None:
    draws = np.random.default_rng(4).normal(size=(3, 3000, 10))
    draws[2] -= 0.8
    assert simulate(draws)["winner"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)


def test_a_clear_difference_is_found_with_ten_seeds() -> None:
    draws = np.random.default_rng(5).normal(size=(2, 2000, 10))
    draws[0] += 2.0
    assert simulate(draws)["arm0"] > 0.9


class TestNoise:
    def test_normal_noise_has_its_standard_deviation(self) -> None:
        rng = np.random.default_rng(5)
        pairs = [[rng.normal(size=4) for _ in range(2)] for _ in range(2_000)]
        same = np.mean([estimates.noise_sd(groups) == estimates.pooled_sd(groups) for groups in pairs])
        assert same > 0.95

    def test_one_collapsed_run_is_not_the_noise(self) -> None:
        rng = np.random.default_rng(6)
        groups = [rng.normal(size=4) for _ in range(5)]
        groups[2][1] = 1_000.0
        assert estimates.pooled_sd(groups) > 200.0
        assert 0.4 < estimates.noise_sd(groups) < 2.5

    def test_values_on_a_grid(self) -> None:
        groups = [np.array([1.0, 1.0, 1.0, 0.9]), np.array([1.0, 1.0, 1.0, 1.0])]
        assert estimates.noise_sd(groups) == estimates.pooled_sd(groups), "a median deviation of 0 says nothing"
        assert estimates.noise_sd([]) == 0.0
