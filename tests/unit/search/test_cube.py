"""An arm's space as a unit cube, and candidates in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.config.documents import Section
from tuner.config.space import ArmSpace
from tuner.config.space_files import read_space
from tuner.core.records import Source, TrialRecord
from tuner.search.cube import UNUSED, Cube


def space() -> ArmSpace:
    """A rate on a log axis, a decay that may be zero, a whole number, words, and a parameter that one kind uses."""
    data = {
        "name": "s",
        "schedule": {"kind": {"choices": ["cosine", "step"]}, "drops": {"low": 1, "high": 4}},
        "arms": {
            "adamw": {
                "learning_rate": {"low": 1e-5, "high": 1e-1, "scale": "log"},
                "weight_decay": {"low": 1e-4, "high": 1.0, "scale": "log", "or_zero": True},
                "one_minus_beta1": {"low": 0.02, "high": 0.5, "scale": "log"},
            }
        },
    }
    return read_space(Section(data, "s")).arm("adamw")


SPACE = space()
CUBE = Cube(SPACE)
NAMES = [d.name for d in SPACE.dimensions]
PLACE = {name: place for place, name in enumerate(NAMES)}
shares = st.lists(st.floats(0.0, 1.0), min_size=len(NAMES), max_size=len(NAMES))


class TestThereAndBack:
    @given(shares)
    def test_a_point_stands_for_one_setting(self, drawn: Sequence[float]) -> None:
        coordinates = CUBE.coordinates(drawn)
        point = CUBE.point(coordinates)
        assert all(0.0 <= u <= 1.0 for u in point)
        again = CUBE.coordinates(point)
        assert CUBE.point(again) == pytest.approx(point, abs=1e-9)
        one, two = CUBE.setting(coordinates), CUBE.setting(again)
        assert one.schedule == two.schedule
        assert one.hyperparameters == pytest.approx(two.hyperparameters)

    def test_a_log_axis_is_even_in_decades(self) -> None:
        middle = CUBE.coordinates([0.5] * len(NAMES))
        assert middle["learning_rate"] == pytest.approx(1e-3)
        assert CUBE.point(middle)[PLACE["learning_rate"]] == pytest.approx(0.5)

    def test_all_that_means_zero_is_one_point(self) -> None:
        place = PLACE["weight_decay"]
        found = set()
        for share in (0.0, 0.02, 0.05):
            drawn = [0.5] * len(NAMES)
            drawn[place] = share
            coordinates = CUBE.coordinates(drawn)
            assert CUBE.setting(coordinates).hyperparameters["weight_decay"] == 0.0
            found.add(CUBE.point(coordinates)[place])
        assert len(found) == 1

    def test_whole_numbers_and_words_take_equal_shares(self) -> None:
        drops = set()
        for share in np.linspace(0.0, 1.0, 41):
            drawn = [0.5] * len(NAMES)
            drawn[PLACE["schedule.kind"]], drawn[PLACE["schedule.drops"]] = 0.9, float(share)
            drops.add(CUBE.coordinates(drawn)["schedule.drops"])
        assert drops == {1, 2, 3, 4}
        kinds = [CUBE.coordinates([u] * len(NAMES))["schedule.kind"] for u in (0.0, 0.49, 0.51, 1.0)]
        assert kinds == ["cosine", "cosine", "step", "step"]

    def test_what_the_schedule_does_not_use_is_one_point(self) -> None:
        place, kind = PLACE["schedule.drops"], PLACE["schedule.kind"]
        for share in (0.1, 0.9):
            drawn = [0.5] * len(NAMES)
            drawn[kind], drawn[place] = 0.1, share
            assert CUBE.point(CUBE.coordinates(drawn))[place] == UNUSED
            drawn[kind] = 0.9
            assert CUBE.point(CUBE.coordinates(drawn))[place] != UNUSED

    def test_words_are_marked(self) -> None:
        assert CUBE.labels.tolist() == [PLACE["schedule.kind"]]


class TestCandidates:
    def test_are_new_inside_and_around_the_best(self) -> None:
        best = CUBE.point(CUBE.coordinates([0.4] * len(NAMES)))
        found = CUBE.candidates(best, [best], seed=3)
        assert ((found >= 0.0) & (found <= 1.0)).all()
        assert not (np.abs(found - np.array(best)) < 1e-9).all(axis=1).any()
        near = np.abs(found[:, PLACE["learning_rate"]] - 0.4) < 0.1
        assert near.sum() > len(found) / 4

    def test_the_same_seed_the_same_candidates(self) -> None:
        assert (CUBE.candidates(None, [], 1) == CUBE.candidates(None, [], 1)).all()
        assert not np.array_equal(CUBE.candidates(None, [], 1), CUBE.candidates(None, [], 2))

    def test_all_are_points_that_settings_have(self) -> None:
        for row in CUBE.candidates(None, [], 5)[:50]:
            assert CUBE.point(CUBE.coordinates(row.tolist())) == pytest.approx(tuple(row), abs=1e-9)


class TestACatalogue:
    """Only the settings of a recorded table can be had."""

    @pytest.fixture
    def trials(self) -> list[TrialRecord]:
        rows = [CUBE.coordinates([u] * len(NAMES)) for u in (0.1, 0.4, 0.6, 0.9)]
        return [TrialRecord("adamw", i, Source.RECORDED, SPACE.decode(row), row) for i, row in enumerate(rows)]

    def test_everything_snaps_to_its_nearest_setting(self, trials: list[TrialRecord]) -> None:
        cube = Cube(SPACE, trials)
        for trial in trials:
            assert cube.snapped(trial.coordinates) == dict(trial.coordinates)
            assert cube.setting(trial.coordinates) is trial.setting
        assert cube.nearest(CUBE.coordinates([0.14] * len(NAMES))) == 0

    def test_candidates_are_those_not_taken_yet(self, trials: list[TrialRecord]) -> None:
        cube = Cube(SPACE, trials)
        points = [cube.point(trial.coordinates) for trial in trials]
        assert len(cube.candidates(None, [], 0)) == 4
        left = cube.candidates(points[1], points[:3], 0)
        assert [tuple(row) for row in left] == [pytest.approx(points[3])]
        assert len(cube.candidates(points[1], points, 0)) == 0
