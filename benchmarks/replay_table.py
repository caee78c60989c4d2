"""A recorded table to search in: settings, their final values, and the result of a run of any horizon."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tuner.config.space import ONE_MINUS, ArmSpace, Dimension
from tuner.core.errors import InputError
from tuner.core.records import Measurement, Outcome, Phase, RunRecord, TrialRecord
from tuner.core.values import Scalar
from tuner.recorded.csv_reading import read_curves, read_runs
from tuner.recorded.to_records import studies_of
from tuner.study_records import StudyRecords

WITHIN = 0.01
"""A setting is good if its score is within WITHIN x |median - best| of the best, over the finite final values."""


@dataclass(frozen=True, slots=True)
class Table:
    """One recorded study. ``finals`` holds each setting's score (more is better, NaN diverged) at the full horizon.

    ``retimed`` are runs that were recorded with a shorter horizon, by (arm, trial, horizon): they are the rungs.
    Without them a rung is the full run's curve up to that step.
    """

    name: str
    study: StudyRecords
    spaces: Mapping[str, ArmSpace]
    trials: Mapping[str, tuple[TrialRecord, ...]]
    finals: Mapping[tuple[str, int], float]
    full: Mapping[tuple[str, int], RunRecord]
    retimed: Mapping[tuple[str, int, float], RunRecord]
    steps: tuple[float, ...]

    @property
    def sign(self) -> int:
        return self.study.spec.sign

    @property
    def horizon(self) -> float:
        return self.study.spec.horizon.amount

    def rungs(self, count: int = 3, reduction: int = 3) -> tuple[float, ...]:
        """Return the horizons below the full one: recorded ones, else the ladder's at recorded steps."""
        recorded = sorted({horizon for _, _, horizon in self.retimed})
        if recorded:
            return tuple(recorded)
        targets = [self.horizon / reduction**k for k in range(count - 1, 0, -1)]
        below = [step for step in self.steps if 0 < step < self.horizon]
        snapped = {max([s for s in below if s <= target] or below[:1]) for target in targets} if below else set()
        return tuple(sorted(snapped))

    def shown(self, arm: str, trial: int, horizon: float) -> tuple[Outcome, float | None, tuple[Measurement, ...]]:
        """Return what a run of this horizon ends with: outcome, value in the metric's unit, curve."""
        run = self.retimed.get((arm, trial, horizon)) or self.full[arm, trial]
        assert run.result is not None
        curve = tuple(m for m in run.curve if m.step <= horizon)
        if run.spec.horizon.amount == horizon:
            return run.result.outcome, run.result.value, curve
        reached = bool(curve) and (run.result.outcome is Outcome.COMPLETED or run.curve[-1].step > curve[-1].step)
        value = curve[-1].values[self.study.spec.metric] if reached else None
        if value is None or not math.isfinite(value):
            return Outcome.DIVERGED, None, curve
        return Outcome.COMPLETED, value, curve

    def good(self, arm: str, trial: int | None) -> bool:
        """Whether a setting lies within 1 % of its arm's best."""
        best, unit = self.scale([arm])
        return trial is not None and math.isfinite(best) and best - self.score(arm, trial) <= WITHIN * unit

    def score(self, arm: str, trial: int) -> float:
        """The final score of a setting, -inf where it diverged."""
        final = self.finals[arm, trial]
        return final if math.isfinite(final) else -math.inf

    def scale(self, arms: Sequence[str] | None = None) -> tuple[float, float]:
        """Return the best final score of some arms (None: all), and |median - best|."""
        chosen = [v for (arm, _), v in self.finals.items() if math.isfinite(v) and (arms is None or arm in arms)]
        if not chosen:
            return -math.inf, 0.0
        return max(chosen), abs(float(np.median(chosen)) - max(chosen))


def read_tables(runs: Path, curves: Path | None) -> list[Table]:
    """Read every study of a recording."""
    rows = read_runs(runs)
    points = read_curves(curves, rows) if curves is not None else {}
    longest = max((point.step for row in points.values() for point in row), default=1)
    rows = tuple(row if row.horizon else replace(row, horizon=float(longest)) for row in rows)
    return [_table(study) for study in studies_of(rows, points, source=runs.name)]


