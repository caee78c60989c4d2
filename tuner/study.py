"""The study: ask for a run, observe it, tell how it ended; the only gate to a final state.

It implements :class:`tuner.core.ports.RunSource`. What the search trains next is said in :mod:`tuner.search.policy`,
what follows the search (which finalists, on which seeds) by the ``plan`` that the study is given. SQL is the truth and
is written first (:mod:`tuner.storage.leased_records`).
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.config.fidelity import PRUNE
from tuner.config.spec import StudySpec
from tuner.core.ports import Signal
from tuner.core.records import (
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
from tuner.search.clock import SearchClock
from tuner.search.failures import FailureStreak
from tuner.search.lessons import Lessons, leave_ladders, tell_again
from tuner.search.policy import NextRun, next_run
from tuner.search.pruning import hopeless, pruned
from tuner.storage.leased_records import LeasedRecords
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.study_records import StudyRecords

Plan = Callable[[StudyRecords], tuple[RunRequest, ...]]
"""The runs that come next once the search is over; () at the end of the study."""
Widen = Callable[[StudyRecords], tuple[StudySpec, Sequence[ArmSearch]] | None]
"""At the end of the search: the spec with wider ranges and the arms that search them, or None to leave it at that."""

UNLIMITED = 1_000_000
"""How many runs may train at once where nothing limits them but the executor."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a study knows at one moment; ``phase`` is the latest that is begun, ``stopping`` why it stops, or empty."""

    records: StudyRecords
    phase: str
    stopping: str

    @property
    def spec(self) -> StudySpec:
        return self.records.spec

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        return self.records.trials

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        return self.records.runs


