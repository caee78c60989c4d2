"""Settings of the installation: storage, tracking and folder, and how leases are kept. No study is known here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_STORAGE = "sqlite:///tuner.db"
DEFAULT_TRACKING = "sqlite:///mlflow.db"

LEASE_SECONDS = 60.0
"""A driver's lease of a study that was not renewed for this long may be taken over."""
HEARTBEAT_SECONDS = 10.0
"""A driver renews its lease this often."""

_PASSWORD = re.compile(r"(?P<head>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*):(?P<secret>[^\s]*)@")
_QUERY = re.compile(r"(?i)([?&](?:[a-z_]*(?:password|secret|token|key)[a-z_]*)=)[^&\s]+")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the ledger, the mirror and the files of studies are.

    ``storage`` is an SQLAlchemy URL, ``tracking`` an MLflow tracking URI or ``none``. ``folder`` has a folder for each
    study, with its checkpoints, the recommendation and the pictures.
    """

    storage: str = field(default=DEFAULT_STORAGE, repr=False)
    tracking: str = field(default=DEFAULT_TRACKING, repr=False)
    folder: Path = Path("studies")

    @staticmethod
    def from_environment(storage: str | None = None, tracking: str | None = None) -> Settings:
        """Return the settings: what is given, else ``TUNER_STORAGE`` and ``TUNER_TRACKING``, else the defaults.

        The folder is ``TUNER_FOLDER``, or ``studies`` in the working folder.
        """
        return Settings(
            storage=storage or os.environ.get("TUNER_STORAGE") or DEFAULT_STORAGE,
            tracking=tracking or os.environ.get("TUNER_TRACKING") or DEFAULT_TRACKING,
            folder=Path(os.environ.get("TUNER_FOLDER") or "studies"),
        )


def hide_secrets(text: str) -> str:
    """Return a text with the passwords and tokens of all its URLs blanked.

    >>> hide_secrets("postgresql+psycopg://ann:p@ss@db:5432/tuner failed")
    'postgresql+psycopg://ann:***@db:5432/tuner failed'
    >>> hide_secrets("http://host/?api_key=abc&x=1")
    'http://host/?api_key=***&x=1'
    """
    return _QUERY.sub(r"\1***", _PASSWORD.sub(r"\g<head>:***@", text))
