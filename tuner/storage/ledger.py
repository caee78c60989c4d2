"""The ledger: every write to a study's records, each one short transaction under the driver's lease.

Its constructor connects to nothing and migrates nothing. Reading is in :mod:`tuner.storage.reading`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import takewhile
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from tuner.config.spec import stored_spec
from tuner.core.errors import StorageError, StudyBusy, StudyExists, StudyNotFound
from tuner.core.records import Measurement, RunRecord, RunResult, RunSpec, State, TrialRecord
from tuner.storage import leases, reading
from tuner.storage.engine import has_tables, make_engine, migrate, shown, unreachable
from tuner.storage.leases import Lease
from tuner.storage.reading import StudyRow, to_text
from tuner.storage.tables import events, measurements, mirrors, runs, studies, trials
from tuner.study_records import StudyRecords


class Ledger:
    """All studies of one database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = make_engine(url)

    def __reduce__(self) -> Any:
        raise TypeError("a ledger is never pickled: it holds a database URL, and Ray writes pickles to disk")

    def migrate(self) -> None:
        """Create or upgrade the tables."""
        migrate(self.engine)

    def ready(self) -> bool:
        """Whether the tables are there."""
        return has_tables(self.engine)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.connect().execution_options(reading=True) as connection:
                yield connection
        except DBAPIError as error:
            raise unreachable(self.engine, error) from error

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        """A transaction; what the database refuses becomes our error."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise unreachable(self.engine, error) from error

    @contextmanager
    def _writing(self, lease: Lease) -> Iterator[tuple[sa.Connection, int]]:
        """A transaction that stands only if the lease is ours; with the study's next revision."""
        with self._begin() as connection:
            leases.check(connection, lease)
            mine = studies.c.id == lease.study_id
            connection.execute(studies.update().where(mine).values(revision=studies.c.revision + 1))
            yield connection, connection.execute(sa.select(studies.c.revision).where(mine)).scalar_one()

    # -- studies and leases

    def create(self, name: str, spec: Mapping[str, Any]) -> StudyRow:
        """Add a study.

        Raises:
            StudyExists: there is one of that name.
        """
        try:
            with self._begin() as connection:
                row = {"name": name, "spec": to_text(spec), "state": "open", "created_at": time.time()}
                connection.execute(studies.insert().values(reason="", seconds_used=0.0, revision=0, **row))
        except IntegrityError:
            raise StudyExists(f"study {name!r} is in this database already.") from None
        return self.study(name)

    def studies(self) -> list[StudyRow]:
        with self._reading() as connection:
            return reading.all_studies(connection)

    def study(self, name: str) -> StudyRow:
        """Return a study's row.

        Raises:
            StudyNotFound: there is none of that name.
            StorageError: the database holds no tables of tuner.
        """
        if not self.ready():
            raise StorageError(
                f"{shown(self.engine)}: holds no tables of tuner; expected a database in which a "
                "study was started. Stand in the study's folder, or name its database with --storage."
            )
        rows = self.studies()
        for row in rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in rows) or "no study yet"
        raise StudyNotFound(f"study {name!r} is not in {shown(self.engine)}; it holds: {known}.")

    def acquire(self, study: StudyRow) -> Lease:
        """Take the study's lease; see :func:`tuner.storage.leases.acquire`."""
        try:
            with self._begin() as connection:
                return leases.acquire(connection, study.id, study.name)
        except IntegrityError:  # two drivers at once, for the first time
            raise StudyBusy(f"study {study.name!r} is being taken up by another driver right now.") from None

    def check(self, lease: Lease) -> None:
        """Refuse to go on unless the lease is still ours.

        Raises:
            LeaseLost: it is not.
        """
        with self._begin() as connection:
            leases.check(connection, lease)

    def renew(self, lease: Lease, seconds: float = 0.0) -> None:
        """Show a sign of life, and count the seconds that the study was driven since the last one."""
        with self._begin() as connection:
            leases.renew(connection, lease)
            used = studies.c.seconds_used + seconds
            connection.execute(studies.update().where(studies.c.id == lease.study_id).values(seconds_used=used))

    def release(self, lease: Lease) -> None:
        with self._begin() as connection:
            leases.release(connection, lease)

    def holder(self, study: StudyRow) -> str | None:
        with self._reading() as connection:
            return leases.holder(connection, study.id)

    def set_state(self, lease: Lease, state: str, reason: str = "") -> None:
        with self._writing(lease) as (connection, _):
            where = studies.c.id == lease.study_id
            connection.execute(studies.update().where(where).values(state=state, reason=_storable(reason)))

    def set_spec(
        self, lease: Lease, spec: Mapping[str, Any], kind: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        """Change what the study asks for; with a ``kind``, also add a line to its journal."""
        with self._writing(lease) as (connection, _):
            where = studies.c.id == lease.study_id
            connection.execute(studies.update().where(where).values(spec=to_text(spec), state="open", reason=""))
            if kind:
                connection.execute(_new_event(lease, kind, data or {}))

    def note(self, lease: Lease, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line to the study's journal."""
        with self._writing(lease) as (connection, _):
            connection.execute(_new_event(lease, kind, data))

    def notes(self, study: StudyRow) -> list[tuple[float, str, dict[str, Any]]]:
        with self._reading() as connection:
            return reading.journal(connection, study.id)

    # -- trials and runs

    def add_trial(self, lease: Lease, trial: TrialRecord, spec: RunSpec | None) -> None:
        """Add a proposal and, in the same transaction, the run that trains it, already handed out."""
        with self._writing(lease) as (connection, revision):
            connection.execute(
                trials.insert().values(
                    study_id=lease.study_id,
                    arm=trial.arm,
                    number=trial.index,
                    source=trial.source.value,
                    setting=to_text(asdict(trial.setting)),
                    coordinates=to_text(dict(trial.coordinates)),
                    optuna_number=trial.optuna_number,
                )
            )
            if spec is not None:
                connection.execute(_new_run(lease, spec, State.RUNNING, 1, revision))

    def add_runs(self, lease: Lease, specs: Sequence[RunSpec]) -> None:
        """Queue runs; all or none."""
        with self._writing(lease) as (connection, revision):
            for spec in specs:
                connection.execute(_new_run(lease, spec, State.QUEUED, 0, revision))

    def start(self, lease: Lease, run_id: str) -> int:
        """Hand a queued run out; returns the number of the new attempt."""
        with self._writing(lease) as (connection, revision):
            mine = _this(lease, run_id)
            values: dict[str, Any] = {"state": State.RUNNING.value, "attempt": runs.c.attempt + 1}
            values |= {"started_at": time.time(), "revision": revision}
            connection.execute(runs.update().where(mine, runs.c.state == State.QUEUED.value).values(**values))
            return int(connection.execute(sa.select(runs.c.attempt).where(mine)).scalar_one())

    def requeue(self, lease: Lease, run_id: str, attempt: int, lost: bool) -> int:
        """Put a running attempt back into the queue; returns how often the run was lost by now."""
        with self._writing(lease) as (connection, revision):
            mine = _this(lease, run_id)
            fence = (runs.c.state == State.RUNNING.value) & (runs.c.attempt == attempt)
            values = {"state": State.QUEUED.value, "losses": runs.c.losses + int(lost), "revision": revision}
            connection.execute(runs.update().where(mine, fence).values(**values))
            return int(connection.execute(sa.select(runs.c.losses).where(mine)).scalar_one())

    def requeue_failed(self, lease: Lease) -> int:
        """Queue the failed and lost runs at the end of the ledger again: those that stopped the study."""
        with self._writing(lease) as (connection, revision):
            mine = (runs.c.study_id == lease.study_id) & (runs.c.state == State.ENDED.value)
            ended = connection.execute(
                sa.select(runs.c.id, runs.c.outcome).where(mine).order_by(runs.c.finished_at.desc(), runs.c.id.desc())
            )
            bad = [row.id for row in takewhile(lambda row: row.outcome in ("failed", "lost"), ended.all())]
            values = {"state": State.QUEUED.value, "outcome": None, "losses": 0, "revision": revision}
            connection.execute(runs.update().where(runs.c.id.in_(bad)).values(**values))
            return len(bad)

    def requeue_running(self, lease: Lease) -> int:
        """Put every run that a dead driver left in training back into the queue; returns how many."""
        with self._writing(lease) as (connection, revision):
            left = (runs.c.study_id == lease.study_id) & (runs.c.state == State.RUNNING.value)
            values = {"state": State.QUEUED.value, "revision": revision}
            return int(connection.execute(runs.update().where(left).values(**values)).rowcount)

    def finish(self, lease: Lease, run_id: str, attempt: int, result: RunResult) -> bool:
        """The one gate to a final state: outcome and all measurements in one transaction.

        Returns False, and changes nothing, if the attempt is not the one in training (it was fenced off).
        """
        with self._writing(lease) as (connection, revision):
            mine = _this(lease, run_id)
            fence = (runs.c.state == State.RUNNING.value) & (runs.c.attempt == attempt)
            values = {
                "state": State.ENDED.value,
                "outcome": result.outcome.value,
                "value": result.value,
                "step": result.step,
                "reason": _storable(result.reason),
                "traceback": _storable(result.traceback),
                "tests": to_text(dict(result.tests)),
                "device": result.device[:60],
                "torch": result.torch[:60],
                "train_seconds": result.train_seconds,
                "eval_seconds": result.eval_seconds,
                "started_at": result.started_at,
                "finished_at": result.finished_at,
                "resumed_at": result.resumed_at,
                "revision": revision,
            }
            if connection.execute(runs.update().where(mine, fence).values(**values)).rowcount == 0:
                return False
            key = connection.execute(sa.select(runs.c.id).where(mine)).scalar_one()
            _add_measurements(connection, key, result.measurements)
            return True

    def measure(self, lease: Lease, found: Mapping[tuple[str, int], Sequence[Measurement]]) -> None:
        """Add measurements of runs in training, by run and attempt; those of other attempts are ignored."""
        with self._writing(lease) as (connection, revision):
            for (run_id, attempt), values in found.items():
                mine = _this(lease, run_id) & (runs.c.attempt == attempt) & (runs.c.state == State.RUNNING.value)
                key = connection.execute(sa.select(runs.c.id).where(mine)).scalar()
                if key is not None:
                    _add_measurements(connection, key, values)
                    connection.execute(runs.update().where(runs.c.id == key).values(revision=revision))

    def records(self, name: str) -> StudyRecords:
        """Return all that is known of a study.

        Raises:
            StudyNotFound: there is none of that name.
        """
        row = self.study(name)
        return StudyRecords.of(stored_spec(row.spec, name), self.trials(row), self.runs(row))

    def trials(self, study: StudyRow) -> list[TrialRecord]:
        with self._reading() as connection:
            return reading.trials_of(connection, study.id)

    def runs(self, study: StudyRow, *, measured: bool = True) -> list[RunRecord]:
        """All runs in the order in which they were added; without measurements, if ``measured`` is False."""
        with self._reading() as connection:
            return [record for _, record in reading.runs_of(connection, study.id, measured=measured)]

    def changes(self, study: StudyRow, since: int) -> list[tuple[int, RunRecord]]:
        """Runs that changed after the revision ``since``, each with its revision, oldest change first."""
        with self._reading() as connection:
            return sorted(reading.runs_of(connection, study.id, since=since), key=lambda pair: pair[0])

    # -- mirrors

    def mirrored(self, study: StudyRow, target: str) -> int:
        """Up to which revision a tracker of this target has shown the study."""
        with self._reading() as connection:
            where = (mirrors.c.study_id == study.id) & (mirrors.c.target == target)
            return int(connection.execute(sa.select(mirrors.c.revision).where(where)).scalar() or 0)

    def set_mirrored(self, study: StudyRow, target: str, revision: int) -> None:
        where = (mirrors.c.study_id == study.id) & (mirrors.c.target == target)
        with self._begin() as connection:
            if connection.execute(mirrors.update().where(where).values(revision=revision)).rowcount == 0:
                connection.execute(mirrors.insert().values(study_id=study.id, target=target, revision=revision))


def _storable(text: str) -> str:
    """What the user's code said, without what a text column refuses: NUL characters and lone surrogates."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _this(lease: Lease, run_id: str) -> sa.ColumnElement[bool]:
    return (runs.c.study_id == lease.study_id) & (runs.c.run_id == run_id)


def _new_event(lease: Lease, kind: str, data: Mapping[str, Any]) -> sa.Insert:
    row = {"study_id": lease.study_id, "at": time.time(), "kind": kind, "data": to_text(data)}
    return events.insert().values(**row)


def _new_run(lease: Lease, spec: RunSpec, state: State, attempt: int, revision: int) -> sa.Insert:
    return runs.insert().values(
        study_id=lease.study_id,
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
        revision=revision,
    )


def _add_measurements(connection: sa.Connection, run: int, found: Iterable[Measurement]) -> None:
    there = set(connection.execute(sa.select(measurements.c.step).where(measurements.c.run == run)).scalars())
    rows = [
        {
            "run": run,
            "step": m.step,
            "metrics": to_text(dict(m.values)),
            "train_seconds": m.train_seconds,
            "eval_seconds": m.eval_seconds,
        }
        for m in {m.step: m for m in found}.values()
        if m.step not in there
    ]
    if rows:
        connection.execute(measurements.insert(), rows)
