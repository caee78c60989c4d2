"""The ledger on SQLite and PostgreSQL: who may write, and what is read back."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from storage_records import NAME, SETTING, curve, result, run, spec_json, trial

from tuner.core.errors import LeaseLost, StorageError, StudyBusy, StudyExists, StudyNotFound
from tuner.core.records import Outcome, Phase, RunRecord, State
from tuner.storage import leases
from tuner.storage.heartbeat import Heartbeat
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.storage.reading import StudyRow
from tuner.storage.tables import leases as lease_table


def only(ledger: Ledger, study: StudyRow) -> RunRecord:
    """The study's one run, without the time at which it was handed out."""
    (run_record,) = ledger.runs(study)
    return replace(run_record, started_at=0.0)


def edit_lease(ledger: Ledger, **values: object) -> None:
    with ledger.engine.begin() as connection:
        connection.execute(lease_table.update().values(**values))


class TestMigrations:
    def test_a_constructor_writes_nothing(self, url: str, tmp_path: Path) -> None:
        ledger = Ledger(url)
        assert not ledger.ready()
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(StorageError, match="holds no tables of tuner"):
            ledger.study(NAME)
        assert list(tmp_path.iterdir()) == []
        ledger.close()

    def test_twice_is_once(self, ledger: Ledger, study: StudyRow) -> None:
        ledger.migrate()
        assert ledger.ready()
        assert [row.name for row in ledger.studies()] == [NAME]

    def test_by_several_drivers_at_once(self, url: str) -> None:
        ledgers = [Ledger(url) for _ in range(4)]
        failures: list[Exception] = []

        def migrate(ledger: Ledger) -> None:
            try:
                ledger.migrate()
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=migrate, args=(ledger,)) for ledger in ledgers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert all(ledger.ready() for ledger in ledgers)
        for ledger in ledgers:
            ledger.close()

    def test_models_and_migrations_say_the_same(self, ledger: Ledger) -> None:
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        from tuner.storage.engine import ours
        from tuner.storage.tables import VERSION_TABLE, metadata

        with ledger.engine.connect() as connection:
            options = {
                "version_table": VERSION_TABLE,
                "compare_type": True,
                "include_object": lambda _item, name, kind, _reflected, _other: ours(name, kind),
            }
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, metadata) == []

    @pytest.mark.parametrize("first", ["ours", "optuna"])
    def test_beside_optunas_tables_in_one_database(self, url: str, first: str) -> None:
        from tuner.search.optuna_arm import open_storage

        ledger = Ledger(url)
        for step in ("ours", "optuna") if first == "ours" else ("optuna", "ours"):
            if step == "ours":
                assert not ledger.ready()
                ledger.migrate()
            else:
                open_storage(url)
        open_storage(url)
        ledger.migrate()
        with ledger.engine.connect() as connection:
            names = set(sa.inspect(connection).get_table_names())
        assert {"studies", "trials", "alembic_version", "tuner_studies", "tuner_alembic_version"} <= names
        assert [name for name in names if name.startswith("tuner_")] != []
        ledger.close()

    def test_tables_of_a_later_version_are_refused(self, ledger: Ledger) -> None:
        with ledger.engine.begin() as connection:
            connection.execute(sa.text("UPDATE tuner_alembic_version SET version_num = '999'"))
        for look in (ledger.ready, ledger.migrate, lambda: ledger.study(NAME)):
            with pytest.raises(StorageError, match=r"version 999.*Upgrade tuner"):
                look()

    def test_is_never_pickled(self, ledger: Ledger) -> None:
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(ledger)


