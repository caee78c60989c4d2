"""The test of a pair, against slow readable references and known distributions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from tuner.analysis.statistics import flips

numbers = st.lists(st.floats(-100, 100, allow_nan=False).map(lambda x: round(x, 3)), min_size=1, max_size=8)


def slow_p(rows: list[float]) -> float:
    """The definition, flip by flip."""
    data = np.array(rows)
    if abs(data.sum()) <= 1e-12 * np.abs(data).sum():
        return 1.0
    ranks = rankdata(np.round(np.abs(data), 9)) * np.sign(data)
    turn = np.sign(data.sum())

    def larger(signs: np.ndarray) -> float:
        both = [float((signs * x).sum() / np.sqrt((x**2).sum())) for x in (turn * data, turn * ranks)]
        return max(both)

    every = [larger(np.array(signs)) for signs in itertools.product((1.0, -1.0), repeat=len(data))]
    return min(1.0, 2.0 * float(np.mean([t >= larger(np.ones(len(data))) - 1e-10 for t in every])))


@given(numbers)
@settings(max_examples=80, deadline=None)
def test_all_flips_are_counted(rows: list[float]) -> None:
    p = flips.sign_flip_p(rows)
    assert p == pytest.approx(slow_p(rows))
    assert p == flips.sign_flip_p([-x for x in rows])
    assert p >= 2.0 ** (1 - len(rows))


@pytest.mark.parametrize("n", [1, 5, 14, 15, 20])
def test_pairs_that_are_all_won_reach_the_floor(n: int) -> None:
    rows = np.arange(1.0, n + 1)
    assert flips.sign_flip_p(rows) == 2.0 ** (1 - n)


def test_above_twenty_pairs_the_floor_is_that_of_the_random_flips() -> None:
    assert flips.sign_flip_p(np.ones(40)) == pytest.approx(1e-5)


@given(st.lists(st.floats(0.5, 2.0), min_size=6, max_size=12), st.floats(1e3, 1e12))
@settings(max_examples=40, deadline=None)
def test_one_run_far_out_takes_away_little(rows: list[float], far: float) -> None:
    """One lost pair, however far out, leaves what the ranks say; the mean alone would be at 1."""
    n = len(rows)
    p = flips.sign_flip_p([*rows, -min(rows) / 2])
    assert p <= 8.0 / 2**n + 1e-12
    won_by_far = flips.sign_flip_p([*rows, far])
    assert won_by_far == 2.0 ** (-n)


def test_the_ranks_alone_are_wilcoxons() -> None:
    rows = np.random.default_rng(0).normal(0.4, 1.0, size=12)
    ranks = flips.signed_ranks(rows[None])[0]
    assert ranks[ranks > 0].sum() == pytest.approx(wilcoxon(rows, alternative="greater").statistic)


def test_differences_that_only_rounding_sets_apart_share_a_rank() -> None:
    ranks = flips.signed_ranks(np.array([[0.91 - 0.90, 0.95 - 0.94, -(0.31 - 0.30), 0.0, 0.2]]))[0]
    assert ranks.tolist() == [3.0, 3.0, -3.0, 0.0, 5.0]


def test_the_direction_is_that_of_the_mean_even_where_the_ranks_point_elsewhere() -> None:
    rows = [-0.1, -0.2, -0.15, -0.3, -0.12, -0.22, -0.18, 9.0]
    assert flips.sign_flip_p(rows) > 0.2


@pytest.mark.parametrize("n", [15, 20, 30])
def test_the_normal_limit_is_near_the_test(n: int) -> None:
    rows = np.random.default_rng(1).normal(0.35, 1.0, size=(12, n))
    exact, fast = flips.sign_flip_ps(rows), flips.sign_flip_ps_fast(rows)
    assert fast == pytest.approx(exact, abs=0.05)
    assert fast[exact < 0.1] == pytest.approx(exact[exact < 0.1], abs=0.01)


def test_rows_are_cut_into_blocks_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(2).normal(0.3, 1.0, size=(7, 16))
    whole = flips.sign_flip_ps(rows)
    monkeypatch.setattr(flips, "_BLOCK", 3 * 2**13)
    assert flips.sign_flip_ps(rows) == pytest.approx(whole)


@pytest.mark.parametrize("shape", ["normal", "cauchy", "coins", "equal"])
def test_exchangeable_pairs_are_rejected_as_often_as_the_level_says(shape: str) -> None:
    rng, size = np.random.default_rng(3), (4_000, 9)
    rows = {
        "normal": rng.normal(size=size),
        "cauchy": rng.standard_cauchy(size=size),
        "coins": rng.integers(-1, 2, size=size).astype(float),
        "equal": rng.choice([-0.5, 0.5], size=size),
    }[shape]
    ps = flips.sign_flip_ps(rows)
    for level in (0.016, 0.05, 0.2):
        assert (ps <= level).mean() <= level + 3 * np.sqrt(level / size[0])


@pytest.mark.parametrize("rows", [[1e300, 1e300, -1e300], [1e-300, 2e-300, 3e-300], [0.0], [0.0, 5.0], [-5.0]])
def test_extreme_sizes_warn_of_nothing(rows: list[float]) -> None:
    assert 0.0 < flips.sign_flip_p(rows) <= 1.0
