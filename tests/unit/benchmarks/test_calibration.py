"""The verdict's error rates and power, measured on few simulated studies; the benchmark measures them on many."""

from __future__ import annotations

import pytest
from benchmark_scripts import loaded


@pytest.fixture(scope="module")
def calibration():
    yield from loaded("calibration")


def test_every_rate_keeps_its_bound(calibration) -> None:
    rows = calibration.calibrate(studies=120, seed=1)
    assert [row for row in rows if not row.held] == []
    parts = {row.part for row in rows}
    assert len(parts) == 7
    assert all(row.what in calibration.table(rows) for row in rows)


def test_a_broken_bound_is_called_broken(calibration) -> None:
    row = calibration.Row("part", "case", "false winner", rate=0.2, studies=1000, high=0.05)
    assert not row.held
    assert "broken" in calibration.table([row])
