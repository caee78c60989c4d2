"""Maps params, tags and metrics of a tracked run to the columns of a recorded run; MLflow is not imported here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.config.documents import Section, read_yaml
from tuner.config.space import from_stored_axis, to_stored_axis
from tuner.core.records import Outcome
from tuner.core.values import Scalar
from tuner.recorded.cells import Row
from tuner.recorded.csv_reading import PARAM, checked_runs
from tuner.recorded.rows import Curves, RecordedPoint, RecordedRun, param_name

PLACES = ("params", "tags", "metrics", "attributes")
KEYS = ("arm", "seed", "value", "direction", "run_id", "study", "phase", "outcome", "metric", "schedule", "horizon")
MORE_KEYS = ("seconds", "sampler")
ALL = "params.*"
_LARGEST = 1e308
"""MLflow stores an infinity as the largest float."""
_OUTCOMES = {"FINISHED": Outcome.COMPLETED, "FAILED": Outcome.FAILED, "KILLED": Outcome.LOST}
"""The outcome of a run's status, if the mapping names no outcome; a run with another status has not ended."""


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as a tracker shows it. ``attributes`` are run_id, run_name, status and seconds, as texts."""

    attributes: Mapping[str, str]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def run_id(self) -> str:
        return self.attributes["run_id"]

    def at(self, reference: str) -> str:
        """Return what stands at ``params.NAME``, ``tags.NAME``, ``metrics.NAME`` or ``attributes.NAME``, as text.

        Anything else is a text that is meant as it stands; what is not there is empty. Of training options, both names
        are looked up (``training.NAME`` and the older ``recipe.NAME``).
        """
        place, dot, name = reference.partition(".")
        if not dot or place not in PLACES:
            return reference
        if place == "metrics":
            value = self.metrics.get(name)
            return "" if value is None else repr(value if abs(value) < _LARGEST else math.copysign(math.inf, value))
        values: Mapping[str, str] = getattr(self, place)
        return values.get(name) or values.get(to_stored_axis(name)) or values.get(from_stored_axis(name), "")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where each column is in a run, as a reference for :meth:`TrackedRun.at`.

    ``params`` refers to the settings; ``ALL`` means all params that no column uses.
    """

    columns: Mapping[str, str]
    params: tuple[str, ...] = (ALL,)

    @property
    def curve(self) -> str | None:
        """The metric whose history is the curve; None if the value is not a metric."""
        place, _, name = self.columns["value"].partition(".")
        return name if place == "metrics" else None


DEFAULTS = {
    "run_id": "attributes.run_id",
    "phase": "explore",
    "outcome": "",
    "seconds": "attributes.seconds",
    "seed": "params.seed",
}


def read_mapping(path: Path) -> Columns:
    """Read a mapping from a YAML file.

    Raises:
        InputError: a key is unknown or missing, or a value is not a text; with file, line and key.
    """
    section = read_yaml(path)
    columns: dict[str, str] = dict(DEFAULTS)
    for key in (*KEYS, *MORE_KEYS):
        given = section.take(key, None)
        if given is not None and not isinstance(given, str):
            raise section.error(key, f"is {given!r}", "a text, such as params.lr, tags.phase or metrics.val_loss")
        if given:
            columns[key] = given
    for key in ("arm", "value", "direction"):
        if key not in columns:
            section.take(key)
    params = section.take("params", [ALL])
    if isinstance(params, str):
        params = [params]
    _check_params(section, params)
    section.finish()
    columns.setdefault("metric", columns["value"].partition(".")[2] or "value")
    return Columns(columns, tuple(params))


def _check_params(section: Section, params: object) -> None:
    valid = isinstance(params, list) and all(isinstance(p, str) and p.startswith(("params.", "tags.")) for p in params)
    if not valid:
        raise section.error("params", f"is {params!r}", "a list such as [params.lr, params.momentum], or params.*")


def recorded_runs(
    runs: Sequence[TrackedRun], mapping: Columns, study: str, place: str
) -> tuple[list[TrackedRun], tuple[RecordedRun, ...]]:
    """Return the runs that have ended and have an arm or a value, and beside them their recorded runs.

    Args:
        runs: the tracker's runs.
        mapping: where the columns are in them.
        study: the study of runs that name none.
        place: what error messages call the collection of runs.

    Raises:
        InputError: as :func:`tuner.recorded.csv_reading.read_runs`, with place and run id instead of file and line.
    """
    kept: list[TrackedRun] = []
    rows: list[Row] = []
    for run in runs:
        cells = _cells(run, mapping)
        if cells is not None:
            kept.append(run)
            rows.append(Row(cells, f"{place}, run {run.run_id}"))
    return kept, checked_runs(rows, study)


def _cells(run: TrackedRun, mapping: Columns) -> dict[str, str] | None:
    """The run as a row of a table; None if it has not ended, or has neither an arm nor a value."""
    cells = {column: run.at(reference).strip() for column, reference in mapping.columns.items()}
    if not cells["arm"] and not cells["value"]:
        return None
    outcome = cells["outcome"] or _outcome(run.attributes["status"], cells["value"])
    if not outcome:
        return None
    params = _params(run, mapping)
    return {**cells, "outcome": outcome, **{PARAM + name: value for name, value in params.items()}}


def _outcome(status: str, value: str) -> str:
    """The outcome of a status; a finished run whose metric is NaN or infinite diverged. Empty if it has not ended."""
    if status not in _OUTCOMES:
        return ""
    if status == "FINISHED" and value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return Outcome.DIVERGED.value
    return _OUTCOMES[status].value


def _params(run: TrackedRun, mapping: Columns) -> dict[str, str]:
    taken = set(mapping.columns.values())
    found: dict[str, str] = {}
    for reference in mapping.params:
        if reference == ALL:
            rest = {k: v for k, v in run.params.items() if f"params.{k}" not in taken}
            found.update(rest)
        else:
            found[param_name(reference.partition(".")[2])] = run.at(reference)
    return {name: value for name, value in found.items() if value != "None"}


def curves_of(histories: Mapping[str, Iterable[tuple[int, float, float]]], runs: Iterable[RecordedRun]) -> Curves:
    """Return the curves of recorded runs with at least two points.

    Args:
        histories: for each run id the points (step, value, seconds); of a step that was logged twice the last counts.
        runs: the recorded runs. A run that completed has only finite values; in others NaN stands for the rest.
    """
    completed = {run.run_id: run.outcome is Outcome.COMPLETED for run in runs}
    curves: dict[str, tuple[RecordedPoint, ...]] = {}
    for run_id, points in histories.items():
        last = {step: (value, seconds) for step, value, seconds in points if step >= 0}
        kept = [
            RecordedPoint(step, value if _finite(value) else math.nan, seconds)
            for step, (value, seconds) in sorted(last.items())
            if _finite(value) or not completed.get(run_id, False)
        ]
        if len(kept) > 1:
            curves[run_id] = tuple(kept)
    return curves


def _finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) < _LARGEST


def json_of(texts: Mapping[str, str]) -> str:
    """Return a JSON object of values that were stored as texts; what reads as a number becomes one."""
    values: dict[str, Scalar | None] = {name: Row({name: text}, "").scalar(name) for name, text in texts.items()}
    return json.dumps(values)
