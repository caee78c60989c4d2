"""Reads the runs of an MLflow experiment as recorded runs; nothing is written.

A mapping says which param, tag or metric is the arm, the seed and the value. An experiment that tuner's own mirror
wrote needs none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.config.space import SCHEDULE
from tuner.core.errors import InputError
from tuner.core.records import Outcome
from tuner.core.settings import hide_secrets
from tuner.recorded.from_ledger import without_repeats
from tuner.recorded.mapping import Columns, TrackedRun, curves_of, json_of, read_mapping, recorded_runs
from tuner.recorded.rows import PHASES, Curves, RecordedRun, param_name
from tuner.recorded.to_records import studies_of
from tuner.study_records import StudyRecords
from tuner.tracking import pages, places
from tuner.tracking.mlflow_client import connect

_OURS = {
    "run_id": f"tags.{pages.RUN_TAG}",
    "study": f"tags.{pages.STUDY_TAG}",
    "arm": "tags.arm",
    "seed": "tags.seed",
    "phase": "tags.phase",
    "outcome": "tags.outcome",
    "sampler": "tags.source",
    "value": "metrics.value",
    "seconds": "metrics.train_seconds",
    "schedule": "attributes.schedule",
    "horizon": "attributes.horizon",
}
_ENDED = {outcome.value for outcome in Outcome}


def studies_in_experiment(
    name: str, uri: str, mapping: Path | None, alpha: float, min_effect: float | None
) -> tuple[StudyRecords, ...]:
    """Return the studies of an experiment, in the order of their names.

    Args:
        name: the experiment; see :func:`read_experiment`.
        uri: MLflow's tracking URI.
        mapping: a YAML file that says which param, tag or metric is what; None for experiments of tuner's mirror.
        alpha: the error rate of each study's verdict.
        min_effect: the smallest difference that matters, in the metric's unit; None derives it from the seed noise.

    Raises:
        InputError: tracking is ``none``, the mapping is wrong, or the experiment cannot be read.
    """
    if uri == "none":
        raise InputError("tracking is 'none'; expected an MLflow tracking URI. Give one with --tracking.")
    rows, points = read_experiment(name, uri, read_mapping(mapping) if mapping else None)
    return studies_of(rows, points, source=f"MLflow experiment {name}", alpha=alpha, min_effect=min_effect)


def read_experiment(name: str, uri: str, mapping: Columns | None) -> tuple[tuple[RecordedRun, ...], Curves]:
    """Return the recorded runs of an experiment and their curves.

    Args:
        name: the experiment; if MLflow has none of that name, all experiments whose names begin with ``name/``.
        uri: MLflow's tracking URI.
        mapping: where the columns of a recorded run are in a run of MLflow; None for experiments of tuner's mirror.

    Raises:
        InputError: MLflow cannot be read or has no such experiment, no run of it has ended, or its runs do not fit
            the mapping.
    """
    client = connect(places.check(uri))
    try:
        experiments = _experiments(client, name)
        runs_by_title = {e.name: list(_runs(client, e.experiment_id)) for e in experiments}
    except Exception as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"MLflow at {hide_secrets(uri)} did not answer: {type(error).__name__}: {error}") from error
    if not experiments:
        titles = ", ".join(sorted(e.name for e in client.search_experiments(max_results=50))) or "none"
        raise InputError(f"MLflow at {hide_secrets(uri)} has no experiment {name!r}; expected one of: {titles}.")
    rows: list[RecordedRun] = []
    curves: dict[str, Any] = {}
    for title, runs in runs_by_title.items():
        more, points = _mirrored(client, title, runs) if mapping is None else _mapped(client, title, runs, mapping)
        rows += more
        curves |= points
    if not rows:
        raise InputError(f"MLflow experiment {name!r} has no run that has ended; expected at least one.")
    return tuple(rows), curves


def _experiments(client: Any, name: str) -> list[Any]:
    exact = client.get_experiment_by_name(name)
    if exact is not None:
        return [exact]
    below = [e for e in client.search_experiments() if e.name.startswith(f"{name}/")]
    return sorted(below, key=lambda experiment: str(experiment.name))


def _runs(client: Any, experiment: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, order_by=["attributes.run_id"], page_token=token)
        yield from page
        if not (token := page.token):
            return


def _tracked(run: Any) -> TrackedRun:
    info, data = run.info, run.data
    seconds = repr((info.end_time - info.start_time) / 1000) if info.end_time and info.start_time else ""
    attributes = {"run_id": info.run_id, "run_name": info.run_name or "", "status": info.status, "seconds": seconds}
    return TrackedRun(attributes, dict(data.params), dict(data.tags), dict(data.metrics))


def _mapped(client: Any, title: str, runs: Iterable[Any], mapping: Columns) -> tuple[Sequence[RecordedRun], Curves]:
    tracked, rows = recorded_runs([_tracked(run) for run in runs], mapping, title, f"MLflow experiment {title!r}")
    if mapping.curve is None:
        return rows, {}
    ids = {row.run_id: run.run_id for row, run in zip(rows, tracked, strict=True)}
    return rows, curves_of({row: _history(client, run, mapping.curve) for row, run in ids.items()}, rows)


def _mirrored(client: Any, title: str, runs: Iterable[Any]) -> tuple[Sequence[RecordedRun], Curves]:
    """Recorded runs of tuner's mirror: a study's parent run names its metric, each child run has the rest."""
    parents: dict[str, TrackedRun] = {}
    children: dict[str, list[TrackedRun]] = {}
    for run in map(_tracked, runs):
        ledger = run.tags.get(pages.LEDGER_TAG, "")
        if pages.RUN_TAG in run.tags:
            children.setdefault(ledger, []).append(run)
        elif pages.STUDY_TAG in run.tags:
            parents[ledger] = run
    if not children:
        raise InputError(
            f"MLflow experiment {title!r} was not written by tuner; expected a mapping that says which param, tag or "
            "metric is the arm, the seed and the value. Give one with --mapping FILE."
        )
    rows: list[RecordedRun] = []
    curves: dict[str, Any] = {}
    for number, ledger in enumerate(sorted(set(children) & set(parents))):
        more, points = _study(client, title, parents[ledger], children[ledger])
        mark = f" ({number + 1})" if number else ""  # a study of the same name from another ledger
        rows += [replace(row, study=row.study + mark, run_id=row.run_id + mark) for row in more]
        curves |= {run_id + mark: curve for run_id, curve in points.items()}
    return rows, curves


def _study(
    client: Any, title: str, parent: TrackedRun, runs: Sequence[TrackedRun]
) -> tuple[Sequence[RecordedRun], Curves]:
    metric = parent.params.get("metric", "value")
    mapping = Columns({**_OURS, "direction": parent.params.get("direction", ""), "metric": metric})
    ended = [_unfolded(run) for run in runs if run.tags.get("phase") in PHASES and run.tags.get("outcome") in _ENDED]
    tracked, recorded = recorded_runs(ended, mapping, title, f"MLflow experiment {title!r}")
    rows = without_repeats(recorded)
    ids = {run.tags[pages.RUN_TAG]: run.run_id for run in tracked}
    key = f"measured.{metric}" if metric in pages.RESERVED else pages.clean(metric)
    return rows, curves_of({row.run_id: _history(client, ids[row.run_id], key) for row in rows}, rows)


def _unfolded(run: TrackedRun) -> TrackedRun:
    """The run with the mirror's params taken apart: the settings, the schedule as JSON, the horizon as a number."""
    timing = {k.removeprefix(SCHEDULE): v for k, v in run.params.items() if k.startswith(SCHEDULE)}
    others = {k: v for k, v in run.params.items() if k not in ("family", "horizon") and not k.startswith(SCHEDULE)}
    rest = {param_name(k): v for k, v in others.items()}
    horizon = run.params.get("horizon", "").partition(" ")[0]
    return replace(run, params=rest, attributes={**run.attributes, "schedule": json_of(timing), "horizon": horizon})


def _history(client: Any, run_id: str, metric: str) -> list[tuple[int, float, float]]:
    """A metric's values in order: step, value, seconds since the first one."""
    points = client.get_metric_history(run_id, metric)
    start = min((point.timestamp for point in points), default=0)
    points = sorted(points, key=lambda point: (point.step, point.timestamp))
    return [(point.step, point.value, (point.timestamp - start) / 1000) for point in points]
