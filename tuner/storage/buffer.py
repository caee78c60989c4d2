"""Measurements of runs in training on their way to SQL; what they say is not read here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from tuner.core.records import Measurement

FLUSH_SECONDS = 2.0
"""Measurements of runs in training reach SQL at least this often; an outcome brings all of them at once."""

Attempt = tuple[str, int]
"""A run's id, and which attempt at it."""


class MeasurementBuffer:
    """Measurements that SQL does not have yet, by run and attempt. ``write`` puts them there in one transaction."""

    def __init__(self, write: Callable[[Mapping[Attempt, Sequence[Measurement]]], None]) -> None:
        self._write = write
        self._waiting: dict[Attempt, list[Measurement]] = {}
        self._flushed = time.monotonic()

    def add(self, attempt: Attempt, measurements: Sequence[Measurement]) -> None:
        """Keep measurements, and write all that wait if the last write was ``FLUSH_SECONDS`` ago."""
        self._waiting.setdefault(attempt, []).extend(measurements)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._write(self._waiting)
            self._waiting.clear()
            self._flushed = time.monotonic()

    def discard(self, attempt: Attempt) -> None:
        """Forget an attempt that is over: its result brings all that it measured."""
        self._waiting.pop(attempt, None)
