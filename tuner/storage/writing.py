"""A change of one study: a transaction under the driver's lease, and the statements that it may execute.

Which statements make one transaction is the choice of :mod:`tuner.storage.ledger`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

import sqlalchemy as sa

from tuner.core.records import Measurement, Outcome, RunResult, RunSpec, State, TrialRecord
from tuner.storage import leases
from tuner.storage.engine import transaction
from tuner.storage.leases import Lease
from tuner.storage.reading import to_text
from tuner.storage.tables import events, measurements, runs, studies, trials

_NAME_LENGTH = 60
"""Longest text that the columns ``device`` and ``torch`` hold."""


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction on one study: its connection, the study's key, and the revision that the change makes."""

    connection: sa.Connection
    study_id: int
    revision: int

    def update_study(self, **values: Any) -> None:
        """Set columns of the study's row."""
        self.connection.execute(studies.update().where(studies.c.id == self.study_id).values(**values))

    def add_event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line to the study's journal."""
        values = {"study_id": self.study_id, "at": time.time(), "kind": kind, "data": to_text(data)}
        self.connection.execute(events.insert().values(**values))

    def add_trial(self, trial: TrialRecord) -> None:
        self.connection.execute(
            trials.insert().values(
                study_id=self.study_id,
                arm=trial.arm,
                number=trial.index,
                source=trial.source.value,
                setting=to_text(asdict(trial.setting)),
                coordinates=to_text(dict(trial.coordinates)),
                optuna_number=trial.optuna_number,
            )
        )

    def add_run(self, spec: RunSpec, state: State, attempt: int) -> None:
        self.connection.execute(
            runs.insert().values(
                study_id=self.study_id,
                run_id=spec.run_id,
                arm=spec.arm,
                trial=spec.trial,
                phase=spec.phase.value,
                rung=spec.rung,
                seed=spec.seed,
                horizon=str(spec.horizon),
                spec=to_text(spec.to_json()),
                state=state.value,
                attempt=attempt,
                losses=0,
                step=0,
                reason="",
                traceback="",
                tests="{}",
                device="",
                torch="",
                train_seconds=0.0,
                eval_seconds=0.0,
                started_at=time.time() if attempt else 0.0,
                finished_at=0.0,
                resumed_at=0,
                revision=self.revision,
            )
        )

    def start(self, run_id: str) -> int:
        """Begin the next attempt at a queued run; return its number."""
        values = {"state": State.RUNNING.value, "attempt": runs.c.attempt + 1, "started_at": time.time()}
        self._update(self._run(run_id) & (runs.c.state == State.QUEUED.value), values)
        return int(self._value(runs.c.attempt, run_id))

    def requeue(self, run_id: str, attempt: int, lost: bool) -> int:
        """Queue a run again if this attempt is in training; return how many attempts were lost so far."""
        self._update(self._attempt(run_id, attempt), {"state": State.QUEUED.value, "losses": runs.c.losses + int(lost)})
        return int(self._value(runs.c.losses, run_id))

    def requeue_running(self) -> int:
        """Queue every run in training again; return how many there were."""
        in_training = (runs.c.study_id == self.study_id) & (runs.c.state == State.RUNNING.value)
        return self._update(in_training, {"state": State.QUEUED.value})

    def requeue_failed(self) -> int:
        """Queue the failed and lost runs that ended last, up to the last run with another outcome; return how many."""
        ended = (runs.c.study_id == self.study_id) & (runs.c.state == State.ENDED.value)
        latest_first = (runs.c.finished_at.desc(), runs.c.id.desc())
        rows = self.connection.execute(sa.select(runs.c.id, runs.c.outcome).where(ended).order_by(*latest_first)).all()
        failures = takewhile(lambda row: row.outcome in (Outcome.FAILED.value, Outcome.LOST.value), rows)
        keys = [row.id for row in failures]
        self._update(runs.c.id.in_(keys), {"state": State.QUEUED.value, "outcome": None, "losses": 0})
        return len(keys)

    def finish(self, run_id: str, attempt: int, result: RunResult) -> bool:
        """End a run with its result and all measurements; False, and nothing changes, if the attempt is not current."""
        values = {
            "state": State.ENDED.value,
            "outcome": result.outcome.value,
            "value": result.value,
            "step": result.step,
            "reason": storable(result.reason),
            "traceback": storable(result.traceback),
            "tests": to_text(dict(result.tests)),
            "device": result.device[:_NAME_LENGTH],
            "torch": result.torch[:_NAME_LENGTH],
            "train_seconds": result.train_seconds,
            "eval_seconds": result.eval_seconds,
            "started_at": result.started_at,
            "finished_at": result.finished_at,
            "resumed_at": result.resumed_at,
        }
        if self._update(self._attempt(run_id, attempt), values) == 0:
            return False
        self._add_measurements(self._value(runs.c.id, run_id), result.measurements)
        return True

    def measure(self, run_id: str, attempt: int, new: Sequence[Measurement]) -> None:
        """Add measurements of a run in training; those of an attempt that is not current are dropped."""
        key = self.connection.execute(sa.select(runs.c.id).where(self._attempt(run_id, attempt))).scalar()
        if key is not None:
            self._add_measurements(key, new)
            self._update(runs.c.id == key, {})

    def _add_measurements(self, key: int, new: Iterable[Measurement]) -> None:
        """Add measurements, one for each step; a step that the table already has stays as it is."""
        steps = sa.select(measurements.c.step).where(measurements.c.run == key)
        stored = set(self.connection.execute(steps).scalars())
        by_step = {measurement.step: measurement for measurement in new}
        rows = [_columns(key, measurement) for step, measurement in by_step.items() if step not in stored]
        if rows:
            self.connection.execute(measurements.insert(), rows)

    def _run(self, run_id: str) -> sa.ColumnElement[bool]:
        return (runs.c.study_id == self.study_id) & (runs.c.run_id == run_id)

    def _attempt(self, run_id: str, attempt: int) -> sa.ColumnElement[bool]:
        """The run, if this attempt at it is in training: what an older attempt writes matches nothing."""
        return self._run(run_id) & (runs.c.state == State.RUNNING.value) & (runs.c.attempt == attempt)

    def _value(self, column: sa.Column[Any], run_id: str) -> Any:
        return self.connection.execute(sa.select(column).where(self._run(run_id))).scalar_one()

    def _update(self, where: sa.ColumnElement[bool], values: Mapping[str, Any]) -> int:
        """Change runs and give them the new revision; return how many matched."""
        statement = runs.update().where(where).values(**values, revision=self.revision)
        return int(self.connection.execute(statement).rowcount)


@contextmanager
def change_of(engine: sa.Engine, lease: Lease) -> Iterator[Change]:
    """Open a transaction that commits only while the lease is ours, and give the study its next revision.

    Raises:
        LeaseLost: another driver has taken the study over.
        StorageError: the database cannot be used.
    """
    with transaction(engine) as connection:
        leases.check(connection, lease)
        study = studies.c.id == lease.study_id
        connection.execute(studies.update().where(study).values(revision=studies.c.revision + 1))
        revision = connection.execute(sa.select(studies.c.revision).where(study)).scalar_one()
        yield Change(connection, lease.study_id, revision)


def _columns(key: int, measurement: Measurement) -> dict[str, Any]:
    step, values, train_seconds, eval_seconds = measurement.to_row()
    seconds = {"train_seconds": train_seconds, "eval_seconds": eval_seconds}
    return {"run": key, "step": step, "metrics": to_text(values), **seconds}


def storable(text: str) -> str:
    """Return a text of the user's code without what a text column refuses: NUL characters and lone surrogates.

    >>> storable("a\\0b")
    'a\\\\x00b'
    """
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
