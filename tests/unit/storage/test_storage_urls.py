"""URLs with secrets and special characters, and databases that cannot be reached."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from storage_records import NAME

from tuner.core.errors import StorageError
from tuner.search.optuna_arm import open_storage
from tuner.storage.engine import known_versions, make_engine, shown
from tuner.storage.ledger import Ledger

SECRET = "p{0}@%/:x#ü"


@pytest.mark.postgres
class TestPasswordWithSpecialCharacters:
    @pytest.fixture
    def url(self, postgres: sa.URL) -> sa.URL:
        """A role and a database of its own, with the password."""
        engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            if not connection.execute(sa.text("SELECT 1 FROM pg_roles WHERE rolname = 'ann'")).scalar():
                connection.execute(sa.text(f"CREATE ROLE ann LOGIN PASSWORD '{SECRET.replace(':', chr(92) + ':')}'"))
                connection.execute(sa.text("CREATE DATABASE anns OWNER ann"))
        engine.dispose()
        return postgres.set(username="ann", password=SECRET, database="anns")

    def test_opens_both_halves(self, url: sa.URL) -> None:
        text = url.render_as_string(hide_password=False)
        ledger = Ledger(text)
        ledger.migrate()
        assert NAME not in [row.name for row in ledger.studies()]
        assert open_storage(text).get_all_studies() == []
        ledger.close()

    def test_is_in_no_error(self, url: sa.URL) -> None:
        text = url.set(database="nosuch").render_as_string(hide_password=False)
        encoded = text.partition("ann:")[2].partition("@")[0]
        ledger = Ledger(text)
        messages = []
        for look in (ledger.ready, ledger.migrate, lambda: ledger.study(NAME), lambda: open_storage(text)):
            with pytest.raises(StorageError) as caught:
                look()
            messages.append(str(caught.value))
        for message in [*messages, shown(ledger.engine), repr(ledger.engine)]:
            assert SECRET not in message
            assert encoded not in message
        assert all("nosuch" in message for message in messages)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "expected an SQLAlchemy URL"),
        ("foo://ann:hunter2@host/db", "foo"),
        ("postgresql://ann:hunter2@host:port/db", "the port is not a number"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("postgresql+nosuch://ann:hunter2@host/db", "driver is installed"),
    ],
)
def test_urls_that_are_none(url: str, says: str) -> None:
    with pytest.raises(StorageError, match=says) as caught:
        make_engine(url)
    assert "hunter2" not in str(caught.value)


def test_a_missing_sqlite_file_is_not_made_by_looking(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/a.db")
    assert not ledger.ready()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/no/a.db")
    with pytest.raises(StorageError, match="unable to open database file"):
        ledger.migrate()


def test_another_programs_file(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("not a database, but a text of some length" * 50)
    with pytest.raises(StorageError, match="not a database"):
        Ledger(f"sqlite:///{tmp_path}/a.db").ready()


def test_sqlite_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/a.db")
    ledger.migrate()
    ledger.create(NAME, {})
    with ledger.engine.begin() as connection:
        connection.execute(sa.text("UPDATE tuner_studies SET state = 'finished'"))
        assert Ledger(ledger.url).study(NAME).state == "open"
    assert ledger.study(NAME).state == "finished"
    ledger.close()


def test_versions_are_numbered() -> None:
    assert known_versions()[0] == "001"
