"""Rows of the ledger's tables as records; nothing is written here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tuner.config.space import from_stored_axis
from tuner.core.records import (
    Measurement,
    Outcome,
    RunRecord,
    RunResult,
    RunSpec,
    Setting,
    Source,
    State,
    TrialRecord,
)
from tuner.storage.tables import events, measurements, runs, studies, trials


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study as the ledger stores it.

    ``spec`` is what :meth:`tuner.config.spec.StudySpec.to_json` wrote. ``state`` is open, finished or stopped, and
    ``reason`` says why it stopped. ``created_at`` is in seconds since the epoch, ``seconds_used`` is the time that all
    drivers have searched, and ``revision`` counts the changes.
    """

    id: int
    name: str
    spec: Mapping[str, Any]
    state: str
    reason: str
    created_at: float
    seconds_used: float
    revision: int


def to_text(data: Mapping[str, Any]) -> str:
    """Return JSON that keeps all bits of floats and the order of keys, which has a meaning for arms and dimensions."""
    return json.dumps(data, separators=(",", ":"))


def all_studies(connection: sa.Connection) -> list[StudyRow]:
    """Return all studies, oldest first."""
    rows = connection.execute(sa.select(studies).order_by(studies.c.id)).mappings()
    return [StudyRow(**{**row, "spec": json.loads(row["spec"])}) for row in rows]


def trials_of(connection: sa.Connection, study_id: int) -> list[TrialRecord]:
    """Return a study's trials by arm and index."""
    query = sa.select(trials).where(trials.c.study_id == study_id).order_by(trials.c.arm, trials.c.number)
    return [
        TrialRecord(
            arm=row.arm,
            index=row.number,
            source=Source(row.source),
            setting=Setting.from_json(json.loads(row.setting)),
            coordinates={from_stored_axis(name): value for name, value in json.loads(row.coordinates).items()},
            optuna_number=row.optuna_number,
        )
        for row in connection.execute(query)
    ]


def runs_of(
    connection: sa.Connection, study_id: int, since: int = -1, *, measured: bool = True
) -> list[tuple[int, RunRecord]]:
    """Return the runs that changed after the revision ``since``, in the order of adding, each with its revision."""
    where = (runs.c.study_id == study_id) & (runs.c.revision > since)
    rows = connection.execute(sa.select(runs).where(where).order_by(runs.c.id)).all()
    curves = _curves(connection, where) if measured else {}
    return [(row.revision, _run(row, tuple(curves.get(row.id, ())))) for row in rows]


def _curves(connection: sa.Connection, where: sa.ColumnElement[bool]) -> dict[int, list[Measurement]]:
    """Measurements by the key of their run, in the order of steps."""
    query = (
        sa.select(measurements)
        .join(runs, runs.c.id == measurements.c.run)
        .where(where)
        .order_by(measurements.c.run, measurements.c.step)
    )
    curves: dict[int, list[Measurement]] = {}
    for row in connection.execute(query):
        cells = (row.step, json.loads(row.metrics), row.train_seconds, row.eval_seconds)
        curves.setdefault(row.run, []).append(Measurement.from_row(cells))
    return curves


def _run(row: Any, curve: tuple[Measurement, ...]) -> RunRecord:
    spec = RunSpec.from_json(json.loads(row.spec))
    if row.outcome is None:
        return RunRecord(spec, State(row.state), row.attempt, None, curve, row.started_at)
    result = RunResult(
        outcome=Outcome(row.outcome),
        value=row.value,
        step=row.step,
        reason=row.reason,
        traceback=row.traceback,
        measurements=curve,
        tests=json.loads(row.tests),
        device=row.device,
        torch=row.torch,
        train_seconds=row.train_seconds,
        eval_seconds=row.eval_seconds,
        started_at=row.started_at,
        finished_at=row.finished_at,
        resumed_at=row.resumed_at,
    )
    return RunRecord(spec, State(row.state), row.attempt, result, curve, row.started_at)


def journal(connection: sa.Connection, study_id: int) -> list[tuple[float, str, dict[str, Any]]]:
    """Return a study's journal, oldest line first: seconds since the epoch, kind and data."""
    query = sa.select(events).where(events.c.study_id == study_id).order_by(events.c.id)
    return [(row.at, row.kind, json.loads(row.data)) for row in connection.execute(query)]
