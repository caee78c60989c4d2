"""A study's records under its driver's lease: every change reaches SQL first, then the copy in memory.

What a change means, and which one comes next, is decided in :mod:`tuner.study`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tuner.config.spec import StudySpec
from tuner.core.records import Measurement, RunRecord, RunResult, RunSpec, State, TrialRecord
from tuner.storage.buffer import MeasurementBuffer
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.study_records import Key, StudyRecords


class LeasedRecords:
    """The live counterpart of :class:`StudyRecords`; all of it could be read again from SQL at any moment.

    Taking it up opens the study again and queues the runs that a dead driver left in training; of a study that
    failures stopped, also those failures. ``seconds_before`` is how long earlier drivers searched.

    Raises:
        LeaseLost: on every write, once another driver has the lease.
    """

    def __init__(self, spec: StudySpec, ledger: Ledger, lease: Lease) -> None:
        row = ledger.study(spec.name)
        self.seconds_before = row.seconds_used
        self._spec, self._ledger, self._lease = spec, ledger, lease
        if row.state != "open":
            ledger.set_state(lease, "open")
        if row.state == "stopped":
            ledger.requeue_failed(lease)
        ledger.requeue_running(lease)
        self._trials = ledger.trials(row)
        self._runs = {run.run_id: run for run in ledger.runs(row)}
        self._buffer = MeasurementBuffer(partial(ledger.measure, lease))
        self._fingerprints: dict[Key, str] = {}
        self._now: StudyRecords | None = None

    @property
    def spec(self) -> StudySpec:
        return self._spec

    @property
    def now(self) -> StudyRecords:
        """The records as they stand; a frozen value, made anew after a change."""
        if self._now is None:
            runs = tuple(self._runs.values())
            self._now = StudyRecords(self._spec, tuple(self._trials), runs, self._fingerprints)
        return self._now

    def run(self, run_id: str) -> RunRecord:
        return self._runs[run_id]

    def _put(self, run: RunRecord) -> RunRecord:
        self._runs[run.run_id] = run
        self._now = None
        return run

    def check(self) -> None:
        """Refuse to go on unless the lease is still ours, before something else than the ledger is written."""
        self._ledger.check(self._lease)

    def note(self, kind: str, data: Mapping[str, Any]) -> None:
        """Add a line to the study's journal."""
        self._ledger.note(self._lease, kind, data)

    def widen(self, spec: StudySpec) -> None:
        """Go on with the spec whose last widening is new."""
        self._ledger.set_spec(self._lease, spec.to_json(), "widened", spec.widened[-1].to_json())
        self._spec, self._now = spec, None

    def add_trial(self, trial: TrialRecord) -> None:
        """Add a trial that no run trains yet."""
        self._ledger.add_trial(self._lease, trial, None)
        self._trials.append(trial)
        self._now = None

    def begin_trial(self, trial: TrialRecord, spec: RunSpec) -> RunRecord:
        """Add a trial and its first run, which is in training from then on; both or neither."""
        self._ledger.add_trial(self._lease, trial, spec)
        self._trials.append(trial)
        return self._put(RunRecord(spec, State.RUNNING, attempt=1, started_at=time.time()))

    def queue(self, specs: Sequence[RunSpec]) -> None:
        """Add runs of trials that are there; all or none."""
        self._ledger.add_runs(self._lease, specs)
        for spec in specs:
            self._put(RunRecord(spec, State.QUEUED))

    def start(self, run_id: str) -> RunRecord:
        """Begin the next attempt at a queued run."""
        attempt = self._ledger.start(self._lease, run_id)
        run = self._runs[run_id]
        return self._put(replace(run, state=State.RUNNING, attempt=attempt, started_at=time.time()))

    def measure(self, run_id: str, measurements: Sequence[Measurement]) -> RunRecord:
        """Add measurements to a run in training. SQL has them within seconds, or with the run's result."""
        run = self._runs[run_id]
        self._buffer.add((run_id, run.attempt), measurements)
        return self._put(replace(run, curve=(*run.curve, *measurements)))

    def requeue(self, run_id: str, lost: bool = False) -> int:
        """Queue a run in training again; return how often its worker was lost by now."""
        run = self._runs[run_id]
        self._buffer.discard((run_id, run.attempt))
        losses = self._ledger.requeue(self._lease, run_id, run.attempt, lost=lost)
        self._put(replace(run, state=State.QUEUED, curve=()))
        return losses

    def finish(self, run: RunRecord, result: RunResult) -> RunRecord | None:
        """End a run in training with its result; None, and nothing changes, if SQL has fenced this attempt off."""
        self._buffer.discard((run.run_id, run.attempt))
        if not self._ledger.finish(self._lease, run.run_id, run.attempt, result):
            return None
        return self._put(run.ended(result))