def _table(study: StudyRecords) -> Table:
    spec = study.spec
    ended: dict[tuple[str, int], list[RunRecord]] = defaultdict(list)
    retimed: dict[tuple[str, int, float], RunRecord] = {}
    for run in study.runs:
        if run.spec.phase is Phase.EXPLORE and run.outcome in (Outcome.COMPLETED, Outcome.DIVERGED):
            if run.spec.horizon == spec.horizon:
                ended[run.spec.arm, run.spec.trial].append(run)
            else:
                retimed[run.spec.arm, run.spec.trial, run.spec.horizon.amount] = run
    if not ended:
        raise InputError(
            f"study {spec.name!r} has no explore run that completed or diverged at its full horizon; expected the runs "
            "of a search. Give a table that has them."
        )
    finals = {key: _mean([run.value for run in runs]) * spec.sign for key, runs in ended.items()}
    steps = Counter(m.step for runs in ended.values() for run in runs[:1] for m in run.curve)
    often = 0.5 * max(steps.values(), default=0)
    usual = tuple(sorted(float(step) for step, count in steps.items() if count >= often))
    trials = {
        arm.arm: tuple(t for t in study.trials if t.arm == arm.arm and (t.arm, t.index) in ended) for arm in spec.arms
    }
    spaces, flat = {}, {}
    for arm in spec.arms:
        if trials[arm.arm]:
            spaces[arm.arm], flat[arm.arm] = _flattened(arm, trials[arm.arm])
    return Table(spec.name, study, spaces, flat, finals, {key: runs[0] for key, runs in ended.items()}, retimed, usual)


def _mean(values: Sequence[float | None]) -> float:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if len(finite) == len(values) else math.nan


def _flattened(arm: ArmSpace, trials: Sequence[TrialRecord]) -> tuple[ArmSpace, tuple[TrialRecord, ...]]:
    """The arm's numbers, its words and its schedule's parameters as dimensions; every trial placed in them."""
    rows = [dict(trial.coordinates) | _rest(trial, arm) for trial in trials]
    found = list(arm.all_dimensions)
    names = sorted({name for row in rows for name in row} - {d.name for d in found})
    found += [d for d in (_axis(name, rows) for name in names) if d is not None]
    places = [tuple(_at(found, row).values()) for row in rows]
    if not found or len(set(places)) < len(places):  # nothing that was recorded tells them apart
        found.append(Dimension("row", 0.0, float(max(1, len(rows) - 1))))
        rows = [row | {"row": float(i)} for i, row in enumerate(rows)]
    placed = tuple(replace(t, coordinates=_at(found, row)) for t, row in zip(trials, rows, strict=True))
    return replace(arm, all_dimensions=tuple(found)), placed


def _rest(trial: TrialRecord, arm: ArmSpace) -> dict[str, Scalar]:
    """What a setting says beside the arm's own dimensions, under names that no rule of our own spaces reads."""
    own = {d.name.removeprefix(ONE_MINUS) for d in arm.all_dimensions}
    said = {f"param {name}": value for name, value in trial.setting.hyperparameters.items() if name not in own}
    return said | {f"schedule {name}": value for name, value in trial.setting.schedule.items()}


def _axis(name: str, rows: Sequence[Mapping[str, Scalar]]) -> Dimension | None:
    """One more dimension: a range where every setting has a number, else a choice of words, to have none among them."""
    said = [row.get(name) for row in rows]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in said):
        numbers = [float(v) for v in said if isinstance(v, int | float)]
        low, high = min(numbers), max(numbers)
        return Dimension(name, low, high, log=low > 0 and high / low >= 10) if high > low else None
    words = sorted({_word(v) for v in said})
    return Dimension(name, choices=dict.fromkeys(words, 1)) if len(words) > 1 else None


def _word(value: Scalar | None) -> str:
    return "-" if value is None else str(value)


def _at(dimensions: Sequence[Dimension], row: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {d.name: _word(row.get(d.name)) if d.choices else row.get(d.name, d.at(0.5)) for d in dimensions}