class TestStudies:
    def test_come_back_as_they_were_keys_in_order(self, ledger: Ledger, study: StudyRow) -> None:
        row = ledger.study(NAME)
        assert row == study
        assert row.spec == spec_json()
        assert list(row.spec["space"]) == ["zeta", "alpha"]
        assert list(row.spec["space"]["zeta"]) == ["b", "a"]
        assert (row.state, row.reason, row.seconds_used, row.revision) == ("open", "", 0.0, 0)

    def test_of_one_name_are_refused(self, ledger: Ledger, study: StudyRow) -> None:
        with pytest.raises(StudyExists, match="'toy' is in this database already"):
            ledger.create(NAME, {})
        assert ledger.study(NAME) == study

    def test_that_are_not_there(self, ledger: Ledger) -> None:
        with pytest.raises(StudyNotFound, match=r"'other' is not in .* it holds: no study yet"):
            ledger.study("other")
        ledger.create("a", {})
        ledger.create("b", {})
        with pytest.raises(StudyNotFound, match="it holds: a, b"):
            ledger.study("other")

    def test_state_spec_and_journal(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.set_state(lease, "stopped", "why")
        assert (ledger.study(NAME).state, ledger.study(NAME).reason) == ("stopped", "why")
        ledger.set_spec(lease, {"study": NAME, "more": 1})
        assert (ledger.study(NAME).state, ledger.study(NAME).reason) == ("open", "")
        assert ledger.study(NAME).spec == {"study": NAME, "more": 1}
        ledger.note(lease, "confirm", {"seeds": [1, 2]})
        ledger.note(lease, "test", {})
        noted = [("confirm", {"seeds": [1, 2]}), ("test", {})]
        assert [(kind, data) for _, kind, data in ledger.notes(study)] == noted
        ledger.set_spec(lease, {"study": NAME}, "extended", {"arms": []})
        assert [(kind, data) for _, kind, data in ledger.notes(study)] == [*noted, ("extended", {"arms": []})]

    def test_mirrors(self, ledger: Ledger, study: StudyRow) -> None:
        assert ledger.mirrored(study, "here") == 0
        ledger.set_mirrored(study, "here", 5)
        ledger.set_mirrored(study, "here", 9)
        ledger.set_mirrored(study, "there", 2)
        assert (ledger.mirrored(study, "here"), ledger.mirrored(study, "there")) == (9, 2)


class TestLease:
    def test_is_refused_while_a_living_process_holds_it(self, url: str, ledger: Ledger, study: StudyRow) -> None:
        ledger.acquire(study)
        other = Ledger(url)
        with pytest.raises(StudyBusy, match=rf"driven by process {os.getpid()} on .*; expected no other driver"):
            other.acquire(study)
        assert other.holder(study) == ledger.holder(study) is not None
        other.close()

    def test_of_a_dead_process_is_taken_over(self, url: str, ledger: Ledger, study: StudyRow) -> None:
        code = "import sys; from tuner.storage.ledger import Ledger; l = Ledger(sys.argv[1]); l.acquire(l.study('toy'))"
        subprocess.run([sys.executable, "-c", code, url], check=True, timeout=60)
        assert ledger.holder(study) is None
        assert ledger.acquire(study).epoch == 2

    def test_of_another_process_with_the_same_number_is_taken_over(self, ledger: Ledger, study: StudyRow) -> None:
        ledger.acquire(study)
        edit_lease(ledger, process_started=1.0)
        assert ledger.acquire(study).epoch == 2

    def test_of_another_host_is_believed_until_it_is_stale(self, ledger: Ledger, study: StudyRow) -> None:
        ledger.acquire(study)
        edit_lease(ledger, host="elsewhere", pid=1)
        with pytest.raises(StudyBusy, match="on elsewhere"):
            ledger.acquire(study)
        edit_lease(ledger, renewed_at=lease_table.c.renewed_at - leases.LEASE_SECONDS - 5)
        assert ledger.holder(study) is None
        assert ledger.acquire(study).epoch == 2

    def test_that_was_given_back_is_free(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.release(lease)
        assert ledger.holder(study) is None
        with pytest.raises(LeaseLost):
            ledger.set_state(lease, "finished")
        assert ledger.acquire(study).epoch == 2

    def test_that_was_taken_over_fences_every_write(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.add_trial(lease, trial(), run())
        edit_lease(ledger, process_started=1.0)
        later = ledger.acquire(study)
        before, revision = ledger.runs(study), ledger.study(NAME).revision
        writes = [
            lambda: ledger.add_trial(lease, trial(1), run(1)),
            lambda: ledger.add_runs(lease, [run(2)]),
            lambda: ledger.start(lease, run().run_id),
            lambda: ledger.requeue(lease, run().run_id, 1, lost=True),
            lambda: ledger.requeue_running(lease),
            lambda: ledger.finish(lease, run().run_id, 1, result()),
            lambda: ledger.measure(lease, {(run().run_id, 1): curve(1)}),
            lambda: ledger.set_state(lease, "finished"),
            lambda: ledger.set_spec(lease, {}),
            lambda: ledger.note(lease, "x", {}),
            lambda: ledger.renew(lease, 5.0),
        ]
        for write in writes:
            with pytest.raises(LeaseLost, match=r"held by epoch 2; expected epoch 1"):
                write()
        ledger.release(lease)  # nothing happens
        assert ledger.holder(study) is not None
        assert (ledger.runs(study), ledger.study(NAME).revision) == (before, revision)
        assert ledger.study(NAME).seconds_used == 0.0
        assert ledger.finish(later, run().run_id, 1, result())

    def test_two_drivers_at_once_one_wins(self, url: str, study: StudyRow) -> None:
        drivers = [Ledger(url) for _ in range(4)]
        won: list[Lease] = []
        failed: list[Exception] = []
        gate = threading.Barrier(4)

        def drive(ledger: Ledger) -> None:
            gate.wait()
            try:
                won.append(ledger.acquire(study))
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=drive, args=(ledger,)) for ledger in drivers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert [type(error) for error in failed] == [StudyBusy] * 3
        for ledger in drivers:
            ledger.close()


class TestHeartbeat:
    def test_counts_the_seconds_and_gives_the_lease_back(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        lost: list[str] = []
        began = time.monotonic()
        heartbeat = Heartbeat(ledger, lease, lost.append, lambda: time.monotonic() - began, every=0.02)
        threading.Event().wait(0.15)
        assert ledger.study(NAME).seconds_used > 0
        heartbeat.close()
        assert ledger.study(NAME).seconds_used >= 0.15
        assert ledger.holder(study) is None
        assert lost == []

    def test_counts_only_what_is_said_to_count(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        heartbeat = Heartbeat(ledger, lease, lambda reason: None, lambda: 0.0, every=0.02)
        threading.Event().wait(0.1)
        heartbeat.close()
        assert ledger.study(NAME).seconds_used == 0

    def test_says_once_that_the_lease_is_lost(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        heard = threading.Event()
        lost: list[str] = []

        def on_loss(reason: str) -> None:
            lost.append(reason)
            heard.set()

        heartbeat = Heartbeat(ledger, lease, on_loss, time.process_time, every=0.02)
        edit_lease(ledger, epoch=lease.epoch + 1)
        assert heard.wait(10)
        heartbeat.close()
        assert len(lost) == 1
        assert "Another driver took over" in lost[0]
        assert ledger.holder(study) is not None

    def test_outlives_a_database_that_does_not_answer(
        self, ledger: Ledger, study: StudyRow, lease: Lease, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        down, tried, back = threading.Event(), threading.Event(), threading.Event()
        renew = leases.renew

        def failing(connection: sa.Connection, mine: Lease) -> None:
            if down.is_set():
                tried.set()
                raise sa.exc.OperationalError("UPDATE", {}, Exception("server closed the connection"))
            renew(connection, mine)
            if tried.is_set():
                back.set()

        monkeypatch.setattr(leases, "renew", failing)
        lost: list[str] = []
        down.set()
        heartbeat = Heartbeat(ledger, lease, lost.append, time.process_time, every=0.02)
        assert tried.wait(10)
        down.clear()
        assert back.wait(10)
        heartbeat.close()
        assert lost == []
        assert ledger.study(NAME).seconds_used > 0


class TestRuns:
    def test_come_back_bit_for_bit(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        spec = run()
        told = result(tests={"test_loss": 1 / 3}, resumed_at=20)
        ledger.add_trial(lease, trial(), spec)
        assert only(ledger, study) == RunRecord(spec, State.RUNNING, 1)
        assert ledger.finish(lease, spec.run_id, 1, told)
        assert only(ledger, study) == RunRecord(spec, State.ENDED, 1, told, told.measurements)
        assert only(ledger, study).value == 0.1 + 0.2
        assert ledger.trials(study) == [trial()]
        assert list(ledger.trials(study)[0].coordinates) == ["z", "a", "k"]
        assert list(ledger.trials(study)[0].setting.hyperparameters) == list(SETTING.hyperparameters)

    def test_without_their_measurements(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.add_trial(lease, trial(), run())
        ledger.finish(lease, run().run_id, 1, result())
        (bare,) = ledger.runs(study, measured=False)
        assert bare.curve == ()
        assert bare.value == 0.1 + 0.2

    def test_of_two_studies_stay_apart(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        other = ledger.create("other", {})
        second = ledger.acquire(other)
        ledger.add_trial(lease, trial(), run())
        ledger.add_trial(second, trial(), run())
        assert ledger.finish(second, run().run_id, 1, result())
        assert only(ledger, study).state is State.RUNNING
        assert only(ledger, other).state is State.ENDED

    def test_a_trial_and_its_run_come_together_or_not_at_all(
        self, ledger: Ledger, study: StudyRow, lease: Lease
    ) -> None:
        ledger.add_runs(lease, [run()])
        with pytest.raises(sa.exc.IntegrityError):
            ledger.add_trial(lease, trial(), run())
        assert ledger.trials(study) == []
        with pytest.raises(sa.exc.IntegrityError):
            ledger.add_runs(lease, [run(1), run()])
        assert [record.run_id for record in ledger.runs(study)] == [run().run_id]

    def test_attempts_are_fenced(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.add_trial(lease, trial(), run())
        assert ledger.requeue(lease, run().run_id, 1, lost=True) == 1
        assert not ledger.finish(lease, run().run_id, 1, result())
        assert ledger.start(lease, run().run_id) == 2
        assert not ledger.finish(lease, run().run_id, 1, result())
        assert ledger.requeue(lease, run().run_id, 1, lost=True) == 1
        ledger.measure(lease, {(run().run_id, 1): curve(5)})
        assert only(ledger, study) == RunRecord(run(), State.RUNNING, 2)
        assert ledger.finish(lease, run().run_id, 2, result())

    def test_end_once(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.add_trial(lease, trial(), run())
        assert ledger.finish(lease, run().run_id, 1, result(1.0))
        assert not ledger.finish(lease, run().run_id, 1, result(2.0))
        assert only(ledger, study).value == 1.0
        ledger.requeue(lease, run().run_id, 1, lost=False)
        assert ledger.requeue_running(lease) == 0
        assert only(ledger, study).state is State.ENDED

    def test_measurements_are_written_once(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.add_trial(lease, trial(), run())
        key = run().run_id, 1
        ledger.measure(lease, {key: curve(10, 20)})
        ledger.measure(lease, {key: (*curve(20, 25), *curve(25, start=9.0))})
        assert [m.step for m in only(ledger, study).curve] == [10, 20, 25]
        ledger.measure(lease, {("nosuch", 1): curve(1)})
        ledger.finish(lease, *key, result())
        assert [m.step for m in only(ledger, study).curve] == [10, 20, 25, 30]

    def test_requeue(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.add_runs(lease, [run(0), run(1), run(2)])
        assert [ledger.start(lease, run(i).run_id) for i in (0, 1)] == [1, 1]
        ledger.finish(lease, run(0).run_id, 1, result())
        assert ledger.requeue_running(lease) == 1
        assert [r.state for r in ledger.runs(study)] == [State.ENDED, State.QUEUED, State.QUEUED]
        assert ledger.start(lease, run(1).run_id) == 2
        losses = [ledger.requeue(lease, run(1).run_id, 2, lost=lost) for lost in (False,)]
        assert losses == [0]

    def test_requeue_of_the_failures_that_stopped_the_study(
        self, ledger: Ledger, study: StudyRow, lease: Lease
    ) -> None:
        outcomes = [Outcome.FAILED, Outcome.COMPLETED, Outcome.LOST, Outcome.FAILED]
        ledger.add_runs(lease, [run(i) for i in range(5)])
        for i, outcome in enumerate(outcomes):
            ledger.start(lease, run(i).run_id)
            ledger.finish(lease, run(i).run_id, 1, replace(result(None, outcome), finished_at=float(i)))
        assert ledger.requeue_failed(lease) == 2
        states = [r.state for r in ledger.runs(study)]
        assert states == [State.ENDED, State.ENDED, State.QUEUED, State.QUEUED, State.QUEUED]
        assert ledger.start(lease, run(3).run_id) == 2

    def test_changes_by_revision(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.add_runs(lease, [run(0), run(1)])
        first = ledger.changes(study, 0)
        seen = max(revision for revision, _ in first)
        assert [r.run_id for _, r in first] == [run(0).run_id, run(1).run_id]
        assert ledger.changes(study, seen) == []
        ledger.start(lease, run(1).run_id)
        ledger.start(lease, run(0).run_id)
        changed = ledger.changes(study, seen)
        assert [r.run_id for _, r in changed] == [run(1).run_id, run(0).run_id]
        assert all(b > a for a, b in itertools.pairwise([seen, *(revision for revision, _ in changed)]))
        ledger.measure(lease, {(run(0).run_id, 1): curve(3)})
        ((revision, record),) = ledger.changes(study, changed[-1][0])
        assert revision == ledger.study(NAME).revision
        assert record.curve == curve(3)

    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_every_outcome(self, ledger: Ledger, study: StudyRow, lease: Lease, outcome: Outcome) -> None:
        ledger.add_trial(lease, trial(), run(phase=Phase.CONFIRM))
        told = result(0.5 if outcome is Outcome.COMPLETED else None, outcome, reason="because", traceback="line 1")
        ledger.finish(lease, run(phase=Phase.CONFIRM).run_id, 1, told)
        assert only(ledger, study).result == told

    def test_what_users_code_says_is_storable(self, ledger: Ledger, study: StudyRow, lease: Lease) -> None:
        ledger.add_trial(lease, trial(), run())
        wild = replace(result(None, Outcome.FAILED), reason="a\0b \ud800 é", traceback="\0", device="x" * 99)
        assert ledger.finish(lease, run().run_id, 1, wild)
        stored = only(ledger, study).result
        assert stored is not None
        assert (stored.reason, stored.traceback, len(stored.device)) == ("a\\x00b \\ud800 é", "\\x00", 60)
