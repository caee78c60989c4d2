"""A study as everything that reads one takes it: its spec, its trials, its runs, and the views that all ask for.

Nothing is decided here: what the search tries next is said in :mod:`tuner.search`, what follows from the runs in
:mod:`tuner.analysis`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tuner.config.spec import StudySpec
from tuner.core.records import Horizon, Outcome, Phase, RunRecord, State, TrialRecord

Key = tuple[str, int]
"""An arm and the index of one of its trials."""
Training = tuple[str, float, int]
"""What two runs of the search share if they are the same training: the setting's fingerprint, the horizon, the seed."""


@dataclass(frozen=True)
class StudyRecords:
    """What the ledger knows of a study at one moment; ``runs`` stand in the order in which they were handed out."""

    spec: StudySpec
    trials: tuple[TrialRecord, ...]
    runs: tuple[RunRecord, ...]

    @staticmethod
    def of(spec: StudySpec, trials: Iterable[TrialRecord], runs: Iterable[RunRecord]) -> StudyRecords:
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
        return tuple(trial for trial in self.trials if trial.arm == arm)

    def runs_of(self, arm: str, trial: int | None = None) -> tuple[RunRecord, ...]:
        """Return the runs of an arm, or of one of its trials."""
        return tuple(run for run in self.runs if run.spec.arm == arm and trial in (None, run.spec.trial))

    def in_phase(self, *phases: Phase) -> tuple[RunRecord, ...]:
        return tuple(run for run in self.runs if run.spec.phase in phases)

    @cached_property
    def search_runs(self) -> Mapping[str, tuple[RunRecord, ...]]:
        """Arm -> its runs of the search."""
        rows: dict[str, list[RunRecord]] = {arm: [] for arm in self.arms}
        for run in self.in_phase(Phase.EXPLORE):
            rows.setdefault(run.spec.arm, []).append(run)
        return {arm: tuple(row) for arm, row in rows.items()}

    @cached_property
    def search_values(self) -> Mapping[Key, float]:
        """Arm and trial -> value of the search at the full horizon, in the metric's unit; of several seeds the mean."""
        return values_at(self.in_phase(Phase.EXPLORE), self.spec.horizon)

    # -- what the search has spent, in full runs

    @cached_property
    def full_steps(self) -> int:
        """The optimizer steps of a full run, as far as one has completed; 0 before."""
        steps = (run.result.step for run in self.runs if run.result and run.outcome is Outcome.COMPLETED)
        return max(steps, default=0)

    def cost(self, run: RunRecord) -> float:
        """Return what a run costs, as a share of a full one.

        A run that a pruner stopped costs what it trained. One that diverged, failed or was lost is not refunded.
        """
        full = self.spec.horizon.amount
        share = run.spec.horizon.amount / full if full else 1.0
        if run.outcome is Outcome.PRUNED and run.result is not None:
            share *= min(1.0, run.result.step / max(self.full_steps, 1))
        return share

    def paid(self, runs: Iterable[RunRecord]) -> dict[Training, float]:
        """Return what runs cost, the same training once, as its last run cost."""
        return {(run.spec.setting.fingerprint, run.spec.horizon.amount, run.spec.seed): self.cost(run) for run in runs}

    def committed(self, arm: str) -> float:
        """Return what an arm's search has cost, with what its runs in training will."""
        return sum(self.paid(self.search_runs[arm]).values())

    @cached_property
    def spent(self) -> Mapping[str, float]:
        """Arm -> what its ended runs of the search cost; in the space's order."""
        return {arm: sum(self.paid(ended(self.handed_out(arm))).values()) for arm in self.arms}

    def handed_out(self, arm: str) -> list[RunRecord]:
        """Return the arm's runs of the search by the time at which they began."""
        return sorted(self.search_runs[arm], key=lambda run: (run.began, run.run_id))


def ended(runs: Iterable[RunRecord]) -> list[RunRecord]:
    return [run for run in runs if run.state is State.ENDED]


def values_at(runs: Sequence[RunRecord], horizon: Horizon) -> dict[Key, float]:
    """Return the mean value of each trial's completed runs over one horizon, in the metric's unit."""
    values: dict[Key, list[float]] = {}
    for run in sorted(runs, key=lambda run: run.run_id):
        if run.spec.horizon == horizon and run.outcome is Outcome.COMPLETED and run.value is not None:
            values.setdefault((run.spec.arm, run.spec.trial), []).append(run.value)
    return {key: sum(row) / len(row) for key, row in values.items()}
