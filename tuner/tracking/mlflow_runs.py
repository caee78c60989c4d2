"""The mirror: shows one study of a ledger in MLflow, as a parent run with a child run for each run.

What a page says is in :mod:`tuner.tracking.pages`, how long the mirror follows the ledger in
:mod:`tuner.tracking.follow`. The mirror decides nothing, and reads back only what it needs to show nothing twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tuner.core.records import RunRecord, Source, State
from tuner.core.settings import hide_secrets
from tuner.core.values import digest
from tuner.storage.ledger import Ledger
from tuner.storage.reading import StudyRow
from tuner.tracking import pages, places, view
from tuner.tracking.description import Description, TrackingDown
from tuner.tracking.mlflow_client import ShownRun, StudyExperiment
from tuner.tracking.pages import Page

log = logging.getLogger(__name__)

NOTE_SECONDS = 5.0
"""While runs come in, the parent's note is renewed at most once in this time."""
_COMMIT_EVERY = 50
"""After so many runs the ledger notes how far the mirror is, so that a pass that is killed repeats few of them."""
_REFUSED = "INVALID_PARAMETER_VALUE"
_GONE = "RESOURCE_DOES_NOT_EXIST"


class MlflowMirror:
    """Shows one study in MLflow; see :class:`tuner.tracking.mlflow_client.StudyExperiment` for the layout.

    A pass may be killed at any moment and repeated. Runs are found by their tags. Each value has a time that depends
    only on the ledger and on the start of the MLflow run, and MLflow drops a value whose key, step and time it has.

    Args:
        ledger: holds the study.
        study_name: its name.
        tracking_uri: where MLflow is.
        describe: returns what the study says of itself; called again for each new note.
    """

    def __init__(self, ledger: Ledger, study_name: str, tracking_uri: str, describe: Callable[[], Description]) -> None:
        self.ledger = ledger
        self.study = study_name
        self.uri = places.check(tracking_uri)
        self.target = places.target(tracking_uri)
        self.describe = describe
        self._experiment: StudyExperiment | None = None
        self._sources: dict[tuple[str, int], Source] = {}
        self._described_at = -NOTE_SECONDS
        self._described: tuple[int, str] = (-1, "")
        self._last_failure = ""

    def catch_up(self, *, hurry: bool = False, driven: bool | None = None) -> int:
        """Show what the ledger has and MLflow has not; return how many of the ledger's changes were shown.

        Args:
            hurry: let the note lag behind the runs, in a pass of many.
            driven: whether a driver is at work; None asks the ledger. An open study without one counts as interrupted.

        Raises:
            TrackingDown: MLflow cannot be reached. What it has is not lost; the next pass goes on from there.
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
        """Show everything again from the ledger's first change; what MLflow has stays as it is."""
        self._forget()
        self.ledger.set_mirrored(self.ledger.study(self.study), self.target, 0)
        return self.catch_up()

    def _forget(self) -> None:
        self._experiment = None
        self._described = (-1, "")

    def _pass(self, row: StudyRow, since: int, hurry: bool, driven: bool) -> int:
        status = pages.study_status(row.state, driven)
        if self._experiment is not None and row.revision <= since and self._described == (row.revision, status):
            return 0
        if self._experiment is None:
            self._experiment = StudyExperiment(self.uri, self.study, _mark(row))
        experiment, parent = self._experiment, self._experiment.parent
        if parent is None:
            since, parent = 0, experiment.create("", self.study, row.created_at, {pages.STUDY_TAG: self.study})
        done = self._show_changes(experiment, row, since, parent)
        if not hurry or done <= since or time.monotonic() - self._described_at >= NOTE_SECONDS:
            self._show_study(experiment, row, parent, status)
        if done > since:
            self.ledger.set_mirrored(row, self.target, done)
        return max(done - since, 0)

    def _show_changes(self, experiment: StudyExperiment, row: StudyRow, since: int, parent: ShownRun) -> int:
        """Show the runs that changed; return the revision that is shown now."""
        changes = self.ledger.changes(row, since) if row.revision > since else []
        for index, (revision, record) in enumerate(changes):
            self._show_run(experiment, row, record, parent)
            last_of_revision = index + 1 < len(changes) and changes[index + 1][0] > revision
            if last_of_revision and (index + 1) % _COMMIT_EVERY == 0:
                self.ledger.set_mirrored(row, self.target, revision)
        return max([row.revision, *(revision for revision, _ in changes)])

    def _show_run(self, experiment: StudyExperiment, row: StudyRow, record: RunRecord, parent: ShownRun) -> None:
        """Show a run; one that MLflow refuses twice is left out, with a warning."""
        if record.state is State.QUEUED and record.run_id not in experiment.runs:
            return
        arms, full = row.spec.get("arms") or (), pages.full_horizon(row.spec)
        page = pages.run_page(record, self._source(row, record), time.time(), arms, full)
        for first_try in (True, False):
            try:
                _push(experiment, page, parent)
                return
            except Exception as error:
                code = getattr(error, "error_code", "")
                if code not in (_REFUSED, _GONE) or (code == _GONE and not first_try):
                    raise
                if not first_try:
                    log.warning("MLflow refuses run %s: %s", page.run_id, _cause(error))
                experiment.runs.pop(page.run_id, None)  # it may have been deleted in MLflow

    def _show_study(self, experiment: StudyExperiment, row: StudyRow, parent: ShownRun, status: str) -> None:
        """Show the parent's note, numbers, params, tags and files, and which columns the experiment opens with."""
        about = self._describe()
        runs = self.ledger.runs(row, measured=False)
        ended = max([row.created_at, *(run.result.finished_at for run in runs if run.result)])
        links = view.links(experiment.id, parent.id)
        note = {pages.NOTE: hide_secrets(about.note)[: pages.NOTE_LENGTH - len(links)] + links} if about.note else {}
        tags = {**pages.study_tags(row.spec, row.state, row.reason), **about.tags, **note}
        points = pages.study_points(about.metrics, row.revision, ended - row.created_at)
        experiment.log(parent, points, pages.study_params(row.spec), tags)
        direction = str((row.spec.get("metric") or {}).get("direction"))
        experiment.set_tags({**note, view.PRIMARY_TAG: "value", view.VIEW_TAG: view.shared_view(runs, direction)})
        for path in about.artifacts:
            experiment.attach(parent, path)
        experiment.set_status(parent, status, None if status == "RUNNING" else ended)
        self._described, self._described_at = (row.revision, status), time.monotonic()

    def _describe(self) -> Description:
        """Ask the study what it says of itself; where that fails, the note stays as it is and the runs are shown."""
        try:
            return self.describe()
        except Exception as error:
            if self._last_failure != repr(error):
                log.exception("the description of the study could not be made")
            self._last_failure = repr(error)
            return Description()

    def _source(self, row: StudyRow, record: RunRecord) -> Source | None:
        key = (record.spec.arm, record.spec.trial)
        if key not in self._sources:
            self._sources = {(trial.arm, trial.index): trial.source for trial in self.ledger.trials(row)}
        return self._sources.get(key)


def _push(experiment: StudyExperiment, page: Page, parent: ShownRun) -> None:
    """Write what MLflow does not have of a run's page."""
    run = experiment.runs.get(page.run_id)
    tags = {**page.tags, "mlflow.parentRunId": parent.id}
    if run is None:
        run = experiment.create(page.run_id, page.name, page.started, tags)
        tags = {}
    new = [measurement for measurement in page.curve if measurement.step not in run.steps]
    experiment.log(run, [*pages.curve_points(new), *page.final], page.params, tags)
    run.steps.update(measurement.step for measurement in new)
    experiment.set_status(run, page.status, page.ended)
    if page.ended is not None:
        run.steps.clear()


def _mark(row: StudyRow) -> str:
    """What tells a study from one of the same name in another ledger."""
    return digest([row.name, row.created_at])


def _cause(error: Exception) -> str:
    return hide_secrets(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")[:500]
