"""Runs that failed one after the other: how many it takes to stop a study, and what its user is told."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.config.spec import StudySpec
from tuner.core.records import Outcome, RunRecord

FAILURES = (Outcome.FAILED, Outcome.LOST)


@dataclass(frozen=True, slots=True)
class FailureStreak:
    """``length`` runs in a row failed or were lost; ``message`` is empty until that was too many."""

    length: int = 0
    message: str = ""

    def after(self, run: RunRecord, spec: StudySpec) -> FailureStreak:
        """Return the streak once this run has ended, too."""
        if run.outcome not in FAILURES:
            return FailureStreak(0, self.message)
        length = self.length + 1
        too_many = length >= spec.stop_after_failures
        return FailureStreak(length, _message(run, spec, length) if too_many else self.message)


def _message(run: RunRecord, spec: StudySpec, length: int) -> str:
    assert run.result is not None
    what = "failed in the user's code" if run.outcome is Outcome.FAILED else "lost their workers"
    return (
        f"study {spec.name!r} stopped: {length} runs in a row {what}, the last "
        f"one ({run.run_id}) with: {run.result.reason}. Mend it, then go on with 'tuner resume {spec.name}': "
        "those runs are tried again."
        f"\n\n{run.result.traceback.rstrip()}"
    )
