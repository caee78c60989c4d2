"""The seams: what an executor pulls from and what a tracker is; no implementation stands here."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from tuner.core.records import Assignment, Measurement, RunResult


class Signal(Enum):
    """What a source answers when it has no run to hand out."""

    WAIT = "wait"
    FINISHED = "finished"


class RunSource(Protocol):
    """Where an executor gets its runs, and where it brings what came of them."""

    def ask(self) -> Assignment | Signal:
        """Hand out the next run; WAIT while only the outcome of running ones can tell; FINISHED at the end."""

    def observe(self, assignment: Assignment, measurements: tuple[Measurement, ...]) -> bool:
        """Note measurements of a run in training; False asks the worker to stop it."""

    def tell(self, assignment: Assignment, result: RunResult) -> None:
        """Note how an attempt ended. A worker that died is told with the outcome *lost*."""

    def release(self, assignment: Assignment) -> None:
        """Take back a run that was stopped without an outcome; it waits to be continued."""

    @property
    def parallel(self) -> int:
        """How many runs may train at once."""


EXECUTORS = ("ray", "local")
"""The executors by the names that study files give them; ``tuner.bootstrap.make_executor`` builds each."""


class Executor(Protocol):
    """Places runs somewhere and brings back their results."""

    def prepare(self) -> None:
        """Begin to get ready, beside whatever the caller does next; what goes wrong is raised by :meth:`run`."""

    def run(self, source: RunSource) -> None:
        """Train what the source hands out until it says FINISHED. Returns with no run left in training."""

    def close(self) -> None:
        """Stop every process that the executor started."""


class Tracker(Protocol):
    """Shows runs to people. It reads the ledger beside the training and is never waited for."""

    def start(self) -> None:
        """Begin to follow the ledger."""

    def finish(self, seconds: float) -> bool:
        """Catch up for at most so many seconds, then stop. True if everything is shown."""
