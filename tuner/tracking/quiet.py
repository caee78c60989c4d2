"""Keeps secrets out of what a process writes to its log; knows nothing of what is logged."""

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
    """From now on, blank passwords in everything that this process writes to stdout and stderr."""
    secrets = known_secrets()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Discreet):
            setattr(sys, name, _Discreet(stream, secrets))


def known_secrets() -> tuple[str, ...]:
    """The passwords that the environment holds, as they are and as they stand in URLs; longest first."""
    found = {os.environ.get(name, "") for name in _PLAIN}
    for name in _URLS:
        try:
            password = urlsplit(os.environ.get(name, "")).password or ""
        except ValueError:
            continue
        found |= {password, unquote(password)}
    return tuple(sorted((secret for secret in found if len(secret) > 3), key=len, reverse=True))


class _Discreet(io.TextIOBase):
    """A text stream that passes whole lines on, without secrets."""

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
        """Pass on a last line that lacks its end."""
        if self._line:
            self._pass_on(self._line)
            self._line = ""

    def _pass_on(self, text: str) -> None:
        text = hide_secrets(text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self._stream.write(text)
        self._stream.flush()
