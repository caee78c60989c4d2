"""Settings of the installation (environment, default places); nothing of a single study."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_STORAGE = "sqlite:///tuner.db"
DEFAULT_TRACKING = "sqlite:///mlflow.db"

LEASE_SECONDS = 60.0
"""A lease that was not renewed for so long may be taken over."""
HEARTBEAT_SECONDS = 10.0

_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*):(?P<secret>[^\s]*)@")
_QUERY = re.compile(r"(?i)([?&](?:[a-z_]*(?:password|secret|token|key)[a-z_]*)=)[^&\s]+")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the ledger, the mirror and the files of studies are.

    ``storage`` is an SQLAlchemy URL, ``tracking`` an MLflow tracking URI or ``none``, ``folder`` holds a
    folder for each study: checkpoints, the recommendation, the pictures.
    """

    storage: str = field(default=DEFAULT_STORAGE, repr=False)
    tracking: str = field(default=DEFAULT_TRACKING, repr=False)
    folder: Path = Path("studies")

    @staticmethod
    def from_environment(storage: str | None = None, tracking: str | None = None) -> Settings:
        """Take what was given, else ``TUNER_STORAGE``, ``TUNER_TRACKING``, ``TUNER_FOLDER``, else the default."""
        return Settings(
            storage=storage or os.environ.get("TUNER_STORAGE") or DEFAULT_STORAGE,
            tracking=tracking or os.environ.get("TUNER_TRACKING") or DEFAULT_TRACKING,
            folder=Path(os.environ.get("TUNER_FOLDER") or "studies"),
        )


def hide_secrets(text: str) -> str:
    """Blank the passwords of all URLs in a text.

    >>> hide_secrets("postgresql+psycopg://ann:p@ss@db:5432/tuner failed")
    'postgresql+psycopg://ann:***@db:5432/tuner failed'
    >>> hide_secrets("http://host/?api_key=abc&x=1")
    'http://host/?api_key=***&x=1'
    """
    return _QUERY.sub(r"\1***", _PASSWORD.sub(r"\g<head>:***@", text))
