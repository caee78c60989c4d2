"""The only door to MLflow: shows one study of a ledger as a parent run with a child run for each run.

What a page says is :mod:`tuner.tracking.pages`', how long the mirror follows is :mod:`tuner.tracking.follow`'s.
Nothing is decided here, and nothing is read back but what is needed to show nothing twice.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.core.records import RunRecord, Source, State
from tuner.core.settings import hide_secrets
from tuner.core.values import digest
from tuner.storage.ledger import Ledger
from tuner.storage.reading import StudyRow
from tuner.tracking import pages, places, view
from tuner.tracking.description import Description, TrackingDown
from tuner.tracking.pages import Page, Point

log = logging.getLogger(__name__)

NOTE_SECONDS = 5.0
"""While runs come in, the parent's note is renewed at most so often."""
_METRICS, _PARAMS, _TAGS = 800, 100, 100
_COMMIT_EVERY = 50
_REFUSED = "INVALID_PARAMETER_VALUE"
_GONE = "RESOURCE_DOES_NOT_EXIST"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(slots=True)
class _Shown:
    """What MLflow holds of one run, as far as the mirror has to know. ``start`` in milliseconds."""

    id: str
    start: int
    status: str
    params: set[str] = field(default_factory=set)
    steps: set[int] = field(default_factory=set)


