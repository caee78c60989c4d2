"""Record tables for replays: train every setting of a workload at every rung of the ladder; nothing is searched here.

    python benchmarks/record.py benchmarks/recorded [--workloads digits,chars] [--settings N] [--horizon chars=450]

Settings are points of one scrambled Sobol sequence over each arm's own space, with schedules that decay. Each trains
from scratch on every rung, with its schedule timed to that rung. Then the best setting of each arm trains in full on
fresh seeds. Runs that the tables in the folder already hold are not trained again. ``rungs.py`` measures how well a
rung predicts the full run.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tuner.config.fidelity import LADDER, Fidelity
from tuner.config.space import KIND, ArmSpace
from tuner.config.spec import StudySpec
from tuner.config.study_file import read_study_file
from tuner.core.errors import InputError, TunerError
from tuner.core.records import (
    Assignment,
    Horizon,
    Outcome,
    Phase,
    RunRecord,
    RunResult,
    RunSpec,
    Source,
    State,
    TrialRecord,
)
from tuner.recorded.csv_reading import read_curves, read_runs
from tuner.recorded.csv_writing import write_curves, write_runs
from tuner.recorded.from_ledger import rows_of
from tuner.recorded.rows import RecordedPoint, RecordedRun
from tuner.resolve.asked import resolve
from tuner.search.proposals import sobol_point
from tuner.study_records import StudyRecords

EXAMPLES = Path(__file__).parents[1] / "examples"
RUNS, CURVES = "own-runs.csv.gz", "own-curves.csv.gz"
DECAYING = ("cosine", "wsd", "linear")
CONFIRM_SEEDS = 8
SAVE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Extent:
    """What to record of an example: settings per arm, and the full horizon (None: that of the example)."""

    example: str
    settings: int
    amount: float | None = None


WORKLOADS = {"digits": Extent("digits.yaml", 64), "chars": Extent("chars_transformer.yaml", 24, 450)}
"""The full horizon of chars is the shortest one on which no rung of the ladder is left out as too short."""


@dataclass(frozen=True, slots=True)
class Question:
    """A study with its rungs in optimizer steps, the full horizon last."""

    spec: StudySpec
    rungs: tuple[Horizon, ...]


def question(name: str, amount: float | None = None) -> Question:
    """Return the study of a workload's example; only schedules that decay are left in its space.

    Raises:
        InputError: an arm has no such schedule.
    """
    from tuner.training.workloads.base import Workload
    from tuner.training.workloads.load import load

    spec = resolve(read_study_file(EXAMPLES / WORKLOADS[name].example))
    full = replace(spec.horizon, amount=amount or WORKLOADS[name].amount or spec.horizon.amount)
    arms = tuple(decaying(arm) for arm in spec.arms)
    workload = load(spec.workload)
    assert isinstance(workload, Workload)
    rungs = Fidelity(LADDER).ladder(full)
    steps = tuple(Horizon(rung.steps(workload.steps_per_epoch), "steps") for rung in rungs)
    return Question(replace(spec, name=name, space=replace(spec.space, arms=arms), horizon=steps[-1]), steps)


def decaying(arm: ArmSpace) -> ArmSpace:
    """Return an arm's space without the schedules that do not decay to the end of training."""
    kept = []
    for d in arm.all_dimensions:
        choices = {kind: opens for kind, opens in d.choices.items() if d.name != KIND or kind in DECAYING}
        if d.name == KIND and not choices:
            raise InputError(f"arm {arm.arm!r} searches {d}; expected one of the schedules {', '.join(DECAYING)}.")
        kept.append(replace(d, choices=choices))
    return replace(arm, all_dimensions=tuple(kept))


def searched(asked: Question, settings: int) -> Iterator[RunSpec]:
    """Yield the runs of the search: all rungs of all arms' first setting, then of the second, and so on."""
    for index in range(settings):
        for arm in asked.spec.arms:
            for rung in range(len(asked.rungs)):
                yield _run(asked, arm, index, Phase.EXPLORE, asked.spec.search_seed, rung)


