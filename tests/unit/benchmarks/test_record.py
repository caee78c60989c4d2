"""The recorder of our own tables: what it trains, what it does not train twice; and what is shipped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_scripts import BENCHMARKS, loaded
from click.testing import CliRunner

from tuner.cli import main
from tuner.core.errors import InputError
from tuner.core.records import Outcome, Phase, RunResult
from tuner.recorded.csv_reading import read_curves, read_runs
from tuner.recorded.rows import RecordedPoint, RecordedRun

SHORT = 3
"""Epochs of digits: rungs of 1 and 3."""


@pytest.fixture(scope="module")
def recorder():
    yield from loaded("record")


@pytest.fixture(scope="module")
def folder(recorder, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("recorded")
    assert recorder.main(words(place)) == 0
    return place


def words(folder: Path, epochs: int = SHORT) -> list[str]:
    options = f"--workloads digits --settings 2 --seeds 2 --horizon digits={epochs}"
    return [str(folder), *options.split()]


def shown(rows: dict[str, RecordedRun]) -> dict[str, RecordedRun]:
    """The rows without what a clock says."""
    return {name: replace(row, seconds=None) for name, row in rows.items()}


def test_every_setting_trains_at_every_rung_and_the_best_on_fresh_seeds(recorder, folder: Path) -> None:
    rows = read_runs(folder / recorder.RUNS)
    curves = read_curves(folder / recorder.CURVES, rows)
    explored = [row for row in rows if row.phase is Phase.EXPLORE]
    fresh = [row for row in rows if row.phase is Phase.CONFIRM]
    assert Counter((row.arm, row.horizon) for row in explored) == dict.fromkeys(
        [(arm, steps) for arm in ("sgdm", "adamw") for steps in (18, 54)], 2
    )
    assert Counter((row.arm, row.horizon) for row in fresh) == {("sgdm", 54): 2, ("adamw", 54): 2}
    assert {row.seed for row in fresh}.isdisjoint(row.seed for row in explored)
    assert {row.schedule["kind"] for row in rows} <= set(recorder.DECAYING)
    assert all(curves[row.run_id][-1] == RecordedPoint(row.horizon, row.value, row.seconds) for row in rows)
    for arm in ("sgdm", "adamw"):
        full = {row.setting: row.value for row in explored if row.arm == arm and row.horizon == 54}
        assert all(full[row.setting] == max(full.values()) for row in fresh if row.arm == arm)


def test_tuner_analyze_reads_the_tables(recorder, folder: Path) -> None:
    tables = ["--runs", str(folder / recorder.RUNS), "--curves", str(folder / recorder.CURVES)]
    result = CliRunner().invoke(main, ["analyze", "--json", *tables])
    assert result.exit_code == 0, result.output
    (study,) = json.loads(result.output)["studies"]
    assert (study["study"], study["direction"], study["pairs"][0]["n_pairs"]) == ("digits", "maximize", 2)


def test_what_is_recorded_is_not_trained_again(recorder, folder: Path, capsys) -> None:
    before = [(folder / name).read_bytes() for name in (recorder.RUNS, recorder.CURVES)]
    assert recorder.main(words(folder)) == 0
    assert capsys.readouterr().out.startswith("0 runs in ")
    assert before == [(folder / name).read_bytes() for name in (recorder.RUNS, recorder.CURVES)]


def test_an_interrupted_recording_goes_on_to_the_same_tables(recorder, folder: Path, tmp_path: Path) -> None:
    asked, names = recorder.question("digits", SHORT), []

    def until_the_sixth(run):
        if len(names) == 5:
            raise KeyboardInterrupt
        names.append(recorder.row_id(run))
        return recorder.train(run)

    with pytest.raises(KeyboardInterrupt):
        recorder.record(recorder.Tables.read(tmp_path), asked, 2, 2, until_the_sixth)
    tables = recorder.Tables.read(tmp_path)
    assert sorted(tables.rows) == sorted(names)
    assert recorder.record(tables, asked, 2, 2) == 12 - 5
    whole = recorder.Tables.read(folder)
    assert shown(recorder.Tables.read(tmp_path).rows) == shown(whole.rows)


def test_a_run_whose_curve_was_lost_is_trained_again(recorder, folder: Path, tmp_path: Path) -> None:
    (tmp_path / recorder.RUNS).write_bytes((folder / recorder.RUNS).read_bytes())
    assert recorder.Tables.read(tmp_path).rows == {}


def test_another_horizon_in_the_same_folder_is_refused(recorder, folder: Path, capsys) -> None:
    assert recorder.main(words(folder, epochs=4)) == 2
    said = capsys.readouterr().err
    assert "is 54 steps of" in said
    assert "expected 72 steps of" in said
    assert "Name another folder" in said


def test_a_wrong_name_or_horizon_is_refused(recorder, tmp_path: Path, capsys) -> None:
    assert recorder.main([str(tmp_path), "--workloads", "digit"]) == 2
    assert recorder.main([str(tmp_path), "--horizon", "chars"]) == 2
    said = capsys.readouterr().err
    assert "'digit'; expected some of digits, chars" in said
    assert "expected NAME=AMOUNT" in said


def test_an_arm_without_a_decaying_schedule_is_refused(recorder) -> None:
    arm = recorder.question("digits", SHORT).spec.arms[0]
    kept = [replace(d, choices={"constant": 1}) if d.name == "schedule.kind" else d for d in arm.all_dimensions]
    with pytest.raises(InputError, match="expected one of the schedules cosine, wsd, linear"):
        recorder.decaying(replace(arm, all_dimensions=tuple(kept)))


def test_a_run_that_diverged_at_once_is_recorded_with_its_horizon(recorder, tmp_path: Path) -> None:
    asked = recorder.question("digits", SHORT)
    tables, run = recorder.Tables(tmp_path), next(recorder.searched(asked, 1))
    tables.rows[recorder.row_id(run)], points = recorder.row(asked.spec, run, RunResult(Outcome.DIVERGED, step=2))
    tables.save()
    (back,) = recorder.Tables.read(tmp_path).rows.values()
    assert (back.outcome, back.value, back.horizon, points) == (Outcome.DIVERGED, None, 18, ())


def test_a_run_that_fails_stops_the_recording(recorder) -> None:
    run = next(recorder.searched(recorder.question("digits", SHORT), 1))
    with pytest.raises(RuntimeError, match=r"digits\.sgdm\.0000\.explore\.r0.* failed"):
        recorder.train(replace(run, metric="nothing of that name"))


def test_the_shipped_tables_are_complete(recorder) -> None:
    shipped = BENCHMARKS / "recorded"
    assert all((shipped / name).stat().st_size < 300_000 for name in (recorder.RUNS, recorder.CURVES))
    rows = read_runs(shipped / recorder.RUNS)
    curves = read_curves(shipped / recorder.CURVES, rows)
    assert all(row.run_id in curves or row.outcome is not Outcome.COMPLETED for row in rows)
    for study, (short, middle, full) in {"digits": (36, 108, 324), "chars": (50, 150, 450)}.items():
        mine = [row for row in rows if row.study == study]
        count = recorder.WORKLOADS[study].settings
        explored = Counter((row.arm, row.horizon) for row in mine if row.phase is Phase.EXPLORE)
        assert explored == {(arm, h): count for arm in ("sgdm", "adamw") for h in (short, middle, full)}
        fresh = Counter((row.arm, row.horizon) for row in mine if row.phase is Phase.CONFIRM)
        assert fresh == {(arm, full): recorder.CONFIRM_SEEDS for arm in ("sgdm", "adamw")}
