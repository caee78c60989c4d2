"""Rungs against prefixes, on tables whose truth is set by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from benchmark_scripts import loaded

from tuner.core.records import Outcome, Phase
from tuner.recorded.csv_writing import write_curves, write_runs
from tuner.recorded.rows import RecordedPoint, RecordedRun

SETTINGS = 12


@pytest.fixture(scope="module")
def rungs():
    yield from loaded("rungs")


def ladder(
    direction: str = "minimize",
) -> tuple[list[RecordedRun], dict[str, tuple[RecordedPoint, ...]]]:
    """Short runs order the settings as full ones do, prefixes the other way round; the worst setting diverges.

    The first half, sgdm's, is the better one.
    """
    sign = 1 if direction == "minimize" else -1
    rows, curves = [], {}
    for number in range(SETTINGS):
        lost = number == SETTINGS - 1
        for horizon in (10.0, 90.0):
            row = RecordedRun(
                run_id=f"{number}-{horizon:g}",
                arm="sgdm" if number < SETTINGS // 2 else "adamw",
                seed=0,
                phase=Phase.EXPLORE,
                outcome=Outcome.DIVERGED if lost else Outcome.COMPLETED,
                direction=direction,
                value=None if lost else sign * float(number),
                params={"learning_rate": number},
                schedule={"kind": ("cosine", "wsd")[number % 2]},
                horizon=horizon,
            )
            rows.append(row)
        prefix = RecordedPoint(10, sign * float(SETTINGS - number))
        curves[f"{number}-90"] = (prefix,) if lost else (prefix, RecordedPoint(90, sign * float(number)))
    return rows, curves


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_rung_that_orders_well_is_told_from_a_prefix_that_does_not(rungs, direction: str) -> None:
    (part,) = rungs.parts(*ladder(direction))
    assert (part.study, part.horizon, part.full, len(part.scores)) == ("runs", 10, 90, SETTINGS)
    adamw, sgdm = rungs.agreements(part)
    assert (adamw.arm, adamw.settings, adamw.rung, adamw.prefix) == ("adamw", 6, 1.0, -1.0)
    assert (sgdm.rung, sgdm.prefix, sgdm.places) == (1.0, -1.0, (1, 6))
    assert sgdm.low > 0
    assert "| runs | sgdm | 6 | 10 of 90 steps | 1.00 | -1.00 | +2.00 (" in rungs.agreement_table([sgdm])


def test_the_order_of_rows_changes_nothing(rungs) -> None:
    rows, curves = ladder()
    (one,), (other,) = rungs.parts(rows, curves), rungs.parts(rows[::-1], curves)
    assert (one.arms, one.kinds, one.scores.tolist()) == (other.arms, other.kinds, other.scores.tolist())


def test_a_tilt_against_an_arm_is_seen_and_one_side_alone_has_none(rungs) -> None:
    """The arms are even in full and on the rung; a prefix ranks all of adamw above all of sgdm."""
    scores = np.array([[i + j / 2, i + 100 * j, i + j / 2] for j in (0, 1) for i in range(20)])
    part = rungs.Part("study", 1, 9, ("sgdm",) * 20 + ("adamw",) * 20, ("cosine",) * 40, scores)
    (found,) = rungs.tilts(part)
    assert (found.sides, found.settings) == (("sgdm", "adamw"), (10, 10))
    full, prefix = found.points[rungs.FULL], found.points[rungs.PREFIX]
    assert (prefix, found.points[rungs.RUNG] - full) == (-100, 0)
    assert found.high[1] < 0
    assert "| study | sgdm over adamw | 10, 10 | 1 of 9 steps | " in rungs.tilt_table([found])
    assert all(math.isnan(points) for points in rungs.tilt(np.array([True, True]), scores[:2]))


def test_settings_that_miss_a_horizon_are_left_out(rungs) -> None:
    rows, curves = ladder()
    (part,) = rungs.parts(rows[:-1], curves)
    assert len(part.scores) == SETTINGS - 1


def test_a_constant_column_has_no_correlation(rungs) -> None:
    rung, prefix = rungs.correlations(np.array([[1.0, 3.0, 10.0], [1.0, -np.inf, 20.0]]))
    assert math.isnan(rung)
    assert prefix == -1.0


def test_tables_in_two_tables_out(rungs, tmp_path: Path, capsys) -> None:
    rows, curves = ladder()
    files = [str(tmp_path / name) for name in ("runs.csv", "curves.csv")]
    write_runs(Path(files[0]), rows)
    write_curves(Path(files[1]), curves)
    assert rungs.main(["--runs", files[0], "--curves", files[1]]) == 0
    assert capsys.readouterr().out.count("10 of 90 steps") == 3


def test_tables_with_one_horizon_are_refused(rungs, tmp_path: Path, capsys) -> None:
    rows, curves = ladder()
    files = [str(tmp_path / name) for name in ("runs.csv", "curves.csv")]
    write_runs(Path(files[0]), rows[1::2])
    write_curves(Path(files[1]), curves)
    assert rungs.main(["--runs", files[0], "--curves", files[1]]) == 2
    assert "no setting was trained at several horizons" in capsys.readouterr().err
