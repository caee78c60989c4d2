"""Where MLflow keeps its data and its files, by the tracking URI; nothing is opened here."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from tuner.core.errors import InputError
from tuner.core.settings import hide_secrets
from tuner.core.values import digest

ARTIFACTS = "mlartifacts"
_SQLITE = "sqlite:///"


def is_server(uri: str) -> bool:
    """Return whether the URI is the address of an MLflow server, which keeps the files itself."""
    return urlsplit(uri).scheme in ("http", "https")


def check(uri: str) -> str:
    """Return the URI; a SQLite file's path becomes absolute.

    Raises:
        InputError: the URI is neither a database nor a server.

    >>> check("http://127.0.0.1:5000")
    'http://127.0.0.1:5000'
    >>> check("./mlruns")
    Traceback (most recent call last):
    tuner.core.errors.InputError: tracking is './mlruns'; expected sqlite:///FILE, postgresql://..., the http address \
of an MLflow server, or none. MLflow no longer maintains its folders of files, and they would show a replayed value \
twice.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if (path := sqlite_file(uri)) is not None:
        return f"{_SQLITE}{path}"
    if scheme in ("http", "https", "postgresql", "mysql", "mssql"):
        return uri
    raise InputError(
        f"tracking is {hide_secrets(uri)!r}; expected sqlite:///FILE, postgresql://..., the http address of an MLflow "
        "server, or none. MLflow no longer maintains its folders of files, and they would show a replayed value twice."
    )


def sqlite_file(uri: str) -> Path | None:
    """Return the file of a SQLite URI, relative to the working folder; None for another URI.

    >>> sqlite_file("sqlite:////tmp/mlflow.db"), sqlite_file("http://host")
    (PosixPath('/tmp/mlflow.db'), None)
    """
    if not uri.startswith(_SQLITE) or not (name := uri.removeprefix(_SQLITE).partition("?")[0]):
        return None
    return Path(name).absolute()


def artifact_folder(uri: str) -> Path | None:
    """Return the folder of files attached to runs: beside a SQLite file, else in the working folder.

    None if a server keeps them.
    """
    if is_server(uri):
        return None
    path = sqlite_file(uri)
    return (path.parent if path else Path.cwd()) / ARTIFACTS


def target(uri: str) -> str:
    """Return the mirror's name in the ledger: the same for the same place, whatever the password.

    >>> target("http://ann:old@host:5000") == target("http://ann:new@host:5000/")
    True
    """
    return digest(hide_secrets(check(uri)).rstrip("/"))
