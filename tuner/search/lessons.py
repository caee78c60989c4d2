"""Which runs of the search Optuna is told of, and when; how it is told is in :mod:`tuner.search.arm`."""

from __future__ import annotations

from collections.abc import Mapping

from tuner.core.records import Phase, RunRecord
from tuner.search.arm import ArmSearch
from tuner.search.failures import FAILURES
from tuner.study_records import StudyRecords


class Lessons:
    """Runs of the search that have ended, and that Optuna has not been told of.

    Failures wait until a run ends otherwise, for those that stop the study are tried again by a resume.
    """

    def __init__(self) -> None:
        self._waiting: list[RunRecord] = []

    def add(self, run: RunRecord, arms: Mapping[str, ArmSearch]) -> None:
        """Take up a run that has ended, and tell all that wait unless it failed or was lost."""
        if run.spec.phase is Phase.EXPLORE:
            self._waiting.append(run)
        if run.outcome not in FAILURES:
            self.tell(arms)

    def tell(self, arms: Mapping[str, ArmSearch]) -> None:
        """Tell Optuna of all that wait, in the order in which they ended."""
        for run in self._waiting:
            arms[run.spec.arm].tell(run)
        self._waiting.clear()


def tell_again(records: StudyRecords, arms: Mapping[str, ArmSearch]) -> None:
    """Tell Optuna of every run of the search that has ended: a kill may have come between SQL's tables and Optuna's."""
    ended = [(run.result.finished_at, run) for run in records.in_phase(Phase.EXPLORE) if run.result]
    for _, run in sorted(ended, key=lambda pair: pair[0]):
        arms[run.spec.arm].tell(run)


def leave_ladders(records: StudyRecords, arms: Mapping[str, ArmSearch]) -> None:
    """Tell Optuna of the trials that the search, now over, left below the full horizon."""
    for trial in records.trials:
        run = records.highest_runs.get((trial.arm, trial.index))
        if run is not None and trial.arm in arms:
            arms[trial.arm].leave(run)