def confirmed(asked: Question, finalists: Mapping[str, int], seeds: int) -> Iterator[RunSpec]:
    """Yield the runs of the finalists (arm -> index of its setting) at the full horizon, on seeds of their own."""
    for number in range(seeds):
        for arm in asked.spec.arms:
            if arm.arm in finalists:
                seed = asked.spec.confirm_seed(finalists, number)
                yield _run(asked, arm, finalists[arm.arm], Phase.CONFIRM, seed, len(asked.rungs) - 1)


def _run(asked: Question, arm: ArmSpace, index: int, phase: Phase, seed: int, rung: int) -> RunSpec:
    spec = asked.spec
    return RunSpec(
        study=spec.name,
        arm=arm.arm,
        trial=index,
        phase=phase,
        seed=seed,
        horizon=asked.rungs[rung],
        setting=arm.decode(sobol_point(arm, spec.seed, index)),
        workload=spec.workload,
        metric=spec.metric,
        direction=spec.direction,
        rung=rung,
        device="cpu",
    )


def train(run: RunSpec) -> RunResult:
    """Train one run in this process, on one thread.

    Raises:
        RuntimeError: the run failed.
    """
    from tuner.training.run import train as training

    measured = training(Assignment(run, 1))
    while True:
        try:
            next(measured)
        except StopIteration as end:
            result: RunResult = end.value
            if result.outcome is Outcome.FAILED:
                raise RuntimeError(f"{row_id(run)} failed: {result.reason}\n{result.traceback}") from None
            return result


def row_id(run: RunSpec) -> str:
    """Return the name of a run in a table of several studies."""
    return f"{run.study}.{run.run_id}"


def row(spec: StudySpec, run: RunSpec, result: RunResult) -> tuple[RecordedRun, tuple[RecordedPoint, ...]]:
    """Return a run as a row and its curve; seconds are rounded to the millisecond, other values are exact."""
    trial = TrialRecord(run.arm, run.trial, Source.SOBOL, run.setting, {})
    (recorded,), curves = rows_of(StudyRecords(spec, (trial,), (RunRecord(run, State.QUEUED).ended(result),)))
    points = tuple(replace(p, seconds=round(p.seconds or 0.0, 3)) for p in curves.get(run.run_id, ()))
    return replace(recorded, run_id=row_id(run), seconds=round(recorded.seconds or 0.0, 3)), points


@dataclass(slots=True)
class Tables:
    """The two tables of a folder, in memory; :meth:`save` writes them."""

    folder: Path
    rows: dict[str, RecordedRun] = field(default_factory=dict)
    curves: dict[str, Sequence[RecordedPoint]] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path) -> Tables:
        """Read the tables of a folder, without completed runs whose curve is missing because of a kill."""
        if not (folder / RUNS).is_file():
            return Tables(folder)
        rows = read_runs(folder / RUNS)
        curves = dict(read_curves(folder / CURVES, rows)) if (folder / CURVES).is_file() else {}
        whole = (one for one in rows if one.run_id in curves or one.outcome is not Outcome.COMPLETED)
        return Tables(folder, {one.run_id: one for one in whole}, curves)

    def has(self, spec: StudySpec, run: RunSpec) -> bool:
        """Whether a run is recorded.

        Raises:
            InputError: another setting or horizon is recorded under its name.
        """
        known = self.rows.get(row_id(run))
        if known is None:
            return False
        asked, _ = row(spec, run, RunResult(Outcome.LOST))
        if known.horizon != asked.horizon or known.setting != asked.setting:
            recorded, wanted = (f"{one.horizon:g} steps of {one.setting}" for one in (known, asked))
            place = f"{self.folder / RUNS}: run {known.run_id!r}"
            raise InputError(f"{place} is {recorded}; expected {wanted}. Name another folder, or ask as before.")
        return True

    def save(self) -> None:
        """Write both tables, each whole or not at all; runs are written first, so every curve has its run."""
        rows = [self.rows[name] for name in sorted(self.rows)]
        write_runs(self.folder / f"draft-{RUNS}", rows)
        write_curves(self.folder / f"draft-{CURVES}", {one.run_id: self.curves.get(one.run_id, ()) for one in rows})
        for name in (RUNS, CURVES):
            os.replace(self.folder / f"draft-{name}", self.folder / name)


