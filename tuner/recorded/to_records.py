"""Turns recorded runs into the records that a study of tuner has: spec, trials and runs; nothing is concluded here.

The order of rows does not matter: arms, trials and seeds are numbered by their names and settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tuner.catalog.families import Family, family, is_family, unknown
from tuner.config.space import ONE_MINUS, ArmSpace, Dimension, SearchSpace, to_stored_axis
from tuner.config.spec import Budget, Confirmation, Recording, StudySpec
from tuner.core.records import (
    Horizon,
    Measurement,
    Outcome,
    Phase,
    RunRecord,
    RunResult,
    RunSpec,
    Setting,
    Source,
    State,
    TrialRecord,
    WorkloadRef,
)
from tuner.core.values import Scalar
from tuner.recorded.confirmed import finalists_of
from tuner.recorded.rows import Curves, RecordedPoint, RecordedRun, option_of
from tuner.study_records import StudyRecords

_SOURCES = {"": Source.RECORDED, "random": Source.RANDOM, "sobol": Source.SOBOL}
_WIDE = 10.0
"""A param is on a log axis if its largest value is at least this many times its smallest."""


def studies_of(
    runs: Iterable[RecordedRun],
    curves: Curves | None = None,
    *,
    source: str = "",
    alpha: float = 0.05,
    min_effect: float | None = None,
) -> tuple[StudyRecords, ...]:
    """Return the studies of recorded runs, in the order of their names.

    Args:
        runs: checked rows, as :func:`tuner.recorded.csv_reading.read_runs` gives them.
        curves: the points of each run, if they are recorded.
        source: where the rows come from, in words.
        alpha: the error rate of each study's verdict.
        min_effect: the smallest difference that matters, in the metric's unit; None derives it from the seed noise.
    """
    grouped: dict[str, list[RecordedRun]] = {}
    for run in runs:
        grouped.setdefault(run.study, []).append(run)
    confirmation = Confirmation(alpha=alpha, min_effect=min_effect, references=False, test=False)
    return tuple(_study(name, grouped[name], curves or {}, source, confirmation) for name in sorted(grouped))


def _study(
    name: str, rows: Sequence[RecordedRun], curves: Curves, source: str, confirmation: Confirmation
) -> StudyRecords:
    index = _numbered(rows)
    horizon = Horizon(max(row.horizon or 0 for row in rows), "steps")
    finalists, seeds = finalists_of(rows, index)
    arms = [_arm_rows(rows, arm) for arm in sorted({row.arm for row in rows})]
    spaces = tuple(_space(arm_rows) for arm_rows in arms)
    spec = StudySpec(
        name=name,
        workload=WorkloadRef(f"recorded runs ({source})" if source else "recorded runs"),
        horizon=horizon,
        space=SearchSpace("recorded", "what the recorded runs tried", spaces, {}),
        budget=Budget(None),
        opened_for=10**9,
        metric=rows[0].metric,
        direction=rows[0].direction,
        confirmation=confirmation,
        executor="local",
        recording=Recording(source or "recorded runs", finalists, seeds),
    )
    trials = [
        _trial(space, same_setting, index)
        for space, arm_rows in zip(spaces, arms, strict=True)
        for same_setting in _by_setting(arm_rows)
    ]
    lengths = sorted({row.horizon or 0 for row in rows}, reverse=True)
    ordered = sorted(rows, key=lambda row: row.run_id)
    records = [_run(spec, row, index, lengths, curves.get(row.run_id, ())) for row in ordered]
    records.sort(key=lambda run: (run.run_id, run.outcome is not Outcome.LOST))
    return StudyRecords(spec, tuple(trials), tuple(records))


def _numbered(rows: Sequence[RecordedRun]) -> dict[tuple[str, str], int]:
    """The index of each arm's settings, by arm and setting."""
    settings: dict[str, set[str]] = {}
    for row in rows:
        settings.setdefault(row.arm, set()).add(row.setting)
    return {(arm, text): i for arm, texts in settings.items() for i, text in enumerate(sorted(texts))}


def _arm_rows(rows: Sequence[RecordedRun], arm: str) -> list[RecordedRun]:
    return sorted((row for row in rows if row.arm == arm), key=lambda row: (row.setting, row.phase, row.seed))


