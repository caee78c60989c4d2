"""From the tables of recorded runs and their curves to the records of each study that they tell of."""

from __future__ import annotations

from pathlib import Path

from tuner.recorded.csv_reading import read_curves, read_runs
from tuner.recorded.to_records import studies_of
from tuner.study_records import StudyRecords


def studies_in_tables(
    runs: Path, curves: Path | None, alpha: float, min_effect: float | None
) -> tuple[StudyRecords, ...]:
    """Return the studies of a table of runs, in the order of their names.

    Args:
        runs: a row a run, as a CSV file (``.csv`` or ``.csv.gz``).
        curves: a row a point of a run's curve, alike; None if no curves are recorded.
        alpha: the error rate of each study's verdict.
        min_effect: the smallest difference that matters, in the metric's unit; None derives it from the seed noise.

    Raises:
        InputError: a row contradicts another or cannot be read; with file, line and column.
    """
    rows = read_runs(runs)
    points = read_curves(curves, rows) if curves else {}
    return studies_of(rows, points, source=runs.name, alpha=alpha, min_effect=min_effect)
