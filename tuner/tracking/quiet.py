"""Keeps passwords out of what a process writes to stdout and stderr."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO
from urllib.parse import unquote, urlsplit

from tuner.core.settings import hide_secrets

_URLS = ("TUNER_STORAGE", "TUNER_TRACKING", "MLFLOW_TRACKING_URI")
_PLAIN = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")


def hide_secrets_in_output() -> None:
    """Replace, from now on, passwords in all that this process writes to stdout and stderr by ``***``."""
    secrets = known_secrets()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Discreet):
            setattr(sys, name, _Discreet(stream, secrets))


def known_secrets() -> tuple[str, ...]:
    """Return the passwords in the environment, plain and as URLs escape them, longest first."""
    passwords = {os.environ.get(name, "") for name in _PLAIN}
    for name in _URLS:
        try:
            password = urlsplit(os.environ.get(name, "")).password or ""
        except ValueError:
            continue
        passwords |= {password, unquote(password)}
    return tuple(sorted((password for password in passwords if len(password) > 3), key=len, reverse=True))


class _Discreet(io.TextIOBase):
    """A text stream that passes on whole lines, without the secrets."""

    def __init__(self, stream: TextIO, secrets: tuple[str, ...]) -> None:
        self._stream, self._secrets, self._line = stream, secrets, ""

    def write(self, text: str) -> int:
        lines, end, rest = (self._line + text).rpartition("\n")
        self._line = rest
        if end:
            self._pass_on(lines + end)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Pass on the last line, if it has no end."""
        if self._line:
            self._pass_on(self._line)
            self._line = ""

    def _pass_on(self, text: str) -> None:
        text = hide_secrets(text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self._stream.write(text)
        self._stream.flush()