def _by_setting(rows: Sequence[RecordedRun]) -> list[list[RecordedRun]]:
    groups: dict[str, list[RecordedRun]] = {}
    for row in rows:
        groups.setdefault(row.setting, []).append(row)
    return list(groups.values())


def _setting(row: RecordedRun) -> Setting:
    """The setting as it was recorded; what is called like one of our training options is one."""
    options = {option: value for name, value in row.params.items() if (option := option_of(name))}
    return Setting(
        row.arm,
        {name: value for name, value in sorted(row.params.items()) if not option_of(name)},
        dict(sorted(row.schedule.items())),
        options,
    )


def _trial(space: ArmSpace, rows: Sequence[RecordedRun], index: Mapping[tuple[str, str], int]) -> TrialRecord:
    first, params = rows[0], rows[0].params
    sampler = next((row.sampler for row in rows if row.sampler and row.phase is not Phase.CONFIRM), "")
    coordinates = {d.name: d.coordinate(_on_axis(d.name, params)) for d in space.all_dimensions}
    source = _SOURCES.get(sampler, Source.MODEL)
    return TrialRecord(first.arm, index[first.arm, first.setting], source, _setting(first), coordinates)


def _space(rows: Sequence[RecordedRun]) -> ArmSpace:
    """The space that was tried: the numbers that every run of the arm has and that differ between runs."""
    arm = rows[0].arm
    names = sorted(set.intersection(*(set(row.params) for row in rows)), key=to_stored_axis)
    found = (_dimension(name, [row.params[name] for row in rows]) for name in names)
    return ArmSpace(arm, _family(arm), tuple(d for d in found if d is not None))


def _family(arm: str) -> Family:
    return family(arm) if is_family(arm) else unknown(arm)


def _dimension(name: str, values: Sequence[Scalar]) -> Dimension | None:
    numbers = {float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)}
    if len(numbers) < 2 or any(isinstance(v, bool | str) for v in values):
        return None
    rest = {1.0 - value for value in numbers}
    if min(rest) > 0.0 and max(rest) <= 1.0 and max(rest) / min(rest) >= max(_WIDE, _ratio(numbers)):
        return Dimension(ONE_MINUS + name, min(rest), max(rest), log=True)
    positive = numbers - {0.0}
    log = _ratio(positive) >= _WIDE
    if log and len(positive) < len(numbers):
        return Dimension(name, min(positive), max(positive), log=True, or_zero=True)
    return Dimension(name, min(numbers), max(numbers), log=log)


def _ratio(numbers: set[float]) -> float:
    """The largest number over the smallest; 0 if one of them is not positive."""
    return max(numbers) / min(numbers) if min(numbers) > 0 else 0.0


def _on_axis(axis: str, params: Mapping[str, Scalar]) -> Scalar:
    name = axis.removeprefix(ONE_MINUS)
    return params[axis] if axis in params else 1.0 - float(params[name])


def _run(
    spec: StudySpec,
    row: RecordedRun,
    index: Mapping[tuple[str, str], int],
    lengths: Sequence[float],
    points: Sequence[RecordedPoint],
) -> RunRecord:
    measured = tuple(
        Measurement(point.step, {row.metric: point.value}, point.seconds or 0.0)
        for point in points
        if point.value == point.value  # a diverged run's NaN is no measurement
    )
    seconds = row.seconds if row.seconds is not None else (points[-1].seconds if points else None)
    horizon = row.horizon or 0
    step = horizon if row.outcome is Outcome.COMPLETED and horizon else (points[-1].step if points else 0)
    run = RunSpec(
        study=row.study,
        arm=row.arm,
        trial=index[row.arm, row.setting],
        phase=row.phase,
        seed=row.seed,
        horizon=Horizon(horizon, "steps"),
        setting=_setting(row),
        workload=spec.workload,
        metric=row.metric,
        direction=row.direction,
        rung=lengths.index(horizon),
    )
    result = RunResult(row.outcome, row.value, round(step), measurements=measured, train_seconds=seconds or 0.0)
    return RunRecord(run, State.ENDED, 1, result, measured)
