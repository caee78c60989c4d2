"""Engines and migrations: how the ledger's database is reached, and how its tables come to be."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from tuner.core.errors import StorageError
from tuner.core.settings import hide_secrets
from tuner.storage.tables import PREFIX, VERSION_TABLE, metadata

SQLITE_WAIT_SECONDS = 60
MIGRATION_LOCK = 0x74756E6572


def make_engine(url: str) -> sa.Engine:
    """Build the engine; nothing is connected yet.

    Raises:
        StorageError: the URL is none, or its driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed, pool_pre_ping=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": SQLITE_WAIT_SECONDS, "check_same_thread": False})
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise _no_url(url, hide_secrets(str(error))) from None
    except ValueError:  # its text may hold a part of a password
        raise _no_url(url, "the port is not a number; escape '/' in a password as %2F and '@' as %40") from None
    if parsed.database in (None, "", ":memory:"):
        raise _no_url(url, "a database in memory is gone when the study stops")
    _tame_sqlite(engine)
    return engine


def _no_url(url: str, cause: str) -> StorageError:
    return StorageError(
        f"storage is {hide_secrets(url)!r}: {cause}; expected an SQLAlchemy URL whose driver is installed, such as "
        "sqlite:///tuner.db or postgresql+psycopg://user:password@host/database (pip install 'tuner[postgres]')."
    )


def shown(engine: sa.Engine) -> str:
    """The database's URL for people, without secrets."""
    return hide_secrets(engine.url.render_as_string())


def _missing_file(engine: sa.Engine) -> bool:
    """Whether to connect would create a SQLite file."""
    url = engine.url
    plain = url.get_backend_name() == "sqlite" and not str(url.database).startswith("file:")
    return plain and not Path(str(url.database)).exists()


def _tame_sqlite(engine: sa.Engine) -> None:
    """Real transactions, writers that queue up, and readers that never block."""

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]
        cursor = connection.cursor()  # type: ignore[attr-defined]
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        mode = "DEFERRED" if connection.get_execution_options().get("reading") else "IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN {mode}")


def has_tables(engine: sa.Engine) -> bool:
    """Whether the ledger's tables are there, in the version that this tuner writes.

    Raises:
        StorageError: the database cannot be reached, or is of another version.
    """
    if _missing_file(engine):
        return False
    try:
        with engine.connect().execution_options(reading=True) as connection:
            if not sa.inspect(connection).has_table(VERSION_TABLE):
                return False
            found = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    except SQLAlchemyError as error:
        raise unreachable(engine, error) from None
    if found in known_versions()[:-1]:
        return False
    if found != known_versions()[-1]:
        raise StorageError(
            f"{shown(engine)}: its tables have version {found}; this tuner writes "
            f"{known_versions()[-1]}. Upgrade tuner, or take another database."
        )
    return True


def unreachable(engine: sa.Engine, error: Exception) -> StorageError:
    cause = hide_secrets(str(getattr(error, "orig", None) or error).strip().splitlines()[0])
    return StorageError(f"{shown(engine)}: the database cannot be used: {cause}. Check that it runs, and the URL.")


def known_versions() -> list[str]:
    """The migrations' numbers, oldest first."""
    return sorted(path.name.split("_")[0] for path in _scripts().joinpath("versions").glob("[0-9]*.py"))


def _scripts() -> Path:
    return Path(__file__).parent / "migrations"


def migrate(engine: sa.Engine) -> None:
    """Create or upgrade the ledger's tables; other tables of the database are left alone.

    Raises:
        StorageError: the database cannot be reached or changed.
    """
    if has_tables(engine):
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # two first drivers at once: one migrates, one waits
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise unreachable(engine, error) from None


def ours(name: str | None, kind: str) -> bool:
    """Whether a table belongs to the ledger (Alembic's autogenerate must not see any other)."""
    return kind != "table" or bool(name and name.startswith(PREFIX) and name in metadata.tables)
