"""The ledger: every change to a study's records, each one short transaction under the driver's lease.

Its constructor opens no connection and creates no table. What a change writes is in
:mod:`tuner.storage.transactions`, how rows become records in :mod:`tuner.storage.reading`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tuner.config.stored import stored_spec
from tuner.core.errors import StorageError, StudyBusy, StudyExists, StudyNotFound
from tuner.core.records import Measurement, RunRecord, RunResult, RunSpec, State, TrialRecord
from tuner.storage import leases, reading
from tuner.storage.engine import has_tables, make_engine, migrate, reader, shown, transaction
from tuner.storage.leases import Lease
from tuner.storage.reading import StudyRow, to_text
from tuner.storage.tables import mirrors, studies
from tuner.storage.transactions import change_of, storable
from tuner.study_records import StudyRecords


class Ledger:
    """All studies of one database. Every method raises :class:`StorageError` if the database cannot be used.

    Methods that take a lease raise :class:`LeaseLost`, and write nothing, once another driver has taken the study over.

    Args:
        url: an SQLAlchemy URL, such as ``sqlite:///tuner.db``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = make_engine(url)

    def __reduce__(self) -> Any:
        raise TypeError("a ledger is never pickled: it holds a database URL, and Ray writes pickles to disk")

    def migrate(self) -> None:
        """Create or upgrade the tables."""
        migrate(self.engine)

    def ready(self) -> bool:
        """Return whether the tables exist, in the version that this tuner writes."""
        return has_tables(self.engine)

    def close(self) -> None:
        self.engine.dispose()

    # -- studies and leases

    def create(self, name: str, spec: Mapping[str, Any]) -> StudyRow:
        """Add a study.

        Raises:
            StudyExists: the database has a study of that name.
        """
        values = {"name": name, "spec": to_text(spec), "state": "open", "created_at": time.time()}
        try:
            with transaction(self.engine) as connection:
                connection.execute(studies.insert().values(reason="", seconds_used=0.0, revision=0, **values))
        except IntegrityError:
            raise StudyExists(f"study {name!r} is in this database already.") from None
        return self.study(name)

    def studies(self) -> list[StudyRow]:
        with reader(self.engine) as connection:
            return reading.all_studies(connection)

    def study(self, name: str) -> StudyRow:
        """Return a study's row.

        Raises:
            StudyNotFound: the database has no study of that name.
            StorageError: the database has no tables of tuner.
        """
        if not self.ready():
            raise StorageError(
                f"{shown(self.engine)}: holds no tables of tuner; expected the database of a study. Run this in the "
                "study's folder, or name its database with --storage."
            )
        rows = self.studies()
        for row in rows:
            if row.name == name:
                return row
        names = ", ".join(row.name for row in rows) or "no study yet"
        raise StudyNotFound(f"study {name!r} is not in {shown(self.engine)}; it holds: {names}.")

    def acquire(self, study: StudyRow) -> Lease:
        """Take the study's lease; see :func:`tuner.storage.leases.acquire`.

        Raises:
            StudyBusy: a living driver holds it, or another driver takes it at this moment.
        """
        try:
            with transaction(self.engine) as connection:
                return leases.acquire(connection, study.id, study.name)
        except IntegrityError:  # two drivers insert the study's first lease at once
            raise StudyBusy(f"study {study.name!r} is being taken up by another driver right now.") from None

    def check(self, lease: Lease) -> None:
        """Refuse to go on unless the lease is still ours."""
        with transaction(self.engine) as connection:
            leases.check(connection, lease)

    def renew(self, lease: Lease, seconds: float = 0.0) -> None:
        """Record a sign of life, and add the seconds of search since the last one."""
        with transaction(self.engine) as connection:
            leases.renew(connection, lease)
            used = studies.c.seconds_used + seconds
            connection.execute(studies.update().where(studies.c.id == lease.study_id).values(seconds_used=used))

    def release(self, lease: Lease) -> None:
        """Give the lease back; nothing happens if it is no longer ours."""
        with transaction(self.engine) as connection:
            leases.release(connection, lease)

    def holder(self, study: StudyRow) -> str | None:
        """Return the process and the host of the driver that holds the study; None if no living driver does."""
        with reader(self.engine) as connection:
            return leases.holder(connection, study.id)

    def set_state(self, lease: Lease, state: str, reason: str = "") -> None:
        """Set the study's state (``open``, ``finished`` or ``stopped``) and why it stopped."""
        with change_of(self.engine, lease) as change:
            change.update_study(state=state, reason=storable(reason))

    def set_spec(
        self, lease: Lease, spec: Mapping[str, Any], kind: str = "", data: Mapping[str, Any] | None = None
    ) -> None:
        """Change what the study asks for, and open it again; with a ``kind``, also add a line to its journal."""
        with change_of(self.engine, lease) as change:
            change.update_study(spec=to_text(spec), state="open", reason="")
            if kind:
                change.add_event(kind, data or {})

    def note(self, lease: Lease, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line to the study's journal."""
        with change_of(self.engine, lease) as change:
            change.add_event(kind, data)

    def notes(self, study: StudyRow) -> list[tuple[float, str, dict[str, Any]]]:
        """Return the study's journal, oldest line first: seconds since the epoch, kind and data."""
        with reader(self.engine) as connection:
            return reading.journal(connection, study.id)

    # -- trials and runs

    def add_trial(self, lease: Lease, trial: TrialRecord, spec: RunSpec | None) -> None:
        """Add a trial and, in the same transaction, its first run, which is in training from then on."""
        with change_of(self.engine, lease) as change:
            change.add_trial(trial)
            if spec is not None:
                change.add_run(spec, State.RUNNING, attempt=1)

    def add_runs(self, lease: Lease, specs: Sequence[RunSpec]) -> None:
        """Queue runs; all or none."""
        with change_of(self.engine, lease) as change:
            for spec in specs:
                change.add_run(spec, State.QUEUED, attempt=0)

    def start(self, lease: Lease, run_id: str) -> int:
        """Hand out a queued run; return the number of the new attempt."""
        with change_of(self.engine, lease) as change:
            return change.start(run_id)

    def requeue(self, lease: Lease, run_id: str, attempt: int, lost: bool) -> int:
        """Queue an attempt in training again; return how many attempts at the run were lost so far."""
        with change_of(self.engine, lease) as change:
            return change.requeue(run_id, attempt, lost)

    def requeue_failed(self, lease: Lease) -> int:
        """Queue the failed and lost runs that stopped the study again; return how many."""
        with change_of(self.engine, lease) as change:
            return change.requeue_failed()

    def requeue_running(self, lease: Lease) -> int:
        """Queue every run that a dead driver left in training again; return how many."""
        with change_of(self.engine, lease) as change:
            return change.requeue_running()

    def finish(self, lease: Lease, run_id: str, attempt: int, result: RunResult) -> bool:
        """Write a run's final state: outcome and all measurements in one transaction. Nothing else writes one.

        Returns:
            False, and nothing changes, if this attempt is not the one in training.
        """
        with change_of(self.engine, lease) as change:
            return change.finish(run_id, attempt, result)

    def measure(self, lease: Lease, new: Mapping[tuple[str, int], Sequence[Measurement]]) -> None:
        """Add measurements of runs in training, by run and attempt; those of other attempts are dropped."""
        with change_of(self.engine, lease) as change:
            for (run_id, attempt), measurements in new.items():
                change.measure(run_id, attempt, measurements)

    def records(self, name: str) -> StudyRecords:
        """Return a study's spec, trials and runs.

        Raises:
            StudyNotFound: the database has no study of that name.
        """
        row = self.study(name)
        return StudyRecords(stored_spec(row.spec, name), tuple(self.trials(row)), tuple(self.runs(row)))

    def trials(self, study: StudyRow) -> list[TrialRecord]:
        with reader(self.engine) as connection:
            return reading.trials_of(connection, study.id)

    def runs(self, study: StudyRow, *, measured: bool = True) -> list[RunRecord]:
        """Return all runs in the order in which they were added; without measurements if ``measured`` is False."""
        with reader(self.engine) as connection:
            return [record for _, record in reading.runs_of(connection, study.id, measured=measured)]

    def changes(self, study: StudyRow, since: int) -> list[tuple[int, RunRecord]]:
        """Return the runs that changed after the revision ``since``, each with its revision, oldest change first."""
        with reader(self.engine) as connection:
            return sorted(reading.runs_of(connection, study.id, since=since), key=lambda pair: pair[0])

    # -- mirrors

    def mirrored(self, study: StudyRow, target: str) -> int:
        """Return the revision up to which a tracker has shown the study at this target; 0 before it has begun."""
        where = (mirrors.c.study_id == study.id) & (mirrors.c.target == target)
        with reader(self.engine) as connection:
            return int(connection.execute(sa.select(mirrors.c.revision).where(where)).scalar() or 0)

    def set_mirrored(self, study: StudyRow, target: str, revision: int) -> None:
        where = (mirrors.c.study_id == study.id) & (mirrors.c.target == target)
        with transaction(self.engine) as connection:
            if connection.execute(mirrors.update().where(where).values(revision=revision)).rowcount == 0:
                connection.execute(mirrors.insert().values(study_id=study.id, target=target, revision=revision))
