"""How long a search has taken, and whether its hours or GPU-hours are used up; full runs are not counted here."""

from __future__ import annotations

import time

from tuner.study_records import StudyRecords


class SearchClock:
    """The time of one driver's search; it stands still once the search has ended.

    ``seconds_before`` is how long earlier drivers of the study searched.
    """

    def __init__(self, seconds_before: float) -> None:
        self._before = seconds_before
        self._began = time.monotonic()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long this driver has searched."""
        return (self._ended or time.monotonic()) - self._began

    def end(self) -> None:
        """The search is over for good."""
        self._ended = self._ended or time.monotonic()

    def over(self, records: StudyRecords) -> bool:
        """Whether the search has ended, or has used up its hours or its GPU-hours."""
        budget = records.spec.budget
        if self._ended is not None:
            return True
        if budget.hours is not None and (self._before + self.seconds) / 3600 >= budget.hours:
            return True
        if budget.gpu_hours is None:
            return False
        return records.training_seconds * (records.spec.resources.gpus or 0.0) / 3600 >= budget.gpu_hours
