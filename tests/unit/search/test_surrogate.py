"""The Gaussian process over settings and horizons."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.search.surrogate import Parameters, Surrogate, expected_improvement

NO_WORDS = np.array([], dtype=np.intp)
PLAIN = Parameters((np.log(0.3),), 0.0, np.log(0.05), 0.7, 2.0)


def curve(points: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    values = np.sin(5.0 * points[:, 0])
    return np.asarray((values - values.mean()) / values.std())


def on_one_rung(n: int = 12, parameters: Parameters | None = None) -> Surrogate:
    points = np.linspace(0.0, 1.0, n)[:, None]
    return Surrogate(points, np.zeros(n, dtype=np.intp), curve(points), 0, NO_WORDS, parameters)


class TestPrediction:
    def test_goes_through_what_it_saw_and_is_sure_there(self) -> None:
        model = on_one_rung()
        points = np.linspace(0.0, 1.0, 12)[:, None]
        mean, variance = model.predict(points, 0)
        np.testing.assert_allclose(mean + model.level(0), curve(points), atol=0.1)
        _, away = model.predict(np.array([[3.0]]), 0)
        assert variance.max() < away[0]

    def test_between_points_it_is_close(self) -> None:
        model = on_one_rung()
        points = np.linspace(0.05, 0.95, 9)[:, None]
        values = np.sin(5.0 * points[:, 0])
        grid = np.sin(5.0 * np.linspace(0.0, 1.0, 12))
        mean, _ = model.predict(points, 0)
        np.testing.assert_allclose(mean + model.level(0), (values - grid.mean()) / grid.std(), atol=0.15)

    def test_it_is_the_textbook_formula(self) -> None:
        """Rasmussen & Williams 2006, equations 2.25 and 2.26, written out."""
        points, rungs = np.array([[0.1], [0.4], [0.8], [0.5]]), np.array([0, 0, 0, 1], dtype=np.intp)
        values, at = np.array([0.3, -1.0, 0.5, 0.9]), np.array([[0.2], [0.9]])
        model = Surrogate(points, rungs, values, 1, NO_WORDS, PLAIN)

        def kernel(a: np.ndarray, ra: np.ndarray, b: np.ndarray, rb: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
            d = np.sqrt(5.0) * np.abs(a[:, None, 0] - b[None, :, 0]) / 0.3
            return np.asarray((1 + d + d * d / 3) * np.exp(-d) * 0.7 ** np.abs(ra[:, None] - rb[None]))

        noise = np.diag(np.exp(2 * (np.log(0.05) + 2.0 * (1 - rungs))))
        levels = 4.0 + 4.0 * (rungs[:, None] == rungs[None])
        inverse = np.linalg.inv(kernel(points, rungs, points, rungs) + levels + noise)
        cross = kernel(at, np.array([1, 1]), points, rungs)
        mean, variance = model.predict(at, 1)
        np.testing.assert_allclose(mean, cross @ inverse @ values, atol=1e-5)
        np.testing.assert_allclose(variance, 1.0 - np.einsum("ij,jk,ik->i", cross, inverse, cross), atol=1e-5)

    def test_words_are_alike_or_not(self) -> None:
        points = np.array([[0.1], [0.5], [0.9]])
        args = points, np.zeros(3, dtype=np.intp), np.array([1.0, 0.0, -1.0]), 0
        model = Surrogate(*args, np.array([0], dtype=np.intp), PLAIN)
        near, far = model.predict(np.array([[0.9000000001], [0.7]]), 0)[1]
        assert near < far
        assert model.predict(np.array([[0.7]]), 0)[1] == pytest.approx(model.predict(np.array([[0.3]]), 0)[1])


class TestFit:
    def test_the_same_data_the_same_parameters(self) -> None:
        assert on_one_rung().parameters == on_one_rung().parameters

    def test_pure_noise_is_told_from_a_smooth_function(self) -> None:
        points = np.linspace(0.0, 1.0, 24)[:, None]
        noise = np.random.default_rng(3).normal(size=24)
        rough = Surrogate(points, np.zeros(24, dtype=np.intp), noise, 0, NO_WORDS)
        assert rough.noise(0) > 20 * on_one_rung(24).noise(0)

    def test_rungs_that_agree_are_told_from_those_that_do_not(self) -> None:
        points = np.tile(np.linspace(0.0, 1.0, 10), 2)[:, None]
        rungs = np.repeat([0, 1], 10).astype(np.intp)
        same = np.tile(curve(points[:10]), 2)
        other = np.concatenate([curve(points[:10]), np.cos(11.0 * points[10:, 0])])
        fits = [Surrogate(points, rungs, values, 1, NO_WORDS).parameters for values in (same, other)]
        assert fits[0].agreement > fits[1].agreement

    def test_a_dimension_that_does_not_matter_gets_a_long_length(self) -> None:
        points = np.random.default_rng(0).random((30, 2))
        model = Surrogate(points, np.zeros(30, dtype=np.intp), curve(points), 0, NO_WORDS)
        assert model.parameters.lengths[1] > model.parameters.lengths[0] + 0.5


class TestWhatARunTells:
    def test_a_closer_rung_tells_more(self) -> None:
        points = np.array([[0.1], [0.9]])
        model = Surrogate(points, np.array([2, 2], dtype=np.intp), np.array([1.0, -1.0]), 2, NO_WORDS, PLAIN)
        told = [model.share_told(np.array([0.5]), rung) for rung in range(3)]
        assert told == sorted(told)
        assert all(0.0 <= share <= 1.0 for share in told)

    def test_what_is_known_already_tells_less(self) -> None:
        points = np.array([[0.5], [0.9]])
        model = Surrogate(points, np.array([1, 1], dtype=np.intp), np.array([1.0, -1.0]), 2, NO_WORDS, PLAIN)
        assert model.share_told(np.array([0.5]), 1) < model.share_told(np.array([0.0]), 1)


def test_expected_improvement_against_simulation() -> None:
    mean, deviation, best = np.array([0.2, -1.0, 0.0]), np.array([1.0, 0.5, 2.0]), 0.4
    draws = np.random.default_rng(1).normal(mean, deviation, (400_000, 3))
    expected = np.maximum(draws - best, 0.0).mean(axis=0)
    np.testing.assert_allclose(expected_improvement(mean, deviation, best), expected, atol=5e-3)
