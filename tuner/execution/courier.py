"""Carries runs and results between an executor that calls back, such as Ray Tune, and the source of runs.

It decides nothing, imports no Ray, and lives in the driver's process only. Assignments, measurements and results cross
to the workers as JSON.
"""

from __future__ import annotations

import json
import time
from typing import Any

from tuner.core.ports import RunSource, Signal
from tuner.core.records import Assignment, Measurement, Outcome, RunResult

_REASON_LENGTH = 300


class Courier:
    """Hands out the source's runs as Tune trials, at most ``slots`` at once, and brings back what came of them.

    An error that the source raises is kept in ``error`` and ends the experiment: Tune would take it for an error of
    the trial and go on.
    """

    def __init__(self, source: RunSource, slots: int) -> None:
        self.slots = slots
        self.finished = False
        self.error: BaseException | None = None
        self.death = ""
        """What Tune said of the worker that died last."""
        self._source = source
        self._running: dict[str, Assignment] = {}
        self._idle: set[str] = set()
        self._next: Assignment | None = None
        self._unplaced = 0

    def note_pending(self, trial_ids: set[str]) -> None:
        """Note the trials for which Tune has found no place yet; a worker that idles makes room for one."""
        self._unplaced = len(self._running.keys() & trial_ids)

    def hand_out(self, trial_id: str) -> dict[str, Any] | None:
        """Return the config of the next trial: with a run, or empty to keep a free worker warm; None for neither."""
        if self._has_next():
            assert self._next is not None
            self._running[trial_id], self._next = self._next, None
            return {"assignment": json.dumps(self._running[trial_id].to_json())}
        if self.finished or self._unplaced or len(self._running) + len(self._idle) >= self.slots:
            return None
        self._idle.add(trial_id)
        return {"assignment": ""}

    def observe(self, trial_id: str, report: dict[str, Any]) -> bool:
        """Take what a worker measured; return whether its trial goes on."""
        if trial_id in self._idle:
            return not (self.finished or self._unplaced or self._has_next())
        assignment = self._running.get(trial_id)
        measured = tuple(Measurement.from_row(row) for row in json.loads(report.get("measurements", "[]")))
        try:
            return assignment is not None and self.error is None and self._source.observe(assignment, measured)
        except BaseException as error:
            self._fail(error)
            return False

    def end(self, trial_id: str, report: dict[str, Any] | None, died: bool) -> None:
        """Take a trial's last report. A trial without one, or whose worker died, lost its run."""
        self._idle.discard(trial_id)
        assignment = self._running.pop(trial_id, None)
        if assignment is None:
            return
        try:
            self._tell(assignment, (report or {}).get("result"), died or report is None)
        except BaseException as error:
            self._fail(error)

    def release_all(self) -> None:
        """Give back every run that has no result; when Tune stops everything, it tells nobody."""
        for assignment in [*self._running.values(), *([self._next] if self._next else [])]:
            try:
                self._source.release(assignment)
            except BaseException as error:
                self._fail(error)
        self._running.clear()
        self._next = None

    def _has_next(self) -> bool:
        """Whether a run waits to be handed out; asks the source if a slot is free."""
        if self._next is None and not self.finished and len(self._running) < self.slots:
            try:
                answer = self._source.ask()
            except BaseException as error:
                self._fail(error)
                return False
            self.finished = answer is Signal.FINISHED
            self._next = answer if isinstance(answer, Assignment) else None
        return self._next is not None

    def _tell(self, assignment: Assignment, result: str | None, died: bool) -> None:
        if died:
            cause = self.death.strip().splitlines()[0][:_REASON_LENGTH] if self.death else "?"
            reason = f"the worker or its node died: {cause}"
            self._source.tell(assignment, RunResult(Outcome.LOST, reason=reason, finished_at=time.time()))
        elif result:
            self._source.tell(assignment, RunResult.from_json(json.loads(result)))
        else:
            self._source.release(assignment)

    def _fail(self, error: BaseException) -> None:
        self.error, self.finished = self.error or error, True
