"""The executor that trains in this process, one run after the other: for debugging, notebooks and reading."""

from __future__ import annotations

from typing import Any

from tuner.core.ports import RunSource, Signal
from tuner.core.records import Assignment
from tuner.training.run import train


class LocalExecutor:
    """Trains here. ``workload`` replaces the one that the runs name (for those defined in ``__main__``)."""

    def __init__(self, workload: Any = None) -> None:
        self._workload = workload

    def prepare(self) -> None:
        """Nothing to get ready."""

    def run(self, source: RunSource) -> None:
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
        assert assignment is Signal.FINISHED, "nothing trains elsewhere that one could wait for"

    def close(self) -> None:
        """Nothing runs outside :meth:`run`."""
