"""Tables of runs and curves: what is read, what is written, what is refused, and the place that an error names."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_tables import row, text, write

from tuner.core.errors import InputError
from tuner.core.records import Outcome, Phase
from tuner.recorded.csv_reading import read_curves, read_runs
from tuner.recorded.csv_writing import write_curves, write_runs
from tuner.recorded.rows import RecordedPoint, RecordedRun

A, B = row("r1", "a", 1, 0.5), row("r2", "b", 1, 0.6)


def refused(folder: Path, *rows: dict[str, Any]) -> str:
    with pytest.raises(InputError) as error:
        read_runs(write(folder, list(rows)))
    return str(error.value)


class TestRuns:
    def test_a_row_with_everything(self, tmp_path: Path) -> None:
        more = {
            "study": "s",
            "metric": "accuracy",
            "schedule": '{"kind": "wsd", "warmup": 0.1}',
            "horizon": 100,
            "seconds": 2.5,
            "params": '{"betas": [0.9, 0.99], "fused": true, "none": null, "lr": 0.1}',
            "param.lr": "1e-1",
            "param.name": "x",
            "sampler": "sobol",
        }
        (run,) = read_runs(write(tmp_path, [row("r1", "a", 1, 0.5, "explore", **more)]))
        assert run == RecordedRun(
            "r1",
            "a",
            1,
            Phase.EXPLORE,
            Outcome.COMPLETED,
            "maximize",
            0.5,
            study="s",
            metric="accuracy",
            params={"betas": "[0.9, 0.99]", "fused": True, "lr": 0.1, "name": "x"},
            schedule={"kind": "wsd", "warmup": 0.1},
            horizon=100.0,
            seconds=2.5,
            sampler="sobol",
        )

    def test_the_study_is_named_like_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.csv.gz"
        path.write_bytes(gzip.compress(text([A]).encode()))
        assert [run.study for run in read_runs(path)] == ["mine"]

    @pytest.mark.parametrize(
        ("cells", "outcome"),
        [
            ({"outcome": ""}, Outcome.COMPLETED),
            ({"outcome": "diverged", "value": "nan"}, Outcome.DIVERGED),
            ({"outcome": "failed", "value": ""}, Outcome.FAILED),
            ({"outcome": "pruned", "value": "0.4"}, Outcome.PRUNED),
            ({"outcome": "lost", "value": "inf"}, Outcome.LOST),
        ],
    )
    def test_what_did_not_complete_has_no_value(self, tmp_path: Path, cells: dict[str, str], outcome: Outcome) -> None:
        (run,) = read_runs(write(tmp_path, [{**A, **cells}]))
        assert run.outcome is outcome
        assert (run.value is not None) == (outcome is Outcome.COMPLETED)

    def test_numbers_with_a_point_are_whole_all_the_same(self, tmp_path: Path) -> None:
        one, other = read_runs(
            write(tmp_path, [{**A, "param.n": "3"}, {**B, "arm": "a", "seed": "2.0", "param.n": "3.0"}])
        )
        assert one.setting == other.setting
        assert other.seed == 2

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"value": "nan"}, "value is 'nan' for a completed run; expected a finite number"),
            ({"value": "", "outcome": ""}, "value is empty for a run without an outcome; expected a finite number"),
            ({"value": "high"}, "value is 'high'; expected a number"),
            ({"outcome": "done"}, "outcome is 'done'; expected one of completed, pruned, diverged, failed, lost"),
            ({"phase": "test"}, "phase is 'test'; expected one of explore, confirm"),
            ({"direction": "up"}, "direction is 'up'; expected one of maximize, minimize"),
            ({"seed": "1.5"}, "seed is '1.5'; expected a whole number"),
            ({"seed": ""}, "seed is ''; expected a whole number"),
            ({"arm": " "}, "arm is empty; expected a name"),
            ({"run_id": "r1"}, "run_id is 'r1', as in line 2; expected one row for each run"),
            ({"horizon": "0"}, "horizon is '0'; expected a finite number above 0"),
            ({"seconds": "-1"}, "seconds is '-1'; expected a finite number of at least 0"),
            ({"param.lr": "inf"}, "param.lr is 'inf'; expected a finite number"),
            ({"params": "{1"}, "params is '{1', which is no JSON"),
            ({"params": "[1]"}, "params is '[1]'; expected a JSON object"),
            ({"params": '{"lr": NaN}'}, "which is no JSON (NaN is no number of JSON)"),
            ({"params": '{"lr": 0.1}', "param.lr": "0.2"}, "param.lr is 0.2, but params says 0.1; expected the same"),
            ({"params": f'{{"lr": 1{"0" * 400}}}'}, "0...; expected a number that a float can hold"),
            ({"params": f'{{"lr": 1{"0" * 400}}}'}, ":3: params.lr is 1"),
            ({"schedule": '{"warmup": 1}'}, 'expected a name, or a JSON object with a name under "kind"'),
        ],
    )
    def test_a_wrong_cell_is_named(self, tmp_path: Path, change: dict[str, str], message: str) -> None:
        error = refused(tmp_path, A, {**B, **change})
        assert error.startswith(f"{tmp_path / 'runs.csv'}:3: ")
        assert message in error

    @pytest.mark.parametrize(
        ("first", "second", "message"),
        [
            ({}, {"direction": "minimize"}, "direction is 'minimize', but 'maximize' in line 2; expected the same"),
            ({"metric": "a"}, {"metric": "b"}, "metric is 'b', but 'a' in line 2"),
            ({}, {"arm": "a"}, "seed is 1, and arm, schedule, params, phase and seed are those of 'r1' (in line 2)"),
            ({"horizon": 5}, {"horizon": ""}, "horizon is empty; expected one in all runs"),
            ({"horizon": 5}, {"horizon": 6}, "horizon is 6.0, but 5.0 in line 2; expected the same in all runs of"),
            (
                {"phase": "explore", "sampler": "random"},
                {"phase": "explore", "sampler": "tpe", "arm": "a", "seed": 2},
                "sampler is 'tpe', but 'random' in line 2",
            ),
        ],
    )
    def test_rows_that_contradict_each_other(
        self, tmp_path: Path, first: dict[str, Any], second: dict[str, Any], message: str
    ) -> None:
        error = refused(tmp_path, {**A, **first}, {**B, **second})
        assert error.startswith(f"{tmp_path / 'runs.csv'}:3: ")
        assert message in error

    def test_two_studies_may_differ(self, tmp_path: Path) -> None:
        rows = [{**A, "study": "x"}, {**A, "run_id": "r2", "study": "y", "direction": "minimize", "metric": "loss"}]
        assert len(read_runs(write(tmp_path, rows))) == 2

    def test_lines_are_those_of_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "runs.csv"
        path.write_text(text([{**A, "params": '{"a":\n1}'}]) + "\nr3,a,9,explore,completed,maximize,oops,\n")
        with pytest.raises(InputError, match=r"runs.csv:5: value is 'oops'"):
            read_runs(path)

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ("run_id,arm,seed,phase,outcome,direction", ":1: value is missing; expected the columns run_id, arm"),
            (
                "run_id,arm,seed,phase,outcome,direction,value,values",
                "values is no column here; .* Did you mean 'value'",
            ),
            ("run_id,arm,seed,phase,outcome,direction,value,param.", "param. is no column here"),
            ("run_id,arm,arm,seed,phase,outcome,direction,value", "arm is a column twice"),
        ],
    )
    def test_columns(self, tmp_path: Path, columns: str, message: str) -> None:
        path = tmp_path / "runs.csv"
        path.write_text(columns + "\n")
        with pytest.raises(InputError, match=message):
            read_runs(path)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (None, "there is no such file"),
            (b"", "run_id is missing"),
            (text([A]).splitlines()[0].encode(), "holds no run"),
            (b"\x1f\x8bno gzip", "cannot be read as a table"),
            (gzip.compress(b"run_id", mtime=0)[:10] + b"\xff" * 9, "cannot be read as a table: Error -3"),
            (b"\xff\xfe", "cannot be read as a table"),
            (text([A]).encode() + b"r2,b\n", ":3: has 2 cells; expected 7"),
            (text([A]).encode() + b'"r2,b\n', "cannot be read as a table"),
        ],
    )
    def test_a_file_that_is_no_table(self, tmp_path: Path, data: bytes | None, message: str) -> None:
        path = tmp_path / "runs.csv"
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputError, match=re.escape(message)):
            read_runs(path)


class TestCurves:
    def read(self, folder: Path, lines: str, **change: Any) -> Any:
        runs = read_runs(write(folder, [{**A, **change}]))
        path = folder / "curves.csv"
        path.write_text(lines)
        return read_curves(path, runs)

    def test_points_in_any_order(self, tmp_path: Path) -> None:
        curves = self.read(tmp_path, "run_id,step,value,seconds\nr1,20,0.4,2\nr1,10,0.3,1\n")
        assert curves == {"r1": (RecordedPoint(10, 0.3, 1.0), RecordedPoint(20, 0.4, 2.0))}

    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ("r9,1,0.1,", ":2: run_id is 'r9'; expected a run_id of the table of runs"),
            ("r1,-1,0.1,", ":2: step is '-1'; expected a whole number of at least 0"),
            ("r1,1,0.1,\nr1,1,0.2,", ":3: step is 1 for run 'r1', as in line 2; expected each step of a run once"),
            ("r1,1,nan,", ":2: value is 'nan' in run 'r1', which completed; expected a finite number"),
            ("r1,1,0.1,5\nr1,2,0.1,4", ":3: seconds is 4 at step 2, but 5 at step 1"),
        ],
    )
    def test_what_is_refused(self, tmp_path: Path, lines: str, message: str) -> None:
        with pytest.raises(InputError, match=re.escape(message)):
            self.read(tmp_path, f"run_id,step,value,seconds\n{lines}\n")

    def test_a_diverged_run_may_end_in_nan(self, tmp_path: Path) -> None:
        curves = self.read(tmp_path, "run_id,step,value\nr1,1,0.1\nr1,2,nan\n", outcome="diverged", value="")
        assert [point.step for point in curves["r1"]] == [1, 2]


names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=6)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
values = numbers | st.booleans() | names


class TestWriting:
    @given(
        st.lists(st.tuples(names, st.dictionaries(names, values, max_size=3), numbers, names), min_size=1, max_size=4)
    )
    def test_what_is_written_reads_back(self, tmp_path_factory: Any, drawn: list[Any]) -> None:
        folder = tmp_path_factory.mktemp("written")
        rows = [
            RecordedRun(
                f"r{i}",
                arm,
                i,
                Phase.EXPLORE,
                Outcome.COMPLETED,
                "minimize",
                float(value),
                params=params,
                schedule={"kind": kind},
                horizon=10.0,
            )
            for i, (arm, params, value, kind) in enumerate(drawn)
        ]
        write_runs(folder / "r.csv.gz", rows)
        read = read_runs(folder / "r.csv.gz")
        assert [(run.setting, run.value, run.arm) for run in read] == [
            (run.setting, run.value, run.arm) for run in rows
        ]

    def test_the_same_rows_give_the_same_bytes(self, tmp_path: Path) -> None:
        runs = read_runs(write(tmp_path, [A, {**B, "param.lr": 0.123456789, "sampler": "grid"}]))
        for name in ("a.csv.gz", "b.csv.gz"):
            write_runs(tmp_path / name, runs, digits=3)
        assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
        assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).decode().splitlines() == [
            "run_id,arm,seed,phase,outcome,direction,value,study,metric,sampler,param.lr",
            "r1,a,1,confirm,completed,maximize,0.5,runs,value,,",
            "r2,b,1,confirm,completed,maximize,0.6,runs,value,grid,0.123",
        ]

    def test_curves(self, tmp_path: Path) -> None:
        runs = read_runs(write(tmp_path, [A]))
        curves = {"r1": (RecordedPoint(0, 0.1, 0.0), RecordedPoint(5, 1 / 3, 1.5))}
        write_curves(tmp_path / "c.csv", curves)
        assert read_curves(tmp_path / "c.csv", runs) == curves

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"cannot be written: No such file"):
            write_runs(tmp_path / "no" / "r.csv", [])
