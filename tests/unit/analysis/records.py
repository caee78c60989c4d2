"""Synthetic studies as records: specs, trials and runs with given values, without any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.analysis.verdict.finalists import finalists
from tuner.analysis.verdict.plan import next_runs
from tuner.config.documents import Section
from tuner.config.spec import StudyFile, StudySpec
from tuner.config.study_file import completed, read_study
from tuner.core.records import (
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
from tuner.study_records import StudyRecords

SPACE: dict[str, Any] = {
    "name": "two-rates",
    "arms": {
        "sgdm": {"effective_learning_rate": {"low": 0.01, "high": 100, "scale": "log"}},
        "adamw": {
            "learning_rate": {"low": 1e-5, "high": 3e-2, "scale": "log"},
            "weight_decay": {"low": 1e-4, "high": 1.0, "scale": "log", "or_zero": True},
        },
        "nag": {"effective_learning_rate": {"low": 0.01, "high": 100, "scale": "log"}},
        "adam": {"learning_rate": {"low": 1e-5, "high": 3e-2, "scale": "log"}},
        "nadam": {"learning_rate": {"low": 1e-5, "high": 3e-2, "scale": "log"}},
    },
}
BAD = (Outcome.DIVERGED, Outcome.FAILED, Outcome.LOST)


def make_spec(arms: Sequence[str] = ("sgdm", "adamw"), **changes: Any) -> StudySpec:
    """A study that leaves nothing to its workload; keyword arguments are keys of the study file."""
    return completed(make_study(arms, **changes))


def make_study(arms: Sequence[str] = ("sgdm", "adamw"), **changes: Any) -> StudyFile:
    """The same as a study file."""
    data: dict[str, Any] = {
        "study": "toy",
        "workload": "my.work:Load",
        "metric": {"name": "val_accuracy", "direction": "maximize"},
        "horizon": {"epochs": 3},
        "space": SPACE,
        "arms": list(arms),
        "budget": {"trials_per_arm": 4},
        **changes,
    }
    data["confirmation"] = {"noise_seeds": 0, **changes.get("confirmation", {})}
    return read_study(Section(data, "test"))


@dataclass
class Book:
    """A ledger in memory: add trials with their search values, answer run requests with values."""

    spec: StudySpec
    trials: list[TrialRecord] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)
    step_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def records(self) -> StudyRecords:
        return StudyRecords(self.spec, tuple(self.trials), tuple(self.runs))

    def search(self, values: Mapping[str, Sequence[float | Outcome]]) -> Book:
        """Per arm, what each proposal came to; the first is the family's default."""
        for arm, row in values.items():
            for index, value in enumerate(row):
                self.propose(arm, index, Source.DEFAULT if index == 0 else Source.SOBOL)
                self.end(RunRequest(arm, index, Phase.EXPLORE, self.spec.search_seed), value)
        return self

    def propose(self, arm: str, index: int, source: Source, setting: Setting | None = None) -> None:
        if setting is None:
            space = self.spec.space.arm(arm)
            coordinates = {d.name: d.at((0.3 + 0.13 * index) % 1.0) for d in space.dimensions}
            setting = space.default if index == 0 else space.decode(coordinates)
            if index == 0:
                coordinates = space.encode(setting) or coordinates
        else:
            coordinates = {}
        self.trials.append(TrialRecord(arm, index, source, setting, coordinates))

    def end(self, request: RunRequest, value: float | Outcome, tests: Mapping[str, float] | None = None) -> None:
        spec = self.spec
        setting = next(t.setting for t in self.trials if (t.arm, t.index) == (request.arm, request.trial))
        run = RunSpec(
            study=spec.name,
            arm=request.arm,
            trial=request.trial,
            phase=request.phase,
            seed=request.seed,
            horizon=spec.horizon,
            setting=setting,
            workload=spec.workload,
            metric=spec.metric,
            direction=spec.direction,
        )
        pace = self.step_seconds.get(request.arm, 0.01)
        bad = value in BAD
        result = RunResult(
            outcome=Outcome(value) if bad else Outcome.COMPLETED,
            value=None if bad else float(value),
            step=90,
            measurements=self._curve(0.5 if bad else float(value)),
            tests=tests or {},
            device="cpu",
            train_seconds=90 * pace,
            eval_seconds=0.1,
        )
        self.runs.append(RunRecord(run, State.QUEUED).ended(result))

    def shorten(self, arm: str, *trials: int, epochs: float = 1) -> Book:
        """Make the search's runs of these trials short ones, on the lowest rung."""
        for i, run in enumerate(self.runs):
            if run.spec.arm == arm and run.spec.trial in trials and run.spec.phase is Phase.EXPLORE:
                short = replace(run.spec, horizon=replace(self.spec.horizon, amount=epochs), rung=0)
                self.runs[i] = replace(run, spec=short)
        return self

    def climb(self, arm: str, trial: int, value: float | Outcome) -> Book:
        """Train a trial of the search over the full horizon, too."""
        self.end(RunRequest(arm, trial, Phase.EXPLORE, self.spec.search_seed), value)
        last = self.runs[-1]
        self.runs[-1] = replace(last, spec=replace(last.spec, rung=len(self.spec.rungs) - 1))
        return self

    def _curve(self, value: float) -> tuple[Measurement, ...]:
        steps = range(9, 91, 9)
        return tuple(Measurement(s, {self.spec.metric: value - (0.3 * (1 - s / 90) ** 2)}) for s in steps)

    def confirm(self, values: Mapping[str, Sequence[float | Outcome]]) -> Book:
        """Give the finalists these values on the verdict's seeds, seed by seed."""
        chosen = finalists(self.records)
        for arm, row in values.items():
            for index, value in enumerate(row):
                seed = self.spec.confirm_seed(chosen, index)
                self.end(RunRequest(arm, chosen[arm], Phase.CONFIRM, seed), value)
        return self

    def asked(self) -> tuple[RunRequest, ...]:
        return next_runs(self.records)

    def follow(self, answer: Any) -> list[tuple[RunRequest, ...]]:
        """Carry the plan out to its end; ``answer(request, index of its seed)`` gives the values."""
        batches = []
        while batch := self.asked():
            assert len(batches) < 20, "the plan does not end"
            batches.append(batch)
            chosen = finalists(self.records)
            seeds = [self.spec.confirm_seed(chosen, i) for i in range(200)]
            seeds += [self.spec.noise_seed(chosen, i) for i in range(20)]
            for request in batch:
                self.end(request, answer(request, seeds.index(request.seed)), tests={"test_accuracy": 0.9})
        return batches

    def with_confirmation(self, **changes: Any) -> Book:
        spec = replace(self.spec, confirmation=replace(self.spec.confirmation, **changes))
        return Book(spec, list(self.trials), list(self.runs), self.step_seconds)


def started(arms: Sequence[str] = ("sgdm", "adamw"), **changes: Any) -> Book:
    """A study whose search is over: four trials per arm, the third the best."""
    book = Book(make_spec(arms, **changes))
    return book.search(dict.fromkeys(arms, (0.9, 0.91, 0.95, 0.93)))
