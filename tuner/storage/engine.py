"""The ledger's database: its engine, its transactions, and the migrations that create its tables; no row is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from tuner.core.errors import StorageError
from tuner.core.settings import hide_secrets
from tuner.storage.tables import PREFIX, VERSION_TABLE, metadata

SQLITE_WAIT_SECONDS = 60
"""How long a writer waits for another one to commit."""
MIGRATION_LOCK = 0x74756E6572
"""The key of PostgreSQL's advisory lock that one migrating driver holds: the letters of ``tuner``."""


def make_engine(url: str) -> sa.Engine:
    """Build the engine; it connects at first use.

    Raises:
        StorageError: the URL cannot be parsed, its driver is not installed, or its database is in memory.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return sa.create_engine(parsed, pool_pre_ping=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": SQLITE_WAIT_SECONDS, "check_same_thread": False})
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise _wrong_url(url, hide_secrets(str(error))) from None
    except ValueError:  # its text may hold a part of a password
        raise _wrong_url(url, "the port is not a number; escape '/' in a password as %2F and '@' as %40") from None
    if parsed.database in (None, "", ":memory:"):
        raise _wrong_url(url, "a database in memory is lost when the study stops")
    _configure_sqlite(engine)
    return engine


def _wrong_url(url: str, cause: str) -> StorageError:
    return StorageError(
        f"storage is {hide_secrets(url)!r}: {cause}; expected an SQLAlchemy URL whose driver is installed, such as "
        "sqlite:///tuner.db or postgresql+psycopg://user:password@host/database (pip install 'tuner[postgres]')."
    )


def shown(engine: sa.Engine) -> str:
    """Return the database's URL without its password."""
    return hide_secrets(engine.url.render_as_string())


def _missing_file(engine: sa.Engine) -> bool:
    """Return whether a connection would create a SQLite file."""
    url = engine.url
    is_path = url.get_backend_name() == "sqlite" and not str(url.database).startswith("file:")
    return is_path and not Path(str(url.database)).exists()


def _configure_sqlite(engine: sa.Engine) -> None:
    """Give SQLite real transactions, writers that wait for each other, and readers that wait for no writer."""

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


@contextmanager
def reader(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a connection that only reads.

    Raises:
        StorageError: the database cannot be used.
    """
    try:
        with engine.connect().execution_options(reading=True) as connection:
            yield connection
    except DBAPIError as error:
        raise unreachable(engine, error) from error


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a transaction; it commits at the end of the block.

    Raises:
        StorageError: the database cannot be used.
        sqlalchemy.exc.IntegrityError: a row exists already; the caller knows which error that is.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError:
        raise
    except DBAPIError as error:
        raise unreachable(engine, error) from error


def has_tables(engine: sa.Engine) -> bool:
    """Return whether the ledger's tables exist in the version that this tuner writes.

    Raises:
        StorageError: the database cannot be reached, or a later tuner made its tables.
    """
    if _missing_file(engine):
        return False
    try:
        with engine.connect().execution_options(reading=True) as connection:
            if not sa.inspect(connection).has_table(VERSION_TABLE):
                return False
            version = connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    except SQLAlchemyError as error:
        raise unreachable(engine, error) from None
    *earlier, current = known_versions()
    if version in earlier:
        return False
    if version != current:
        raise StorageError(
            f"{shown(engine)}: its tables have version {version}; this tuner writes version {current}. Upgrade tuner, "
            "or use another database."
        )
    return True


def unreachable(engine: sa.Engine, error: Exception) -> StorageError:
    """Return our error for one of the database: its URL and the first line of the cause, without secrets."""
    cause = hide_secrets(str(getattr(error, "orig", None) or error).strip().splitlines()[0])
    return StorageError(f"{shown(engine)}: the database cannot be used: {cause}. Check the URL, and that it runs.")


def known_versions() -> list[str]:
    """Return the numbers of all migrations, oldest first."""
    return sorted(path.name.split("_")[0] for path in _scripts().joinpath("versions").glob("[0-9]*.py"))


def _scripts() -> Path:
    return Path(__file__).parent / "migrations"


def migrate(engine: sa.Engine) -> None:
    """Create or upgrade the ledger's tables; other tables of the database stay as they are.

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
            if engine.dialect.name == "postgresql":  # two drivers start at once: one migrates, the other waits
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise unreachable(engine, error) from None


def ours(name: str | None, kind: str) -> bool:
    """Return whether a table is one of the ledger's; Alembic must compare no other table of the database."""
    return kind != "table" or bool(name and name.startswith(PREFIX) and name in metadata.tables)
