"""A study as every reader takes it: its spec, its trials and its runs, with the views that several readers need.

Nothing is decided here: :mod:`tuner.search` decides what to try next, :mod:`tuner.analysis` what follows from the runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tuner.config.spec import StudySpec
from tuner.core.records import Horizon, Outcome, Phase, RunRecord, RunSpec, Setting, State, TrialRecord

Key = tuple[str, int]
"""The name of an arm and the index of one of its trials."""
Training = tuple[str, float, int]
"""What two runs share only if they are the same training: the setting's fingerprint, the horizon and the seed."""


@dataclass(frozen=True)
class StudyRecords:
    """What the ledger knows of a study at one moment; ``runs`` stand in the order in which they were handed out.

    ``fingerprints`` keeps each trial's fingerprint, which takes longer to compute than all else here. Whoever makes
    records of the same study again and again passes it on: the setting of a trial never changes.
    """

    spec: StudySpec
    trials: tuple[TrialRecord, ...]
    runs: tuple[RunRecord, ...]
    fingerprints: dict[Key, str] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(spec: StudySpec, trials: Iterable[TrialRecord], runs: Iterable[RunRecord]) -> StudyRecords:
        """Return the records of a study, from any iterables of its trials and runs."""
        return StudyRecords(spec, tuple(trials), tuple(runs))

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the arms, in the space's order."""
        return tuple(arm.arm for arm in self.spec.arms)

    @cached_property
    def by_key(self) -> Mapping[Key, TrialRecord]:
        """The trials by arm and index."""
        return {(trial.arm, trial.index): trial for trial in self.trials}

    def trials_of(self, arm: str) -> tuple[TrialRecord, ...]:
        """Return the trials of an arm."""
        return tuple(trial for trial in self.trials if trial.arm == arm)

    def runs_of(self, arm: str, trial: int | None = None) -> tuple[RunRecord, ...]:
        """Return the runs of an arm, or of one of its trials."""
        return tuple(run for run in self.runs if run.spec.arm == arm and trial in (None, run.spec.trial))

    def in_phase(self, *phases: Phase) -> tuple[RunRecord, ...]:
        """Return the runs of these phases, of all arms."""
        return tuple(run for run in self.runs if run.spec.phase in phases)

    @cached_property
    def search_runs(self) -> Mapping[str, tuple[RunRecord, ...]]:
        """Arm -> its runs of the search; empty for an arm of the space that has none yet."""
        rows: dict[str, list[RunRecord]] = {arm: [] for arm in self.arms}
        for run in self.in_phase(Phase.EXPLORE):
            rows.setdefault(run.spec.arm, []).append(run)
        return {arm: tuple(row) for arm, row in rows.items()}

    @cached_property
    def highest_runs(self) -> Mapping[Key, RunRecord]:
        """Arm and trial -> its run of the search on the highest rung; of several there the first."""
        highest: dict[Key, RunRecord] = {}
        for run in self.in_phase(Phase.EXPLORE):
            key = run.spec.arm, run.spec.trial
            if key not in highest or run.spec.rung > highest[key].spec.rung:
                highest[key] = run
        return highest

    @cached_property
    def search_values(self) -> Mapping[Key, float]:
        """Arm and trial -> the trial's value in the search at the full horizon, in the metric's unit.

        The mean where it trained with several seeds. Trials without a completed full run are left out.
        """
        return values_at(self.in_phase(Phase.EXPLORE), self.spec.horizon)

    # -- what the search has spent, in full runs

    @cached_property
    def full_steps(self) -> int:
        """The optimizer steps of the longest completed run, so of a full run once one has completed; 0 before any did.

        Runs of every phase count, whatever their horizon; only those that completed.
        """
        steps = (run.result.step for run in self.runs if run.result and run.outcome is Outcome.COMPLETED)
        return max(steps, default=0)

    def cost(self, run: RunRecord) -> float:
        """Return what a run costs, in full runs: its horizon as a share of the full one.

        A run that a pruner stopped costs only the steps that it trained, as a share of :attr:`full_steps`; before any
        run has completed, its whole share. A run that diverged, failed or was lost costs its whole share, too.
        """
        full = self.spec.horizon.amount
        share = run.spec.horizon.amount / full if full else 1.0
        if run.outcome is Outcome.PRUNED and run.result is not None:
            share *= min(1.0, run.result.step / max(self.full_steps, 1))
        return share

    def paid(self, runs: Iterable[RunRecord]) -> dict[Training, float]:
        """Return training -> its cost in full runs; the same training counts once, with the cost of its last run."""
        return {self.training(run.spec): self.cost(run) for run in runs}

    def training(self, run: RunSpec) -> Training:
        """Return what a run shares only with runs that are the same training."""
        return self.fingerprint(run.arm, run.trial, run.setting), run.horizon.amount, run.seed

    def fingerprint(self, arm: str, trial: int, setting: Setting) -> str:
        """Return the fingerprint of a trial's setting, computed once for each trial."""
        key = arm, trial
        if key not in self.fingerprints:
            self.fingerprints[key] = setting.fingerprint
        return self.fingerprints[key]

    def committed(self, arm: str) -> float:
        """Return what an arm's search costs, in full runs: all that was handed out, ended or not."""
        return sum(self.paid(self.search_runs[arm]).values(), 0.0)

    @cached_property
    def spent(self) -> Mapping[str, float]:
        """Arm -> what its ended runs of the search cost, in full runs; in the space's order."""
        return {arm: sum(self.paid(ended(self.handed_out(arm))).values(), 0.0) for arm in self.arms}

    @property
    def training_seconds(self) -> float:
        """How long the ended runs of the search took to train and evaluate, summed over the runs."""
        results = [run.result for run in self.runs if run.result and run.spec.phase is Phase.EXPLORE]
        return sum(result.train_seconds + result.eval_seconds for result in results)

    def handed_out(self, arm: str) -> list[RunRecord]:
        """Return the arm's runs of the search in the order in which they began to train.

        Those that have not begun come first, and runs that began at the same time are sorted by run id.
        """
        return sorted(self.search_runs[arm], key=lambda run: (run.began, run.run_id))

    # -- what a worker is handed

    def run_spec(self, trial: TrialRecord, phase: Phase, seed: int, rung: int | None = None) -> RunSpec:
        """Return all that a worker needs to train a trial with a seed, on a rung of the ladder (None: the full one)."""
        rungs, resources = self.spec.rungs, self.spec.resources
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


def ended(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the runs that have ended, in the order given."""
    return [run for run in runs if run.state is State.ENDED]


def values_at(runs: Sequence[RunRecord], horizon: Horizon) -> dict[Key, float]:
    """Return arm and trial -> the mean value of its completed runs over one horizon, in the metric's unit."""
    values: dict[Key, list[float]] = {}
    for run in sorted(runs, key=lambda run: run.run_id):
        if run.spec.horizon == horizon and run.outcome is Outcome.COMPLETED and run.value is not None:
            values.setdefault((run.spec.arm, run.spec.trial), []).append(run.value)
    return {key: sum(row) / len(row) for key, row in values.items()}
