"""Reads tables of runs and of curves as checked rows; which study the rows make is not known here.

Columns and rules are in ``docs/recorded.md``. Nothing is repaired: a row that contradicts another one is refused, with
file, line and column.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import math
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from tuner.core.errors import InputError
from tuner.core.records import Outcome, Phase
from tuner.core.values import Scalar
from tuner.recorded.cells import Row
from tuner.recorded.rows import PHASES, Curves, RecordedPoint, RecordedRun, param_name

REQUIRED = ("run_id", "arm", "seed", "phase", "outcome", "direction", "value")
OPTIONAL = ("study", "metric", "schedule", "horizon", "seconds", "params", "sampler")
PARAM = "param."
DIRECTIONS = ("maximize", "minimize")
OUTCOMES = tuple(outcome.value for outcome in Outcome)
CURVE_REQUIRED, CURVE_OPTIONAL = ("run_id", "step", "value"), ("seconds",)


def read_runs(path: Path) -> tuple[RecordedRun, ...]:
    """Read a table of runs, plain or compressed with gzip.

    Without a column ``study`` all runs are one study, which has the file's name.

    Raises:
        InputError: a column is missing or unknown, a cell is wrong, or two rows contradict each other; with file,
            line and column.
    """
    rows = list(_rows(path, REQUIRED, OPTIONAL, PARAM))
    if not rows:
        raise InputError(f"{path}: holds no run; expected a row for each run below the line of columns.")
    return checked_runs(rows, path.name.removesuffix(".gz").removesuffix(".csv"))


def checked_runs(rows: Sequence[Row], study: str) -> tuple[RecordedRun, ...]:
    """Return the runs of rows, checked as in :func:`read_runs`; rows that name no study belong to ``study``."""
    runs = [_run(row, study) for row in rows]
    _refuse_repeats(rows, runs)
    _refuse_contradictions(rows, runs)
    return tuple(runs)


def read_curves(path: Path, runs: Iterable[RecordedRun]) -> Curves:
    """Read a table of curves, plain or compressed with gzip; the points of a run may be in any order.

    Args:
        path: the table.
        runs: the rows of the table of runs.

    Raises:
        InputError: as :func:`read_runs`; also for a run that the table of runs does not have, a step that a run has
            twice, seconds that decrease, and a value that is not finite in a run that completed.
    """
    by_id = {run.run_id: run for run in runs}
    curves: dict[str, list[tuple[RecordedPoint, Row]]] = {}
    for row in _rows(path, CURVE_REQUIRED, CURVE_OPTIONAL):
        run = by_id.get(row.name("run_id"))
        if run is None:
            raise row.error("run_id", f"is {row.text('run_id')!r}", "a run_id of the table of runs")
        curves.setdefault(run.run_id, []).append((_point(row, run), row))
    return {run_id: _ordered(points) for run_id, points in curves.items()}


def _rows(path: Path, required: Sequence[str], optional: Sequence[str], prefix: str = "") -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(Row({}, str(path), 1), header, required, optional, prefix)
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if len(cells) != len(header):
                place = f"{path}:{line}: has {len(cells)} cells"
                raise InputError(f"{place}; expected {len(header)}, one for each column. Quote a text that has commas.")
            yield Row(dict(zip(header, map(str.strip, cells), strict=True)), str(path), line)
    except csv.Error as error:
        raise InputError(f"{path}:{reader.line_num}: cannot be read as a table: {error}.") from None


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file. Check the path, or change to the right folder.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a table: {error}.") from None


def _check_header(
    head: Row, header: Sequence[str], required: Sequence[str], optional: Sequence[str], prefix: str
) -> None:
    known = (*required, *optional)
    for i, name in enumerate(header):
        if name in header[:i]:
            raise head.error(name, "is a column twice", "each column once")
        if name not in known and not (prefix and name.startswith(prefix) and len(name) > len(prefix)):
            close = difflib.get_close_matches(name, known, n=1)
            advice = f"Did you mean {close[0]!r}?" if close else "Leave it out."
            more = f", or {prefix}NAME for a setting" if prefix else ""
            raise head.error(name or "(no name)", "is no column here", f"{', '.join(known)}{more}", advice)
    for name in required:
        if name not in header:
            raise head.error(name, "is missing", f"the columns {', '.join(required)}")


def _run(row: Row, study: str) -> RecordedRun:
    value, outcome = _value(row)
    return RecordedRun(
        run_id=row.name("run_id"),
        arm=row.name("arm"),
        seed=row.whole("seed"),
        phase=Phase(row.choice("phase", PHASES)),
        outcome=outcome,
        direction=row.choice("direction", DIRECTIONS),
        value=value,
        study=row.text("study", study),
        metric=row.text("metric", "value"),
        params=_params(row),
        schedule=row.schedule("schedule"),
        horizon=row.positive("horizon"),
        seconds=row.positive("seconds", zero=True),
        sampler=row.text("sampler"),
    )


def _value(row: Row) -> tuple[float | None, Outcome]:
    """The value and the outcome: a finite value without an outcome is completed; other outcomes have no value."""
    value, written = row.number("value"), row.text("outcome")
    outcome = Outcome(row.choice("outcome", OUTCOMES)) if written else Outcome.COMPLETED
    if outcome is not Outcome.COMPLETED:
        return None, outcome
    if value is None or not math.isfinite(value):
        found = f"is {row.text('value')!r}" if row.text("value") else "is empty"
        why = "for a completed run" if written else "for a run without an outcome"
        others = ", ".join(name for name in OUTCOMES if name != Outcome.COMPLETED)
        raise row.error("value", f"{found} {why}", "a finite number", f"Or say how the run ended: {others}.")
    return value, outcome


def _params(row: Row) -> dict[str, Scalar]:
    given: list[tuple[str, str, Scalar | None]] = [("params", *pair) for pair in row.mapping("params").items()]
    given += [(name, name.removeprefix(PARAM), row.scalar(name)) for name in row.cells if name.startswith(PARAM)]
    params: dict[str, Scalar] = {}
    spelled: dict[str, str] = {}
    for column, written, value in given:
        if value is None:
            continue
        name = param_name(written)
        if spelled.setdefault(name, written) != written:
            raise row.error(column, f"has {written}, beside {spelled[name]}", "one name for one option", "Keep one.")
        if name in params and params[name] != value:
            raise row.error(column, f"is {value!r}, but params says {params[name]!r}", "the same in both", "Keep one.")
        params[name] = value
    return params


def _refuse_repeats(rows: Sequence[Row], runs: Sequence[RecordedRun]) -> None:
    """Refuse a run that is given twice, also under two names: it would count twice. A lost run may be repeated."""
    names: dict[str, Row] = {}
    trained: dict[tuple[object, ...], Row] = {}
    for row, run in zip(rows, runs, strict=True):
        if run.run_id in names:
            raise row.error("run_id", f"is {run.run_id!r}, as {_where(names[run.run_id])}", "one row for each run")
        names[run.run_id] = row
        if run.outcome is Outcome.LOST:
            continue
        key = (run.study, run.arm, run.setting, run.seed, run.phase, run.horizon)
        if key in trained:
            first = trained[key]
            raise row.error(
                "seed",
                f"is {run.seed}, and arm, schedule, params, phase and seed are those of {first.text('run_id')!r} "
                f"({_where(first)})",
                "one run of a setting with a seed",
                "Remove one, or add what tells them apart.",
            )
        trained[key] = row


def _refuse_contradictions(rows: Sequence[Row], runs: Sequence[RecordedRun]) -> None:
    """Refuse runs of one study with two metrics, and runs of one setting with two samplers."""
    seen: dict[tuple[object, ...], tuple[object, Row]] = {}

    def agree(key: tuple[object, ...], value: object, row: Row, what: str) -> None:
        """Refuse a value that is not the first one of its key, which begins with the column."""
        column = str(key[0])
        first, where = seen.setdefault(key, (value, row))
        if first != value:
            found = f"is {value!r}, but {first!r} {_where(where)}" if value is not None else "is empty"
            raise row.error(column, found, f"the same in all runs of {what}")

    for row, run in zip(rows, runs, strict=True):
        study = f"study {run.study!r}"
        agree(("direction", run.study), run.direction, row, study)
        agree(("metric", run.study), run.metric, row, study)
        if (run.horizon is None) != (seen.setdefault(("horizon", run.study), (run.horizon, row))[0] is None):
            found = "is empty" if run.horizon is None else f"is {run.horizon:g}, but empty in others"
            raise row.error("horizon", found, f"one in all runs of {study}, or in none")
        if run.phase is Phase.CONFIRM:
            agree(("horizon", run.study, "confirm"), run.horizon, row, f"the phase confirm of {study}")
        if run.sampler and run.phase is not Phase.CONFIRM:
            agree(("sampler", run.study, run.arm, run.setting), run.sampler, row, "a setting")


def _where(row: Row) -> str:
    return f"in line {row.line}" if row.line is not None else f"in {row.source}"


def _point(row: Row, run: RecordedRun) -> RecordedPoint:
    value = row.number("value")
    finite = value is not None and math.isfinite(value)
    if run.outcome is Outcome.COMPLETED and not finite:
        found = f"is {row.text('value')!r}" if row.text("value") else "is empty"
        raise row.error("value", f"{found} in run {run.run_id!r}, which completed", "a finite number")
    seconds = row.positive("seconds", zero=True)
    return RecordedPoint(row.whole("step", low=0), value if finite and value is not None else math.nan, seconds)


def _ordered(points: list[tuple[RecordedPoint, Row]]) -> tuple[RecordedPoint, ...]:
    points = sorted(points, key=lambda pair: pair[0].step)
    for (before, first), (point, row) in pairwise(points):
        if before.step == point.step:
            found = f"is {point.step} for run {row.text('run_id')!r}, as {_where(first)}"
            raise row.error("step", found, "each step of a run once")
        if before.seconds is not None and point.seconds is not None and point.seconds < before.seconds:
            found = f"is {point.seconds:g} at step {point.step}, but {before.seconds:g} at step {before.step}"
            raise row.error("seconds", found, "seconds since the run's start, which never decrease")
    return tuple(point for point, _ in points)