def record(
    tables: Tables, asked: Question, settings: int, seeds: int, train: Callable[[RunSpec], RunResult] = train
) -> int:
    """Train the runs that the tables lack, search before confirmation; return the number of trained runs."""
    search = list(searched(asked, settings))
    trained = _fill(tables, asked.spec, search, train)
    return trained + _fill(tables, asked.spec, confirmed(asked, best(tables, asked, search), seeds), train)


def _fill(tables: Tables, spec: StudySpec, runs: Iterable[RunSpec], train: Callable[[RunSpec], RunResult]) -> int:
    count, saved = 0, time.monotonic()
    try:
        for run in runs:
            if tables.has(spec, run):
                continue
            tables.rows[row_id(run)], tables.curves[row_id(run)] = row(spec, run, train(run))
            count += 1
            if time.monotonic() - saved > SAVE_SECONDS:
                tables.save()
                print(f"{row_id(run)}: {len(tables.rows)} runs are recorded", file=sys.stderr, flush=True)
                saved = time.monotonic()
    finally:
        if count:
            tables.save()
    return count


def best(tables: Tables, asked: Question, runs: Iterable[RunSpec]) -> dict[str, int]:
    """Return arm -> index of its best setting at the full horizon; an arm without completed runs is left out."""
    leaders: dict[str, tuple[float, int]] = {}
    for run in runs:
        score = _score(asked.spec.sign, tables.rows[row_id(run)].value)
        if run.horizon == asked.rungs[-1] and score > leaders.get(run.arm, (-math.inf, 0))[0]:
            leaders[run.arm] = score, run.trial
    return {arm: trial for arm, (_, trial) in leaders.items()}


def _score(sign: int, value: float | None) -> float:
    return -math.inf if value is None else sign * value


def _horizons(texts: Sequence[str]) -> dict[str, float]:
    amounts = {}
    for text in texts:
        name, _, amount = text.partition("=")
        try:
            amounts[name] = float(amount)
        except ValueError:
            raise InputError(f"--horizon is {text!r}; expected NAME=AMOUNT, as in chars=450.") from None
    return amounts


def _known(names: Iterable[str]) -> list[str]:
    checked = list(names)
    for name in checked:
        if name not in WORKLOADS:
            raise InputError(f"there is no workload {name!r}; expected some of {', '.join(WORKLOADS)}.")
    return checked


def main(words: Sequence[str] | None = None) -> int:
    """Run from the command line; return 2 if an argument is wrong."""
    parser = argparse.ArgumentParser(description="Train every setting on every rung, and record it.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workloads", default=",".join(WORKLOADS), help="names, separated by commas")
    parser.add_argument("--settings", type=int, help="settings per arm; by default " + _defaults())
    parser.add_argument("--seeds", type=int, default=CONFIRM_SEEDS, help="fresh seeds for the best setting of each arm")
    parser.add_argument("--horizon", action="append", default=[], metavar="NAME=AMOUNT", help="in the example's unit")
    given = parser.parse_args(words)
    try:
        names, horizons = _known(given.workloads.split(",")), _horizons(given.horizon)
        _known(horizons)
        given.folder.mkdir(parents=True, exist_ok=True)
        tables, began = Tables.read(given.folder), time.perf_counter()
        trained = sum(
            record(tables, question(name, horizons.get(name)), given.settings or WORKLOADS[name].settings, given.seeds)
            for name in names
        )
    except TunerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{trained} runs in {time.perf_counter() - began:.0f} s, {len(tables.rows)} in {given.folder / RUNS}")
    return 0


def _defaults() -> str:
    return ", ".join(f"{extent.settings} for {name}" for name, extent in WORKLOADS.items())


if __name__ == "__main__":
    sys.exit(main())
