"""Tables of recorded runs for tests: rows as dicts, written as CSV, and the evidence that follows from them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import Evidence, Nothing
from tuner.recorded.csv_reading import read_runs
from tuner.recorded.to_records import studies_of
from tuner.study_records import StudyRecords

Rows = list[dict[str, Any]]


def row(run_id: str, arm: str, seed: int, value: Any, phase: str = "confirm", **more: Any) -> dict[str, Any]:
    plain = {"run_id": run_id, "arm": arm, "seed": seed, "phase": phase, "outcome": "completed"}
    return {**plain, "direction": "maximize", "value": value, **more}


def confirmed(values: Mapping[str, Sequence[Any]], **more: Any) -> Rows:
    """One setting per arm, confirmed on seeds from 100; None skips a seed, a text is an outcome without a value."""
    rows = []
    for arm, scores in values.items():
        for i, value in enumerate(scores):
            if isinstance(value, str):
                rows.append(row(f"{arm}-c{i}", arm, 100 + i, "", outcome=value, **more))
            elif value is not None:
                rows.append(row(f"{arm}-c{i}", arm, 100 + i, value, **more))
    return rows


def explored(values: Mapping[str, Sequence[Any]], **more: Any) -> Rows:
    """Settings lr = 1, 2, ... of each arm with seed 1."""
    return [
        row(f"{arm}-e{i}", arm, 1, value, "explore", **{"param.lr": i + 1, **more})
        for arm, scores in values.items()
        for i, value in enumerate(scores)
    ]


def text(rows: Rows, columns: Sequence[str] | None = None) -> str:
    names = list(columns or dict.fromkeys(name for cells in rows for name in cells))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write(folder: Path, rows: Rows, name: str = "runs.csv", columns: Sequence[str] | None = None) -> Path:
    path = folder / name
    path.write_text(text(rows, columns))
    return path


def studies(folder: Path, rows: Rows, columns: Sequence[str] | None = None, **options: Any) -> tuple[StudyRecords, ...]:
    return studies_of(read_runs(write(folder, rows, columns=columns)), source="runs.csv", **options)


def answer(folder: Path, rows: Rows, **options: Any) -> Evidence:
    answered = answers(folder, rows, **options)
    assert len(answered) == 1
    assert isinstance(answered[0], Evidence)
    return answered[0]


def answers(folder: Path, rows: Rows, **options: Any) -> list[Evidence | Nothing]:
    return [Analysis(study).answer for study in studies(folder, rows, **options)]


def codes(evidence: Evidence) -> set[str]:
    return {caveat.code for caveat in evidence.caveats}