class MlflowMirror:
    """Shows one study in MLflow, in the experiment ``tuner/<study>``.

    One experiment per study, because an experiment is what MLflow compares: its table's columns and its charts
    are the union of all of its runs' parameters and metrics, and two studies share neither workload nor metric.
    A study of the same name from another ledger shares the experiment, and is told apart by a tag.

    Runs are found by tag, and their values have times that depend on the ledger and the MLflow run's own start alone:
    MLflow drops a value that it has with the same key, step and time, so a pass may be killed anywhere and repeated.
    """

    def __init__(self, ledger: Ledger, study_name: str, tracking_uri: str, describe: Callable[[], Description]) -> None:
        self.ledger = ledger
        self.study = study_name
        self.uri = places.check(tracking_uri)
        self.target = places.target(tracking_uri)
        self.describe = describe
        self._client: Any = None
        self._experiment = ""
        self._shown: dict[str, _Shown] = {}
        self._sources: dict[tuple[str, int], Source] = {}
        self._attached: dict[Path, tuple[int, int]] = {}
        self._described_at = -NOTE_SECONDS
        self._described: tuple[int, str] = (-1, "")
        self._wordless = ""

    # -- passes

    def catch_up(self, *, hurry: bool = False, driven: bool | None = None) -> int:
        """Show what the ledger has and MLflow has not; return how many of the ledger's changes were shown.

        ``hurry`` lets the note lag behind the runs, for a pass among many. ``driven`` says whether a driver is at
        work (None: ask the ledger); an open study that nobody drives is shown as interrupted.

        Raises:
            TrackingDown: MLflow cannot be reached. What it got is not lost; the next pass goes on from there.
        """
        row = self.ledger.study(self.study)
        since = self.ledger.mirrored(row, self.target)
        driven = self.ledger.holder(row) is not None if driven is None else driven
        try:
            return self._pass(row, since, hurry, driven)
        except Exception as error:
            self._forget()
            if isinstance(error, OSError) or type(error).__module__.startswith(("mlflow.", "sqlalchemy.")):
                raise TrackingDown(f"MLflow at {hide_secrets(self.uri)} did not answer: {_cause(error)}") from error
            raise

    def rebuild(self) -> int:
        """Show everything again from the ledger's first change; what is there already stays as it is."""
        self._forget()
        self.ledger.set_mirrored(self.ledger.study(self.study), self.target, 0)
        return self.catch_up()

    def _pass(self, row: StudyRow, since: int, hurry: bool, driven: bool) -> int:
        status = pages.study_status(row.state, driven)
        if self._client is not None and row.revision <= since and self._described == (row.revision, status):
            return 0
        self._open(row)
        parent = self._shown.get("")
        if parent is None:
            since, parent = 0, self._create("", self.study, row.created_at, {pages.STUDY_TAG: self.study}, row)
        done = self._show_changes(row, since, parent)
        if not hurry or done <= since or time.monotonic() - self._described_at >= NOTE_SECONDS:
            self._show_study(row, parent, status)
        if done > since:
            self.ledger.set_mirrored(row, self.target, done)
        return max(done - since, 0)

    def _show_changes(self, row: StudyRow, since: int, parent: _Shown) -> int:
        """Show the runs that changed, and move the cursor now and then, so that a killed pass repeats little."""
        changes = self.ledger.changes(row, since) if row.revision > since else []
        for index, (revision, record) in enumerate(changes):
            self._show_run(row, record, parent)
            last_of_revision = index + 1 < len(changes) and changes[index + 1][0] > revision
            if last_of_revision and (index + 1) % _COMMIT_EVERY == 0:
                self.ledger.set_mirrored(row, self.target, revision)
        return max([row.revision, *(revision for revision, _ in changes)])

    # -- finding

    def _open(self, row: StudyRow) -> None:
        """Connect, and learn once what MLflow holds of this study."""
        if self._client is not None:
            return
        client, name = connect(self.uri), f"tuner/{self.study}"
        found = client.get_experiment_by_name(name)
        if found is None:
            folder = places.artifact_folder(self.uri)
            where = (folder / self.study).as_uri() if folder else None
            self._experiment = str(client.create_experiment(name, where, {view.KIND_TAG: view.KIND}))
        else:
            self._experiment = str(found.experiment_id)
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(self._experiment)
        self._client = client
        for run in self._search(row):
            key = run.data.tags.get(pages.RUN_TAG, "")
            if key in self._shown:  # two mirrors wrote at once, or a request came through after its time-out
                client.delete_run(run.info.run_id)
                continue
            self._shown[key] = _Shown(run.info.run_id, run.info.start_time, run.info.status, set(run.data.params))

    def _search(self, row: StudyRow) -> Iterator[Any]:
        token = None
        while True:
            found = self._client.search_runs(
                [self._experiment],
                filter_string=f"tags.`{pages.LEDGER_TAG}` = '{_ledger_mark(row)}'",
                max_results=1000,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            yield from found
            if not (token := found.token):
                return

    def _forget(self) -> None:
        self._client = None
        self._shown.clear()
        self._attached.clear()
        self._described = (-1, "")

    # -- showing

    def _create(self, key: str, name: str, started: float, tags: Mapping[str, str], row: StudyRow) -> _Shown:
        start, every = round(started * 1000), {**tags, pages.LEDGER_TAG: _ledger_mark(row)}
        run = self._client.create_run(self._experiment, start_time=start, tags=every, run_name=name)
        self._shown[key] = _Shown(run.info.run_id, start, "RUNNING")
        return self._shown[key]

    def _show_run(self, row: StudyRow, record: RunRecord, parent: _Shown) -> None:
        if record.state is State.QUEUED and record.run_id not in self._shown:
            return
        arms, full = row.spec.get("arms") or (), pages.full_horizon(row.spec)
        page = pages.run_page(record, self._source(row, record), time.time(), arms, full)
        for again in (True, False):
            try:
                self._push(row, page, parent)
                return
            except Exception as error:
                code = getattr(error, "error_code", "")
                if code not in (_REFUSED, _GONE) or (code == _GONE and not again):
                    raise
                if not again:
                    log.warning("MLflow refuses run %s: %s", page.run_id, _cause(error))
                self._shown.pop(page.run_id, None)  # somebody may have deleted it there

    def _push(self, row: StudyRow, page: Page, parent: _Shown) -> None:
        shown = self._shown.get(page.run_id)
        tags = {**page.tags, "mlflow.parentRunId": parent.id}
        if shown is None:
            shown = self._create(page.run_id, page.name, page.started, tags, row)
            tags = {}
        new = [m for m in page.curve if m.step not in shown.steps]
        points = [*pages.curve_points(new), *page.final]
        self._log(shown, points, page.params, tags)
        shown.steps.update(m.step for m in new)
        self._set_status(shown, page.status, page.ended)
        if page.ended is not None:
            shown.steps.clear()

    def _show_study(self, row: StudyRow, parent: _Shown, status: str) -> None:
        about = self._about()
        runs = self.ledger.runs(row, measured=False)
        ends = max([row.created_at, *(run.result.finished_at for run in runs if run.result)])
        links = view.links(self._experiment, parent.id)
        note = {pages.NOTE: hide_secrets(about.note)[: pages.NOTE_LENGTH - len(links)] + links} if about.note else {}
        tags = {**pages.study_tags(row.spec, row.state, row.reason), **about.tags, **note}
        points = pages.study_points(about.metrics, row.revision, ends - row.created_at)
        self._log(parent, points, pages.study_params(row.spec), tags)
        direction = str((row.spec.get("metric") or {}).get("direction"))
        looks = {**note, view.PRIMARY_TAG: "value", view.VIEW_TAG: view.shared_view(runs, direction)}
        for key, value in looks.items():
            self._client.set_experiment_tag(self._experiment, key, value)
        for path in about.artifacts:
            self._attach(parent, path)
        self._set_status(parent, status, None if status == "RUNNING" else ends)
        self._described, self._described_at = (row.revision, status), time.monotonic()

    def _about(self) -> Description:
        """Ask the study what it says of itself; if it fails to, the note stays as it is and the runs are shown."""
        try:
            return self.describe()
        except Exception as error:
            if self._wordless != repr(error):
                log.exception("the description of the study could not be made")
            self._wordless = repr(error)
            return Description()

    def _log(self, shown: _Shown, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.key, p.value, shown.start + round(p.seconds * 1000), p.step) for p in points]
        missing = [Param(key, value) for key, value in params.items() if key not in shown.params]
        marks = [RunTag(key, value) for key, value in tags.items()]
        sizes = ((metrics, _METRICS), (missing, _PARAMS), (marks, _TAGS))
        for part in range(max(-(-len(rows) // size) for rows, size in sizes)):
            chunks = [rows[part * size : (part + 1) * size] for rows, size in sizes]
            self._client.log_batch(shown.id, *chunks)
        shown.params.update(params)

    def _attach(self, shown: _Shown, path: Path) -> None:
        """Upload a file, unless this version of it is there."""
        if not path.is_file():
            return
        version = (path.stat().st_mtime_ns, path.stat().st_size)
        if self._attached.get(path) != version:
            self._client.log_artifact(shown.id, str(path))
            self._attached[path] = version

    def _set_status(self, shown: _Shown, status: str, ended: float | None) -> None:
        if ended is not None:
            self._client.set_terminated(shown.id, status, max(shown.start, round(ended * 1000)))
        elif shown.status != status:
            self._client.update_run(shown.id, status)
        shown.status = status

    def _source(self, row: StudyRow, record: RunRecord) -> Source | None:
        key = (record.spec.arm, record.spec.trial)
        if key not in self._sources:
            self._sources = {(trial.arm, trial.index): trial.source for trial in self.ledger.trials(row)}
        return self._sources.get(key)


def connect(uri: str) -> Any:
    """Open a client that says nothing, sends no telemetry, and leaves trying again to the mirror.

    MLflow's second try of a request whose answer was lost would create a run twice; the mirror's looks for it first.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    if (path := places.sqlite_file(uri)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _ledger_mark(row: StudyRow) -> str:
    """Tells a study from one of the same name in another ledger."""
    return digest([row.name, row.created_at])


def _cause(error: Exception) -> str:
    return hide_secrets(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")[:500]
