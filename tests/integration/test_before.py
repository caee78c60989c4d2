"""Databases that an earlier layout of the code made: they resume and extend to what that code came to by itself.

``before/`` holds SQLite files and, as JSON, what their studies held at the end when the same code ran them without a
stop. They were made by commit 4fd98f6, one run at a time (``parallel: 1``), on the toy workload:

- ``ladder``: the default search, with ``recipe:`` and ``current:``; killed in its search, and whole.
- ``full``: TPE in full with a searched training option, a known setting, two recipes, and ``widen: true``; killed.
- ``warm``: starts from ``ladder`` in the same database; killed.

Numbers are compared to seven digits: another processor may train to other last bits.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tuner.cli import main

BEFORE = Path(__file__).parent / "before"
RENAMED = {"recipe": "training"}
"""What a stored setting called a part, and what it calls it now."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def unpacked(name: str) -> str:
    Path("tuner.db").write_bytes(gzip.decompress((BEFORE / f"{name}.db.gz").read_bytes()))
    return "sqlite:///tuner.db"


def expected(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(gzip.decompress((BEFORE / f"{name}.json.gz").read_bytes()))
    return document


def tuner(*arguments: str) -> str:
    done = CliRunner().invoke(main, [*arguments, "--tracking", "none"])
    assert done.exit_code == 0, done.output
    return done.output


def ledger() -> dict[str, Any]:
    """What the database holds: trials, runs with their measurements, Optuna's trials; without times."""
    connection = sqlite3.connect("tuner.db")
    connection.row_factory = sqlite3.Row
    studies = {study["name"]: _study(connection, study) for study in connection.execute("select * from tuner_studies")}
    optuna = {row["study_name"]: _optuna(connection, row["study_id"]) for row in connection.execute(_STUDIES)}
    connection.close()
    return {"studies": studies, "optuna": optuna}


_STUDIES = "select study_id, study_name from studies"


def _study(connection: sqlite3.Connection, study: sqlite3.Row) -> dict[str, Any]:
    where = (study["id"],)
    trials = connection.execute("select * from tuner_trials where study_id = ? order by arm, number", where).fetchall()
    runs = connection.execute("select * from tuner_runs where study_id = ? order by id", where).fetchall()
    return {
        "state": study["state"],
        "trials": [
            {
                **{key: row[key] for key in ("arm", "number", "source", "optuna_number")},
                **{key: json.loads(row[key]) for key in ("setting", "coordinates")},
            }
            for row in trials
        ],
        "runs": [_run(connection, row) for row in runs],
    }


def _run(connection: sqlite3.Connection, run: sqlite3.Row) -> dict[str, Any]:
    spec = json.loads(run["spec"])
    curve = connection.execute("select * from tuner_measurements where run = ? order by step", (run["id"],))
    return {
        **{key: spec[key] for key in ("phase", "seed", "rung", "horizon")},
        **{key: run[key] for key in ("run_id", "state", "outcome", "value", "step")},
        "measured": [[row["step"], json.loads(row["metrics"])] for row in curve],
    }


def _optuna(connection: sqlite3.Connection, study: int) -> list[dict[str, Any]]:
    rows = connection.execute("select * from trials where study_id = ? order by number", (study,)).fetchall()
    values = dict(connection.execute("select trial_id, value from trial_values").fetchall())
    params: dict[int, dict[str, float]] = {}
    for key, name, value in connection.execute("select trial_id, param_name, param_value from trial_params"):
        params.setdefault(key, {})[name] = value
    return [
        {
            "number": row["number"],
            "state": row["state"],
            "value": values.get(row["trial_id"]),
            "params": params.get(row["trial_id"], {}),
        }
        for row in rows
    ]


def alike(new: Any, old: Any, place: str = "") -> None:
    """Hold what the database holds now against what it held: the same names, the same numbers to seven digits."""
    if isinstance(old, Mapping):
        names = {_renamed(key): key for key in old}
        assert {_renamed(key) for key in new} == set(names), place
        for key, value in new.items():
            alike(value, old[names[_renamed(key)]], f"{place}/{key}")
    elif isinstance(old, list):
        assert len(new) == len(old), place
        for index, (one, other) in enumerate(zip(new, old, strict=True)):
            alike(one, other, f"{place}/{index}")
    elif isinstance(old, float):
        assert new == pytest.approx(old, rel=1e-7), place
    else:
        assert new == old, place


def _renamed(key: str) -> str:
    head, dot, rest = key.partition(".")
    return RENAMED.get(head, head) + dot + rest


def held(name: str, study: str) -> tuple[Any, Any]:
    """A study and its arms' Optuna studies, of now and of then."""
    now, then = ledger(), expected(name)
    for side in (now, then):
        side["optuna"] = {key: rows for key, rows in side["optuna"].items() if key.partition("/")[0] == study}
        side["studies"] = {study: {key: value for key, value in side["studies"][study].items() if key != "spec"}}
    return now, then


@pytest.mark.parametrize("study", ["ladder", "full", "warm"])
def test_a_killed_study_resumes_to_what_it_would_have_been(study: str) -> None:
    unpacked(f"{study}-killed")
    tuner("resume", study)
    alike(*held(f"{study}-whole", study))


def test_a_finished_study_extends_as_it_would_have() -> None:
    unpacked("ladder-whole")
    tuner("extend", "ladder", "--trials", "2", "--seeds", "10")
    alike(*held("ladder-extended", "ladder"))


def test_what_a_finished_study_says() -> None:
    unpacked("ladder-whole")
    (study,) = json.loads(tuner("recommend", "ladder", "--json"))["studies"]
    assert (study["verdict"]["kind"], study["recommended"]["arm"]) == ("winner", "sgdm")
    assert study["pairs"][0]["difference"] == pytest.approx(-0.049141, rel=1e-4)
    assert study["recommended"]["recipe"]["clip_norm"] == 1.0
