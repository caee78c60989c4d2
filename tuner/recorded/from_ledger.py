"""Turns a study's records into recorded runs, for :mod:`tuner.recorded.csv_writing`; no file is written here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tuner.catalog.training_options import changed
from tuner.config.space import TRAINING
from tuner.config.spec import StudySpec
from tuner.core.records import Horizon, Outcome, RunRecord, Setting
from tuner.core.values import Scalar
from tuner.recorded.rows import PHASES, RecordedPoint, RecordedRun, plain
from tuner.study_records import StudyRecords, ended


def rows_of(records: StudyRecords) -> tuple[list[RecordedRun], dict[str, tuple[RecordedPoint, ...]]]:
    """Return a study's ended runs as recorded ones, and their curves.

    Horizons and steps are in optimizer steps. The training options that a setting changes are among the params, as
    ``training.NAME``. Runs on the test split, runs of references, and repeats of a training are left out.
    """
    spec, runs = records.spec, [run for run in ended(records.runs) if run.spec.phase.value in PHASES]
    runs.sort(key=lambda run: run.run_id)
    samplers = {key: trial.source.value for key, trial in records.by_key.items()}
    steps = _steps(runs)
    rows = without_repeats(_row(spec, run, samplers, steps[run.spec.horizon]) for run in runs)
    kept = {row.run_id for row in rows}
    curves = {run.run_id: _points(run, spec.metric) for run in runs if run.run_id in kept}
    return rows, {run_id: points for run_id, points in curves.items() if points}


def without_repeats(rows: Iterable[RecordedRun]) -> list[RecordedRun]:
    """Return the rows with each training once: the first of its rows, or the first one that was not lost.

    Two proposals of one setting are the same training if phase, seed and horizon agree.
    """
    by_training: dict[tuple[object, ...], RecordedRun] = {}
    for row in rows:
        key = (row.study, row.arm, row.setting, row.seed, row.phase, row.horizon)
        if key not in by_training or (by_training[key].outcome is Outcome.LOST and row.outcome is not Outcome.LOST):
            by_training[key] = row
    return list(by_training.values())


def _steps(runs: Sequence[RunRecord]) -> dict[Horizon, float]:
    """Each horizon in optimizer steps: those of its longest completed run, else in proportion to another horizon."""
    steps_of = {run.spec.horizon: 0.0 for run in runs}
    for run in runs:
        if run.result is not None and run.outcome is Outcome.COMPLETED:
            steps_of[run.spec.horizon] = max(steps_of[run.spec.horizon], float(run.result.step))
    completed = [(horizon, steps) for horizon, steps in steps_of.items() if steps]
    per_unit = completed[0][1] / completed[0][0].amount if completed else 1.0
    return {horizon: steps or float(round(horizon.amount * per_unit)) or 1.0 for horizon, steps in steps_of.items()}


def _row(spec: StudySpec, run: RunRecord, samplers: dict[tuple[str, int], str], horizon: float) -> RecordedRun:
    assert run.result is not None
    completed = run.outcome is Outcome.COMPLETED and run.value is not None
    return RecordedRun(
        run_id=run.run_id,
        arm=run.spec.arm,
        seed=run.spec.seed,
        phase=run.spec.phase,
        outcome=run.result.outcome,
        direction=spec.direction,
        value=run.value if completed else None,
        study=spec.name,
        metric=spec.metric,
        params=_params(run.spec.setting),
        schedule=plain(run.spec.setting.schedule),
        horizon=horizon,
        seconds=run.result.train_seconds,
        sampler=samplers.get((run.spec.arm, run.spec.trial), ""),
    )


def _params(setting: Setting) -> dict[str, Scalar]:
    options = {TRAINING + name: value for name, value in changed(setting.training).items()}
    return plain({**setting.hyperparameters, **options})


def _points(run: RunRecord, metric: str) -> tuple[RecordedPoint, ...]:
    measured = ((m, m.values[metric]) for m in run.curve if metric in m.values)
    return tuple(RecordedPoint(m.step, value, m.train_seconds) for m, value in measured if math.isfinite(value))
