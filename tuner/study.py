"""The study: ask for a run, observe it, tell how it ended; the only gate to a final state.

It implements :class:`tuner.core.ports.RunSource`. SQL is the truth and is written first; what stands in memory
here could be read again from there at any moment. What follows the search (which finalists, on which
seeds) comes from the ``plan`` that it is given.
"""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.catalog.schedules import SCHEDULES
from tuner.config.fidelity import PRUNE
from tuner.config.spec import UNLIMITED_PLAN, StudySpec
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
    Setting,
    Source,
    State,
    TrialRecord,
)
from tuner.search.allocation import offers
from tuner.search.arm import ArmSearch
from tuner.search.costs import cost_of
from tuner.search.ladder import Seen, Step
from tuner.search.pruning import should_prune
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.study_records import StudyRecords

Plan = Callable[[StudyRecords], tuple[RunRequest, ...]]
Widen = Callable[[StudyRecords], tuple[StudySpec, Sequence[ArmSearch]] | None]
"""At the end of the search: the spec with wider ranges and the arms that search them, or None to leave it at that."""

FLUSH_SECONDS = 2.0
"""Measurements of runs in training reach SQL at least this often; an outcome brings all of them at once."""

UNLIMITED = 1_000_000
BLOCK = UNLIMITED_PLAN / 4
"""How many full runs more an arm may plan with where only time limits the search."""
REPEATS = 12
"""After so many proposals in a row that were there before, a space counts as exhausted."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a study knows at one moment."""

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
    """One study under this driver's lease."""

    def __init__(
        self,
        spec: StudySpec,
        ledger: Ledger,
        lease: Lease,
        arms: Sequence[ArmSearch],
        plan: Plan,
        folder: Path,
        widen: Widen = lambda *_: None,
    ) -> None:
        self.spec = spec
        self.finished = False
        self._ledger, self._lease, self._plan, self._wider = ledger, lease, plan, widen
        self._arms = {arm.space.arm: arm for arm in arms}
        self._folder = folder
        self._lock = threading.RLock()
        self._trials: list[TrialRecord] = []
        self._runs: dict[str, RunRecord] = {}
        self._untold: list[RunRecord] = []
        self._buffer: dict[tuple[str, int], list[Measurement]] = {}
        self._flushed = time.monotonic()
        self._opened = time.monotonic()
        self._places: dict[tuple[str, int], tuple[float, ...]] = {}
        self._prints: dict[tuple[str, int], str] = {}
        self._pruned: set[str] = set()
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
        self._places = self._placed()
        ended = [run for run in self._runs.values() if run.result and run.spec.phase is Phase.EXPLORE]
        for run in sorted(ended, key=lambda run: run.result.finished_at if run.result else 0.0):
            self._teach(run)
        for run in self._runs.values():
            if run.state is State.ENDED:  # a kill may have come between the outcome and this
                shutil.rmtree(self._checkpoints(run.spec), ignore_errors=True)
        current = self.spec.current
        if current and not self._trials and not any(current in arm.initial_settings for arm in self._arms.values()):
            trial = TrialRecord("current", 0, Source.CURRENT, current, {})
            self._ledger.add_trial(self._lease, trial, None)
            self._trials.append(trial)

    def _placed(self) -> dict[tuple[str, int], tuple[float, ...]]:
        """Where each trial lies in the cube that its arm searches now."""
        return {
            (trial.arm, trial.index): self._arms[trial.arm].point(trial.coordinates)
            for trial in self._trials
            if trial.arm in self._arms
        }

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
            if (assignment := self._search()) is not None:
                return assignment
            if busy:
                return Signal.WAIT
            while self._widen():
                if (assignment := self._search()) is not None:
                    return assignment
            return self._advance()

    def _search(self) -> Assignment | None:
        """The next run of the search; what was trained before exactly so has its result at once, and is paid once."""
        while (run := self._step()) is not None:
            twin = self._twin(run)
            if twin is None:
                return self._assignment(run.spec, run.attempt)
            assert twin.result is not None
            said = f"the same as {twin.run_id}: not trained again"
            copy = replace(twin.result, reason=said, train_seconds=0.0, eval_seconds=0.0)
            self.tell(self._assignment(run.spec, run.attempt), copy)
        return None

    def _twin(self, run: RunRecord) -> RunRecord | None:
        """An earlier run of the search with the same setting on the same rung that ended by itself."""
        settled = (Outcome.COMPLETED, Outcome.DIVERGED)
        mine = self._same(run.spec)
        for other in self._explored(run.spec.arm):
            if other.outcome in settled and self._same(other.spec) == mine:
                return other
        return None

    def _step(self) -> RunRecord | None:
        """Start a run of the first arm that has use for what it may still spend."""
        if self._budget_spent():
            return None
        seen = {name: self._seen(name) for name in self._arms}
        spent = {name: self._spent(name) for name in self._arms}
        top = len(self.spec.rungs) - 1
        rewards = {name: [one.score for one in row if one.rung == top] for name, row in seen.items()}
        for offer in offers(self.spec.allocation, self._budget(spent), spent, rewards):
            arm = self._arms[offer.arm]
            offered = self._offered(offer.arm)
            over = self._nothing_new(offer.arm)
            step = arm.next(seen[offer.arm], offered, offer.budget, offer.budget - spent[offer.arm], over)
            if step is not None:
                return self._take(arm, step, offer.budget - spent[offer.arm])
        return None

    def _nothing_new(self, arm: str) -> bool:
        """Whether so few settings are left that the last proposals had all been there before."""
        mine = [self._print(arm, trial.index, trial.setting) for trial in self._trials if trial.arm == arm]
        return len(mine) > REPEATS and set(mine[-REPEATS:]) <= set(mine[:-REPEATS])

    def _budget(self, spent: Mapping[str, float]) -> float:
        """What each arm may spend, in full runs; where only time limits the search, a block more when one is spent."""
        limit = self.spec.budget.trials_per_arm
        if limit is not None:
            return float(limit)
        blocks = math.floor(max(0.0, min(spent.values()) + 1.0 - UNLIMITED_PLAN) / BLOCK)
        return UNLIMITED_PLAN + BLOCK * (blocks + 1.0) if min(spent.values()) > UNLIMITED_PLAN - 1 else UNLIMITED_PLAN

    def _offered(self, arm: str) -> int:
        return sum(trial.arm == arm for trial in self._trials)

    def _explored(self, arm: str) -> list[RunRecord]:
        return [run for run in self._runs.values() if run.spec.arm == arm and run.spec.phase is Phase.EXPLORE]

    def _seen(self, arm: str) -> list[Seen]:
        """What the arm's runs showed, in the order in which they were handed out."""
        places = self._places
        return [
            Seen(run.spec.trial, places[arm, run.spec.trial], run.spec.rung, self._score(run))
            for run in self._explored(arm)
            if (arm, run.spec.trial) in places
        ]

    def _score(self, run: RunRecord) -> float:
        if run.state is not State.ENDED or run.outcome is Outcome.LOST:  # a lost one says nothing of its setting
            return math.nan
        good = run.outcome is Outcome.COMPLETED and run.value is not None and math.isfinite(run.value)
        return run.value * self.spec.sign if good and run.value is not None else -math.inf

    def _spent(self, arm: str) -> float:
        """What the arm's search has cost, in full runs; a setting that is trained twice on a rung is paid once."""
        longest = self._longest
        paid = {self._same(run.spec): cost_of(self.spec, run, longest) for run in self._explored(arm)}
        return sum(paid.values())

    def _same(self, spec: RunSpec) -> tuple[str, int]:
        """What two runs of the search share only if they are the same training: the setting, and the rung."""
        return self._print(spec.arm, spec.trial, spec.setting), spec.rung

    def _print(self, arm: str, trial: int, setting: Setting) -> str:
        """The setting's fingerprint, made once for each trial."""
        if (arm, trial) not in self._prints:
            self._prints[arm, trial] = setting.fingerprint
        return self._prints[arm, trial]

    @property
    def _longest(self) -> int:
        """The steps of a full run, as far as one has ended."""
        ended = [run.result.step for run in self._runs.values() if run.result and run.outcome is Outcome.COMPLETED]
        return max(ended, default=0)

    def _take(self, arm: ArmSearch, step: Step, left: float) -> RunRecord:
        """Start a step: a new trial with its first run, or the next run of one that goes up the ladder."""
        if step.trial is None:
            return self._explore(arm, step, left)
        trial = next(t for t in self._trials if t.arm == arm.space.arm and t.index == step.trial)
        spec = self._run_spec(trial, Phase.EXPLORE, self.spec.search_seed, step.rung)
        self._ledger.add_runs(self._lease, [spec])
        self._runs[spec.run_id] = RunRecord(spec, State.QUEUED)
        self._start(self._runs[spec.run_id])
        return self._runs[spec.run_id]

    def _records(self) -> StudyRecords:
        return StudyRecords.of(self.spec, self._trials, self._runs.values())

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

    def _explore(self, arm: ArmSearch, step: Step, left: float) -> RunRecord:
        index = self._offered(arm.space.arm)
        self._ledger.check(self._lease)  # Optuna's tables know no fence
        trial = arm.propose(index, step.point)
        rung = self._first_rung(trial, step.rung, left)
        spec = self._run_spec(trial, Phase.EXPLORE, self.spec.search_seed, rung)
        self._ledger.add_trial(self._lease, trial, spec)
        self._trials.append(trial)
        self._places[trial.arm, trial.index] = arm.point(trial.coordinates)
        self._runs[spec.run_id] = RunRecord(spec, State.RUNNING, attempt=1, started_at=time.time())
        return self._runs[spec.run_id]

    def _first_rung(self, trial: TrialRecord, rung: int, left: float) -> int:
        """The family's default and the user's own setting train in full: what is found is held against them.

        So does a schedule that follows the metric, which cannot be timed to a short horizon.
        """
        kind = SCHEDULES.get(str(trial.setting.schedule["kind"]))
        follows = kind is not None and kind.follows_metric
        known = trial.source in (Source.DEFAULT, Source.CURRENT) and left >= 1.0
        return len(self.spec.rungs) - 1 if follows or known else rung

    def _widen(self) -> bool:
        """Go on in wider ranges if the search ended at their edge; SQL has them before anything is proposed there."""
        if self._budget_spent():
            return False
        self._teach_untold()
        found = self._wider(self._records())
        if found is None:
            return False
        self.spec, arms = found
        self._ledger.set_spec(self._lease, self.spec.to_json(), "widened", self.spec.widened[-1].to_json())
        self._arms = {arm.space.arm: arm for arm in arms}
        self._places = self._placed()
        return True

    def _advance(self) -> Assignment | Signal:
        """Nothing is left to train: ask the plan for the runs that come next."""
        self._search_ended = self._search_ended or time.monotonic()
        self._teach_untold()
        self._leave_ladders()
        requests = self._plan(self._records())
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
        self._runs[run.run_id] = replace(run, state=State.RUNNING, attempt=attempt, started_at=time.time())
        return self._assignment(run.spec, attempt)

    def _assignment(self, spec: RunSpec, attempt: int) -> Assignment:
        return Assignment(spec, attempt, str(self._checkpoints(spec)), self.spec.checkpoint_seconds)

    def _checkpoints(self, spec: RunSpec) -> Path:
        return self._folder / "checkpoints" / spec.run_id

    def _run_spec(self, trial: TrialRecord, phase: Phase, seed: int, rung: int | None = None) -> RunSpec:
        resources, rungs = self.spec.resources, self.spec.rungs
        rung = len(rungs) - 1 if rung is None else rung
        return RunSpec(
            study=self.spec.name,
            arm=trial.arm,
            trial=trial.index,
            phase=phase,
            seed=seed,
            horizon=rungs[rung],
            rung=rung,
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
            if self._hopeless(self._runs[run.run_id]):
                self._pruned.add(run.run_id)
                return False
            return not self._stopping

    def _hopeless(self, run: RunRecord) -> bool:
        """Whether a pruner stops the run, compared with what its arm's earlier runs had measured by then."""
        fidelity = self.spec.fidelity
        if fidelity.kind != PRUNE or run.spec.phase is not Phase.EXPLORE:
            return False
        if run.curve and run.curve[-1].step >= self._longest > 0:
            return False  # it has trained to its end
        others = [self._curve(other) for other in self._explored(run.spec.arm) if other.state is State.ENDED]
        return should_prune(fidelity.pruner, self._curve(run), others, self.spec.sign)

    def _curve(self, run: RunRecord) -> list[tuple[int, float]]:
        metric = self.spec.metric
        return [(m.step, m.values[metric]) for m in run.curve if math.isfinite(m.values.get(metric, math.nan))]

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
        """Tell Optuna how the trial's ladder ended: with its full-horizon run, or with one that broke off."""
        if run.outcome is Outcome.COMPLETED and run.spec.rung < len(self.spec.rungs) - 1:
            return
        trial = next(t for t in self._trials if t.arm == run.spec.arm and t.index == run.spec.trial)
        assert run.result is not None
        seen = [m.values[self.spec.metric] for m in run.curve if self.spec.metric in m.values]
        worst = min(seen, key=lambda value: value * self.spec.sign, default=None)
        self._arms[trial.arm].tell(trial, run.result, worst)

    def _leave_ladders(self) -> None:
        """Tell Optuna of the trials that the search left below the full horizon."""
        highest: dict[tuple[str, int], RunRecord] = {}
        for run in self._runs.values():
            key = run.spec.arm, run.spec.trial
            known = run.spec.phase is Phase.EXPLORE and key in self._places
            if known and (key not in highest or run.spec.rung > highest[key].spec.rung):
                highest[key] = run
        for trial in self._trials:
            run_up = highest.get((trial.arm, trial.index))
            if run_up is not None and run_up.spec.rung < len(self.spec.rungs) - 1:
                self._arms[trial.arm].leave(trial, run_up.spec.rung, run_up.value)

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
            if assignment.spec.run_id in self._pruned and self._current(assignment):
                self._end_pruned(assignment)
            elif self._current(assignment):
                self._ledger.requeue(self._lease, assignment.spec.run_id, assignment.attempt, lost=False)
                run = self._runs[assignment.spec.run_id]
                self._runs[run.run_id] = replace(run, state=State.QUEUED, curve=())

    def _end_pruned(self, assignment: Assignment) -> None:
        run = self._runs[assignment.spec.run_id]
        self._pruned.discard(run.run_id)
        last = run.curve[-1]
        result = RunResult(
            Outcome.PRUNED,
            step=last.step,
            reason=f"stopped by the {self.spec.fidelity.pruner} pruner",
            measurements=run.curve,
            train_seconds=last.train_seconds,
            eval_seconds=last.eval_seconds,
            started_at=run.started_at,
            finished_at=time.time(),
        )
        self.tell(assignment, result)

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
            return Snapshot(self._records(), phase, self._stopping)
