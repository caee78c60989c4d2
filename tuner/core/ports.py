"""The interfaces that have several implementations: source of runs, executor, tracker. None is implemented here."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from tuner.core.records import Assignment, Measurement, RunResult


class Signal(Enum):
    """What a source answers instead of a run: wait for running ones to end, or nothing is left."""

    WAIT = "wait"
    FINISHED = "finished"


class RunSource(Protocol):
    """Where an executor gets its runs, and where it brings their measurements and results."""

    def ask(self) -> Assignment | Signal:
        """Hand out the next run; WAIT while the next one depends on runs in training; FINISHED at the end."""

    def observe(self, assignment: Assignment, measurements: tuple[Measurement, ...]) -> bool:
        """Note measurements of a run in training; return False to have the worker stop it."""

    def tell(self, assignment: Assignment, result: RunResult) -> None:
        """Note how an attempt ended. Where a worker died, the executor tells the outcome *lost*."""

    def release(self, assignment: Assignment) -> None:
        """Take back a run that was stopped without an outcome; it is handed out again and goes on."""

    @property
    def parallel(self) -> int:
        """How many runs may train at the same time."""


class Executor(Protocol):
    """Places runs somewhere and brings back their results."""

    def prepare(self) -> None:
        """Begin to get ready without waiting for it; :meth:`run` raises what goes wrong."""

    def run(self, source: RunSource) -> None:
        """Train what the source hands out until it answers FINISHED; return when no run is left in training."""

    def close(self) -> None:
        """Stop every process that the executor started."""


class Tracker(Protocol):
    """Shows runs to people. It reads the ledger beside the training; the training never waits for it."""

    def start(self) -> None:
        """Begin to follow the ledger."""

    def finish(self, seconds: float) -> bool:
        """Catch up with the ledger for at most ``seconds``, then stop; return whether everything is shown."""