class Study:
    """One study under this driver's lease.

    Args:
        spec: what the ledger stores under its name.
        ledger: the database's; it holds the study.
        lease: the right to write to it.
        arms: the search of each arm, in the space's order.
        plan: says which runs follow the search.
        folder: where checkpoints of unfinished runs lie.
        widen: says whether a search that is over goes on in wider ranges.

    Raises:
        LeaseLost: from every method, once another driver has the lease.
    """

    def __init__(
        self,
        spec: StudySpec,
        ledger: Ledger,
        lease: Lease,
        arms: Sequence[ArmSearch],
        plan: Plan,
        folder: Path,
        widen: Widen = lambda _: None,
    ) -> None:
        self.finished = False
        self._records = LeasedRecords(spec, ledger, lease)
        self._arms = {arm.space.arm: arm for arm in arms}
        self._plan, self._widen, self._folder = plan, widen, folder
        self._clock = SearchClock(self._records.seconds_before)
        self._lessons, self._failures = Lessons(), FailureStreak()
        self._pruned: set[str] = set()
        self._stopping = ""
        self._lock = threading.RLock()
        self._take_up()

    def _take_up(self) -> None:
        """Catch up on what a kill kept from Optuna, from the folder and from the ledger."""
        records = self._records.now
        tell_again(records, self._arms)
        for run in records.runs:
            if run.state is State.ENDED:
                self._remove_checkpoints(run.spec)
        current = self.spec.current
        proposed = any(current in arm.initial_settings for arm in self._arms.values())
        if current and not records.trials and not proposed:
            self._records.add_trial(TrialRecord("current", 0, Source.CURRENT, current, {}))

    # -- the source that an executor pulls from

    @property
    def parallel(self) -> int:
        return self.spec.resources.parallel or UNLIMITED

    def ask(self) -> Assignment | Signal:
        with self._lock:
            runs = self._records.now.runs
            busy = any(run.state is State.RUNNING for run in runs)
            if self._stopping:
                return Signal.WAIT if busy else Signal.FINISHED
            queued = next((run for run in runs if run.state is State.QUEUED), None)
            if queued is not None:
                return self._assignment(self._records.start(queued.run_id))
            if (assignment := self._search()) is not None:
                return assignment
            if busy:
                return Signal.WAIT
            while self._goes_on_wider():
                if (assignment := self._search()) is not None:
                    return assignment
            return self._after_the_search()

    def _search(self) -> Assignment | None:
        """The next run of the search; what was trained before exactly so has its result at once."""
        while not self._clock.over(self._records.now):
            step = next_run(self._records.now, self._arms)
            if step is None:
                return None
            assignment = self._assignment(self._begin(step))
            if step.result is None:
                return assignment
            self.tell(assignment, step.result)
        return None

    def _begin(self, step: NextRun) -> RunRecord:
        if step.proposal is None:
            self._records.queue([step.spec])
            return self._records.start(step.spec.run_id)
        self._records.check()  # Optuna's tables know no lease
        return self._records.begin_trial(self._arms[step.spec.arm].propose(step.proposal), step.spec)

    def _goes_on_wider(self) -> bool:
        """Go on in wider ranges if the search ended at their edge; SQL has them before anything is proposed there."""
        if self._clock.over(self._records.now):
            return False
        self._lessons.tell(self._arms)
        wider = self._widen(self._records.now)
        if wider is None:
            return False
        spec, arms = wider
        self._records.widen(spec)
        self._arms = {arm.space.arm: arm for arm in arms}
        return True

    def _after_the_search(self) -> Assignment | Signal:
        """Nothing is left to search: ask the plan for the runs that come next."""
        self._clock.end()
        records = self._records.now
        self._lessons.tell(self._arms)
        leave_ladders(records, self._arms)
        wanted = [records.run_spec(records.by_key[r.arm, r.trial], r.phase, r.seed) for r in self._plan(records)]
        there = {run.run_id for run in records.runs}
        specs = [spec for spec in wanted if spec.run_id not in there]
        if not specs:
            self.finished = True
            return Signal.FINISHED
        chosen = sorted({(spec.arm, spec.trial) for spec in specs})
        self._records.note(specs[0].phase.value, {"trials": chosen, "seeds": sorted({spec.seed for spec in specs})})
        self._records.queue(specs)
        return self._assignment(self._records.start(specs[0].run_id))

    def _assignment(self, run: RunRecord) -> Assignment:
        return Assignment(run.spec, run.attempt, str(self._checkpoints(run.spec)), self.spec.checkpoint_seconds)

    def _checkpoints(self, run: RunSpec) -> Path:
        return self._folder / "checkpoints" / run.run_id

    def _remove_checkpoints(self, run: RunSpec) -> None:
        shutil.rmtree(self._checkpoints(run), ignore_errors=True)

    def _in_training(self, assignment: Assignment) -> RunRecord | None:
        """The run, if this is the attempt in training; what an older attempt says is not heard."""
        run = self._records.run(assignment.spec.run_id)
        return run if run.state is State.RUNNING and run.attempt == assignment.attempt else None

    def observe(self, assignment: Assignment, measurements: tuple[Measurement, ...]) -> bool:
        with self._lock:
            if self._in_training(assignment) is None:
                return False
            run = self._records.measure(assignment.spec.run_id, measurements)
            if self.spec.fidelity.kind == PRUNE and hopeless(self._records.now, run):
                self._pruned.add(run.run_id)
                return False
            return not self._stopping

    def tell(self, assignment: Assignment, result: RunResult) -> None:
        with self._lock:
            if (run := self._in_training(assignment)) is None:
                return
            if result.outcome is Outcome.LOST:
                if self._records.requeue(run.run_id, lost=True) <= self.spec.retries:
                    return
                run = replace(run, attempt=self._records.start(run.run_id).attempt)
            ended = self._records.finish(run, result)
            if ended is None:
                return
            self._lessons.add(ended, self._arms)
            self._remove_checkpoints(ended.spec)
            self._failures = self._failures.after(ended, self.spec)
            if self.failed_in_a_row:
                self.stop("too many failures in a row")

    def release(self, assignment: Assignment) -> None:
        with self._lock:
            if (run := self._in_training(assignment)) is None:
                return
            if run.run_id in self._pruned:
                self._pruned.discard(run.run_id)
                self.tell(assignment, pruned(run, self.spec.fidelity.pruner))
            else:
                self._records.requeue(run.run_id)

    # -- for those who watch and steer

    @property
    def spec(self) -> StudySpec:
        return self._records.spec

    @property
    def failed_in_a_row(self) -> str:
        """What stopped the study, where too many runs failed one after the other; empty otherwise."""
        return self._failures.message

    @property
    def search_seconds(self) -> float:
        """How long this driver has been searching: only then the budget's hours run."""
        return self._clock.seconds

    def stop(self, reason: str) -> None:
        """Hand out nothing more, and let what trains end at its next measurement. Safe from any thread."""
        self._stopping = self._stopping or reason

    def snapshot(self) -> Snapshot:
        with self._lock:
            records = self._records.now
            active = [run.spec.phase.value for run in records.runs if run.state is not State.ENDED]
            phase = "finished" if self.finished else active[-1] if active else Phase.EXPLORE.value
            return Snapshot(records, phase, self._stopping)
