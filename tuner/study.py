"""The study: ask for a run, observe it, tell how it ended; the only gate to a final state.

It implements :class:`tuner.ports.RunSource`. SQL is the truth and is written first; what stands in memory
here could be read again from there at any moment. What follows the search (which finalists, on which
seeds) comes from the ``plan`` that it is given.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.ports import Signal
from tuner.records import (
    Assignment,
    Measurement,
    Outcome,
    Phase,
    RunRecord,
    RunRequest,
    RunResult,
    RunSpec,
    Source,
    State,
    TrialRecord,
)
from tuner.search.arm import ArmSearch
from tuner.spec import StudySpec
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger

Plan = Callable[[StudySpec, Sequence[TrialRecord], Sequence[RunRecord]], tuple[RunRequest, ...]]

FLUSH_SECONDS = 2.0
"""Measurements of runs in training reach SQL at least this often; an outcome brings all of them at once."""

UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a study knows at one moment."""

    spec: StudySpec
    trials: tuple[TrialRecord, ...]
    runs: tuple[RunRecord, ...]
    phase: str
    stopping: str


class Study:
    """One study under this driver's lease."""

    def __init__(
        self, spec: StudySpec, ledger: Ledger, lease: Lease, arms: Sequence[ArmSearch], plan: Plan, folder: Path
    ) -> None:
        self.spec = spec
        self.finished = False
        self._ledger, self._lease, self._plan = ledger, lease, plan
        self._arms = {arm.space.arm: arm for arm in arms}
        self._folder = folder
        self._lock = threading.RLock()
        self._trials: list[TrialRecord] = []
        self._runs: dict[str, RunRecord] = {}
        self._untold: list[RunRecord] = []
        self._buffer: dict[tuple[str, int], list[Measurement]] = {}
        self._flushed = time.monotonic()
        self._opened = time.monotonic()
        self._failures = 0
        self._search_ended: float | None = None
        self._stopping = ""
        self.failed_in_a_row = ""
        self._load()

    def _load(self) -> None:
        """Take up what SQL knows: runs left in training are queued again, Optuna learns what it missed."""
        row = self._ledger.study(self.spec.name)
        self._seconds_before = row.seconds_used
        if row.state != "open":
            self._ledger.set_state(self._lease, "open")
        if row.state == "stopped":
            self._ledger.requeue_failed(self._lease)
        self._ledger.requeue_running(self._lease)
        self._trials = self._ledger.trials(row)
        self._runs = {run.run_id: run for run in self._ledger.runs(row)}
        ended = [run for run in self._runs.values() if run.result and run.spec.phase is Phase.EXPLORE]
        for run in sorted(ended, key=lambda run: run.result.finished_at if run.result else 0.0):
            self._teach(run)
        for run in self._runs.values():
            if run.state is State.ENDED:  # a kill may have come between the outcome and this
                shutil.rmtree(self._checkpoints(run.spec), ignore_errors=True)
        current = self.spec.current
        if current and not self._trials and not any(current in arm.known for arm in self._arms.values()):
            trial = TrialRecord("current", 0, Source.CURRENT, current, {})
            self._ledger.add_trial(self._lease, trial, None)
            self._trials.append(trial)

    # -- the source that an executor pulls from

    @property
    def parallel(self) -> int:
        return self.spec.resources.parallel or UNLIMITED

    def ask(self) -> Assignment | Signal:
        with self._lock:
            busy = any(run.state is State.RUNNING for run in self._runs.values())
            if self._stopping:
                return Signal.WAIT if busy else Signal.FINISHED
            queued = next((run for run in self._runs.values() if run.state is State.QUEUED), None)
            if queued is not None:
                return self._start(queued)
            if (arm := self._next_arm()) is not None:
                return self._explore(arm)
            if busy:
                return Signal.WAIT
            return self._advance()

    def _next_arm(self) -> ArmSearch | None:
        """The arm with the fewest proposals, while the budget lasts."""
        if self._budget_spent():
            return None
        counts = {name: sum(trial.arm == name for trial in self._trials) for name in self._arms}
        name = min(counts, key=lambda name: counts[name])
        limit = self.spec.budget.trials_per_arm
        return self._arms[name] if limit is None or counts[name] < limit else None

    def _budget_spent(self) -> bool:
        budget = self.spec.budget
        if self._search_ended is not None:
            return True
        hours = (self._seconds_before + self.search_seconds) / 3600
        if budget.hours is not None and hours >= budget.hours:
            return True
        if budget.gpu_hours is None:
            return False
        search = [run.result for run in self._runs.values() if run.result and run.spec.phase is Phase.EXPLORE]
        seconds = sum(result.train_seconds + result.eval_seconds for result in search)
        return seconds * (self.spec.resources.gpus or 0.0) / 3600 >= budget.gpu_hours

    def _explore(self, arm: ArmSearch) -> Assignment:
        index = sum(trial.arm == arm.space.arm for trial in self._trials)
        self._ledger.check(self._lease)  # Optuna's tables know no fence
        trial = arm.propose(index)
        spec = self._run_spec(trial, Phase.EXPLORE, self.spec.search_seed)
        self._ledger.add_trial(self._lease, trial, spec)
        self._trials.append(trial)
        self._runs[spec.run_id] = RunRecord(spec, State.RUNNING, attempt=1)
        return self._assignment(spec, 1)

    def _advance(self) -> Assignment | Signal:
        """Nothing is left to train: ask the plan for the runs that come next."""
        self._search_ended = self._search_ended or time.monotonic()
        self._teach_untold()
        requests = self._plan(self.spec, tuple(self._trials), tuple(self._runs.values()))
        by_name = {(trial.arm, trial.index): trial for trial in self._trials}
        specs = [self._run_spec(by_name[r.arm, r.trial], r.phase, r.seed) for r in requests]
        specs = [spec for spec in specs if spec.run_id not in self._runs]
        if not specs:
            self.finished = True
            return Signal.FINISHED
        chosen = sorted({(spec.arm, spec.trial) for spec in specs})
        self._ledger.note(
            self._lease, specs[0].phase.value, {"trials": chosen, "seeds": sorted({s.seed for s in specs})}
        )
        self._ledger.add_runs(self._lease, specs)
        for spec in specs:
            self._runs[spec.run_id] = RunRecord(spec, State.QUEUED)
        return self._start(self._runs[specs[0].run_id])

    def _start(self, run: RunRecord) -> Assignment:
        attempt = self._ledger.start(self._lease, run.run_id)
        self._runs[run.run_id] = replace(run, state=State.RUNNING, attempt=attempt)
        return self._assignment(run.spec, attempt)

    def _assignment(self, spec: RunSpec, attempt: int) -> Assignment:
        return Assignment(spec, attempt, str(self._checkpoints(spec)), self.spec.checkpoint_seconds)

    def _checkpoints(self, spec: RunSpec) -> Path:
        return self._folder / "checkpoints" / spec.run_id

    def _run_spec(self, trial: TrialRecord, phase: Phase, seed: int) -> RunSpec:
        resources = self.spec.resources
        return RunSpec(
            study=self.spec.name,
            arm=trial.arm,
            trial=trial.index,
            phase=phase,
            seed=seed,
            horizon=self.spec.horizon,
            setting=trial.setting,
            workload=self.spec.workload,
            metric=self.spec.metric,
            direction=self.spec.direction,
            threads=resources.threads,
            device=resources.device,
        )

    def observe(self, assignment: Assignment, measurements: tuple[Measurement, ...]) -> bool:
        with self._lock:
            if not self._current(assignment):
                return False
            key = assignment.spec.run_id, assignment.attempt
            self._buffer.setdefault(key, []).extend(measurements)
            run = self._runs[assignment.spec.run_id]
            self._runs[run.run_id] = replace(run, curve=(*run.curve, *measurements))
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._ledger.measure(self._lease, self._buffer)
                self._buffer.clear()
                self._flushed = time.monotonic()
            return not self._stopping

    def _current(self, assignment: Assignment) -> bool:
        """Whether this is the attempt in training; what an older one says is not heard."""
        run = self._runs[assignment.spec.run_id]
        return run.state is State.RUNNING and run.attempt == assignment.attempt

    def tell(self, assignment: Assignment, result: RunResult) -> None:
        with self._lock:
            if not self._current(assignment):
                return
            run = self._runs[assignment.spec.run_id]
            self._buffer.pop((run.run_id, assignment.attempt), None)
            if result.outcome is Outcome.LOST:
                losses = self._ledger.requeue(self._lease, run.run_id, assignment.attempt, lost=True)
                if losses <= self.spec.retries:
                    self._runs[run.run_id] = replace(run, state=State.QUEUED, curve=())
                    return
                assignment = replace(assignment, attempt=self._ledger.start(self._lease, run.run_id))
            if not self._ledger.finish(self._lease, run.run_id, assignment.attempt, result):
                return
            self._runs[run.run_id] = run.ended(result)
            if run.spec.phase is Phase.EXPLORE:
                self._untold.append(self._runs[run.run_id])
            if result.outcome not in (Outcome.FAILED, Outcome.LOST):
                self._teach_untold()
            shutil.rmtree(self._checkpoints(run.spec), ignore_errors=True)
            self._count_failures(run, result)

    def _teach_untold(self) -> None:
        """Tell Optuna all that ended; failures wait, for those that stop the study are tried again by a resume."""
        for run in self._untold:
            self._teach(run)
        self._untold.clear()

    def _teach(self, run: RunRecord) -> None:
        """Tell Optuna how the trial's ladder ended: here, with its one full-horizon run."""
        trial = next(t for t in self._trials if t.arm == run.spec.arm and t.index == run.spec.trial)
        assert run.result is not None
        seen = [m.values[self.spec.metric] for m in run.curve if self.spec.metric in m.values]
        worst = min(seen, key=lambda value: value * self.spec.sign, default=None)
        self._arms[trial.arm].tell(trial, run.result, worst)

    def _count_failures(self, run: RunRecord, result: RunResult) -> None:
        self._failures = self._failures + 1 if result.outcome in (Outcome.FAILED, Outcome.LOST) else 0
        if self._failures >= self.spec.stop_after_failures:
            what = "failed in the user's code" if result.outcome is Outcome.FAILED else "lost their workers"
            self.failed_in_a_row = (
                f"study {self.spec.name!r} stopped: {self._failures} runs in a row {what}, the last "
                f"one ({run.run_id}) with: {result.reason}. Mend it, then go on with 'tuner resume {self.spec.name}': "
                "those runs are tried again."
                f"\n\n{result.traceback.rstrip()}"
            )
            self.stop("too many failures in a row")

    def release(self, assignment: Assignment) -> None:
        with self._lock:
            if self._current(assignment):
                self._ledger.requeue(self._lease, assignment.spec.run_id, assignment.attempt, lost=False)
                run = self._runs[assignment.spec.run_id]
                self._runs[run.run_id] = replace(run, state=State.QUEUED, curve=())

    @property
    def search_seconds(self) -> float:
        """How long this driver has been searching: only then the budget's hours run."""
        return (self._search_ended or time.monotonic()) - self._opened

    # -- for those who watch and steer

    def stop(self, reason: str) -> None:
        """Hand out nothing more, and let what trains end at its next measurement. Safe from any thread."""
        self._stopping = self._stopping or reason

    def snapshot(self) -> Snapshot:
        with self._lock:
            active = [run.spec.phase.value for run in self._runs.values() if run.state is not State.ENDED]
            phase = "finished" if self.finished else active[-1] if active else Phase.EXPLORE.value
            return Snapshot(self.spec, tuple(self._trials), tuple(self._runs.values()), phase, self._stopping)
