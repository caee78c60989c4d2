"""The executor that trains in this process, one run after the other; the shortest reading of what an executor does."""

from __future__ import annotations

from typing import Any

from tuner.core.ports import RunSource, Signal
from tuner.core.records import Assignment
from tuner.training.run import train


class LocalExecutor:
    """Trains in this process, for debugging, notebooks and small studies.

    Args:
        workload: replaces the one that the runs name; for a workload that is defined in ``__main__``.
    """

    def __init__(self, workload: Any = None) -> None:
        self._workload = workload

    def prepare(self) -> None:
        """Do nothing: this process is ready."""

    def run(self, source: RunSource) -> None:
        """Train what the source hands out until it is finished; a run that Ctrl-C stops is given back."""
        while isinstance(assignment := source.ask(), Assignment):
            training = train(assignment, self._workload)
            try:
                while source.observe(assignment, (next(training),)):
                    pass
                training.close()
                source.release(assignment)
            except StopIteration as end:
                source.tell(assignment, end.value)
            except BaseException:
                source.release(assignment)
                raise
        assert assignment is Signal.FINISHED, "the source waits, but no run is in training"

    def close(self) -> None:
        """Do nothing: no process is left after :meth:`run`."""
