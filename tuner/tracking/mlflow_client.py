"""The only module that talks to MLflow: one study's experiment there, and the runs in it, found and written.

What is shown, and when, is decided in :mod:`tuner.tracking.mlflow_runs`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.tracking import pages, places, view
from tuner.tracking.pages import Point

_METRICS, _PARAMS, _TAGS = 800, 100, 100
"""The most of each in one request: MLflow takes 1,000 in all, of them 100 params and 100 tags."""
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(slots=True)
class ShownRun:
    """A run as MLflow has it, as far as the mirror must know; ``start`` is in milliseconds since the epoch."""

    id: str
    start: int
    status: str
    params: set[str] = field(default_factory=set)
    steps: set[int] = field(default_factory=set)


def connect(uri: str) -> Any:
    """Return a client that prints nothing, sends no telemetry, and never repeats a request.

    MLflow's own second try of a request whose answer was lost would create a run twice. The mirror tries again too, but
    looks for the run first.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    if (path := places.sqlite_file(uri)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


class StudyExperiment:
    """A study in MLflow: the experiment ``tuner/<study>``, a parent run for the study, and a child run for each run.

    There is one experiment for each study, because an experiment is what MLflow compares: its table and its charts show
    the params and metrics of all its runs, and two studies share neither workload nor metric. A study of the same
    name from another ledger shares the experiment; the tag ``mark`` tells the two apart.

    Args:
        uri: MLflow's tracking URI.
        study: the study's name.
        mark: what the tag of the ledger says on this study's runs.
    """

    def __init__(self, uri: str, study: str, mark: str) -> None:
        self._client = connect(uri)
        self._mark = mark
        self.id = self._open(f"tuner/{study}", places.artifact_folder(uri), study)
        self.runs: dict[str, ShownRun] = {}
        """The runs by the ledger's run ids; the parent is under the empty one."""
        self._attached: dict[Path, tuple[int, int]] = {}
        self._find_runs()

    @property
    def parent(self) -> ShownRun | None:
        return self.runs.get("")

    def _open(self, name: str, artifacts: Path | None, study: str) -> str:
        """Create the experiment, or restore one that was deleted; return its id."""
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = (artifacts / study).as_uri() if artifacts else None
            return str(self._client.create_experiment(name, location, {view.KIND_TAG: view.KIND}))
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _find_runs(self) -> None:
        for run in self._search():
            key = run.data.tags.get(pages.RUN_TAG, "")
            if key in self.runs:  # two mirrors wrote at once, or a request arrived after its time-out
                self._client.delete_run(run.info.run_id)
                continue
            self.runs[key] = ShownRun(run.info.run_id, run.info.start_time, run.info.status, set(run.data.params))

    def _search(self) -> Iterator[Any]:
        token = None
        while True:
            page = self._client.search_runs(
                [self.id],
                filter_string=f"tags.`{pages.LEDGER_TAG}` = '{self._mark}'",
                max_results=1000,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            yield from page
            if not (token := page.token):
                return

    def create(self, run_id: str, name: str, started: float, tags: Mapping[str, str]) -> ShownRun:
        """Create a run that began at ``started`` seconds since the epoch; an empty ``run_id`` is the parent's."""
        start, all_tags = round(started * 1000), {**tags, pages.LEDGER_TAG: self._mark}
        run = self._client.create_run(self.id, start_time=start, tags=all_tags, run_name=name)
        self.runs[run_id] = ShownRun(run.info.run_id, start, "RUNNING")
        return self.runs[run_id]

    def log(self, run: ShownRun, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Add metrics, the params that the run lacks, and tags, in requests of the size that MLflow takes."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.key, p.value, run.start + round(p.seconds * 1000), p.step) for p in points]
        new_params = [Param(key, value) for key, value in params.items() if key not in run.params]
        all_tags = [RunTag(key, value) for key, value in tags.items()]
        sizes = ((metrics, _METRICS), (new_params, _PARAMS), (all_tags, _TAGS))
        for part in range(max(-(-len(rows) // size) for rows, size in sizes)):
            chunks = [rows[part * size : (part + 1) * size] for rows, size in sizes]
            self._client.log_batch(run.id, *chunks)
        run.params.update(params)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment."""
        for key, value in tags.items():
            self._client.set_experiment_tag(self.id, key, value)

    def set_status(self, run: ShownRun, status: str, ended: float | None) -> None:
        """Set a run's status, and its end in seconds since the epoch if it has ended."""
        if ended is not None:
            self._client.set_terminated(run.id, status, max(run.start, round(ended * 1000)))
        elif run.status != status:
            self._client.update_run(run.id, status)
        run.status = status

    def attach(self, run: ShownRun, path: Path) -> None:
        """Upload a file if it exists and has changed since its last upload."""
        if not path.is_file():
            return
        version = (path.stat().st_mtime_ns, path.stat().st_size)
        if self._attached.get(path) != version:
            self._client.log_artifact(run.id, str(path))
            self._attached[path] = version
