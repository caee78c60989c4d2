"""Writes tables of runs and of curves that :mod:`tuner.recorded.csv_reading` reads; the runs are not checked.

The same rows give the same bytes, also compressed: a table holds neither a time nor its file's name.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tuner.core.errors import InputError
from tuner.core.values import Scalar
from tuner.recorded.csv_reading import CURVE_OPTIONAL, CURVE_REQUIRED, OPTIONAL, PARAM, REQUIRED
from tuner.recorded.rows import NOT_RECORDED, Curves, RecordedRun, number


def write_runs(path: Path, runs: Iterable[RecordedRun], digits: int | None = None) -> None:
    """Write a row for each run, compressed with gzip if the name ends in ``.gz``.

    Each param that is a number has its own column; the other params share one column, as JSON. Optional columns that
    are empty in all runs are left out.

    Args:
        path: the file to write.
        runs: the rows.
        digits: significant digits of values, params and seconds; None keeps all bits.

    Raises:
        InputError: the file cannot be written.
    """
    runs = list(runs)
    names = sorted({name for run in runs for name, value in run.params.items() if _is_number(value)})
    rows = [_run_cells(run, digits) for run in runs]
    optional = [column for column in OPTIONAL if any(row.get(column) for row in rows)]
    _write(path, [*REQUIRED, *optional, *(PARAM + name for name in names)], rows)


def write_curves(path: Path, curves: Curves, digits: int | None = None) -> None:
    """Write a row for each point, in the order of ``curves``; otherwise as :func:`write_runs`."""
    rows = [
        {"run_id": run_id, "step": str(point.step), "value": _number(point.value, digits)}
        | ({} if point.seconds is None else {"seconds": _number(point.seconds, digits)})
        for run_id, points in curves.items()
        for point in points
    ]
    optional = [column for column in CURVE_OPTIONAL if any(row.get(column) for row in rows)]
    _write(path, [*CURVE_REQUIRED, *optional], rows)


def _run_cells(run: RecordedRun, digits: int | None) -> dict[str, str]:
    texts = {name: value for name, value in run.params.items() if not _is_number(value)}
    cells = {
        "run_id": run.run_id,
        "study": run.study,
        "arm": run.arm,
        "seed": str(run.seed),
        "phase": run.phase.value,
        "outcome": run.outcome.value,
        "direction": run.direction,
        "value": _number(run.value, digits),
        "metric": run.metric,
        "schedule": _schedule(run.schedule),
        "horizon": _number(None if run.horizon is None else number(run.horizon), None),
        "seconds": _number(run.seconds, digits),
        "params": json.dumps(texts, sort_keys=True) if texts else "",
        "sampler": run.sampler,
    }
    return cells | {PARAM + name: _number(v, digits) for name, v in run.params.items() if name not in texts}


def _schedule(schedule: Mapping[str, Scalar]) -> str:
    if set(schedule) == {"kind"} and not str(schedule["kind"]).startswith("{"):
        return "" if schedule["kind"] == NOT_RECORDED else str(schedule["kind"])
    return json.dumps(dict(schedule), sort_keys=True)


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Scalar | None, digits: int | None) -> str:
    """A number as text, with all its bits or rounded; empty if it is not finite.

    >>> _number(0.1, None), _number(1 / 3, 3), _number(None, 3), _number(float("nan"), 3)
    ('0.1', '0.333', '', '')
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return repr(value) if digits is None or isinstance(value, int) else f"{value:.{digits}g}"


def _write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row.get(column, "") for column in columns] for row in rows)
    data = text.getvalue().encode()
    try:
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}. Name a file in a folder that exists.") from None
