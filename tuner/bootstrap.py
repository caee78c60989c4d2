"""The one place that chooses implementations from the settings: ledger, search, executor, tracker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import workflow
from tuner.analysis.verdict.plan import next_runs
from tuner.analysis.widening import widened
from tuner.config.spec import StudyFile, StudySpec
from tuner.core.errors import InputError, NoEvidence, StorageError, WorkloadError
from tuner.core.ports import Executor, Tracker
from tuner.core.settings import Settings, hide_secrets
from tuner.resolve import entries, head_start
from tuner.storage.ledger import Ledger
from tuner.study import Study

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tuner.search.arm import ArmSearch
    from tuner.study_records import StudyRecords
    from tuner.tracking.mlflow_runs import MlflowMirror


@dataclass(frozen=True, slots=True)
class Session:
    """A study under this process's lease, with all that drives it."""

    study: Study
    executor: Executor
    tracker: Tracker
    ledger: Ledger
    lease: Any
    folder: Path

    def run(self) -> bool:
        return workflow.run(self.study, self.executor, self.tracker, self.ledger, self.lease, self.folder)


def settings_for(asked: StudyFile | StudySpec | None, storage: str | None, tracking: str | None) -> Settings:
    """Return the settings: the command line counts more than the study file, that more than the environment.

    Args:
        asked: the study, if there is one yet; a stored one says at most that it is not tracked.
        storage: the SQLAlchemy URL of the command line, if there is one.
        tracking: its MLflow tracking URI, if there is one.

    Raises:
        InputError: MLflow cannot hold a study there, or both name the same database.
    """
    if isinstance(asked, StudyFile):
        storage = storage or asked.storage
    if asked is not None:
        tracking = tracking or asked.tracking
    settings = Settings.from_environment(storage, tracking)
    if settings.tracking != "none":
        from tuner.tracking import places

        places.check(settings.tracking)
    if _place(settings.storage) == _place(settings.tracking):
        raise InputError(
            f"storage and tracking are both {hide_secrets(settings.storage)!r}; expected two databases: tables of "
            "MLflow and of Optuna have the same names. Give MLflow one of its own."
        )
    return settings


def _place(url: str) -> str:
    """Which database a URL means, whatever driver and user it names."""
    scheme, _, rest = url.partition("://")
    if scheme.startswith("sqlite"):
        return f"sqlite {(Path.cwd() / rest.removeprefix('/')).resolve()}"
    dialect = scheme.partition("+")[0].replace("postgres", "postgresql", 1)
    return f"{dialect} {rest.rpartition('@')[2].partition('?')[0]}"


def open_ledger(settings: Settings, *, migrate: bool = False) -> Ledger:
    """Open the ledger, and bring its tables up to date where ``migrate`` says so; close it in the end."""
    ledger = Ledger(settings.storage)
    if migrate:
        ledger.migrate()
    return ledger


def create(spec: StudySpec, settings: Settings) -> StudySpec:
    """Add the study to the ledger, or find it there; see :func:`tuner.resolve.entries.create`."""
    with closing(open_ledger(settings, migrate=True)) as ledger:
        return entries.create(spec, ledger)


def stored(name: str, settings: Settings) -> StudySpec:
    """Return what the ledger keeps of a study's file; see :func:`tuner.resolve.entries.restored`."""
    with closing(open_ledger(settings)) as ledger:
        return entries.restored(ledger.study(name))


def update(spec: StudySpec, settings: Settings) -> None:
    """Change what a study asks for; see :func:`tuner.resolve.entries.update`."""
    with closing(open_ledger(settings)) as ledger:
        entries.update(spec, ledger)


def foreseen(spec: StudySpec, settings: Settings) -> StudySpec:
    """Return the spec as :func:`create` would store it if the study began now; nothing is written.

    Raises:
        StudyNotFound: the database lacks an earlier study that this one starts from.
        StorageError: there is no database yet.
    """
    if not spec.warm_start:
        return spec
    file = settings.storage.removeprefix("sqlite:///")
    if file != settings.storage and not Path(file).exists():
        raise StorageError(
            f"study {spec.name!r}: warm_start names {', '.join(spec.warm_start)}, but {hide_secrets(settings.storage)} "
            "does not exist; expected the database of those studies. Stand in their folder, or set 'storage'."
        )
    with closing(open_ledger(settings)) as ledger:
        return head_start.with_earlier(spec, ledger)


@contextmanager
def session(
    spec: StudySpec, settings: Settings, ray_address: str | None = None, workload: Any = None
) -> Iterator[Session]:
    """Take the study's lease and put together what drives it; everything is given back at the end.

    Raises:
        StudyBusy: another driver holds the lease.
    """
    from tuner.search.optuna_arm import open_storage
    from tuner.storage.heartbeat import Heartbeat

    executor = make_executor(spec, ray_address, workload)
    ledger = open_ledger(settings, migrate=True)
    lease = ledger.acquire(ledger.study(spec.name))
    heartbeat: Heartbeat | None = None
    storage = None
    try:
        executor.prepare()
        storage = open_storage(settings.storage)
        folder, arms = settings.folder / spec.name, _arms_of(spec, storage)
        study = Study(spec, ledger, lease, arms, next_runs, folder.absolute(), partial(_in_wider_ranges, storage))
        heartbeat = Heartbeat(ledger, lease, study.stop, lambda: study.search_seconds)
        yield Session(study, executor, make_tracker(spec.name, settings), ledger, lease, folder)
    finally:
        executor.close()
        if heartbeat is not None:
            heartbeat.close()
        else:
            ledger.release(lease)
        ledger.close()
        if storage is not None:
            storage.engine.dispose()


def _arms_of(spec: StudySpec, storage: BaseStorage) -> list[ArmSearch]:
    from tuner.search.arm import open_arm

    how = spec.sampler, spec.seed, spec.opened_for, spec.sign, spec.rung_costs
    return [open_arm(storage, spec.name, arm, *how) for arm in spec.arms]


def _in_wider_ranges(storage: BaseStorage, records: StudyRecords) -> tuple[StudySpec, list[ArmSearch]] | None:
    wider = widened(records)
    return None if wider is None else (wider, _arms_of(wider, storage))


def recorded_studies(
    runs: Path | None,
    curves: Path | None,
    experiment: str | None,
    tracking: str | None,
    mapping: Path | None,
    alpha: float,
    min_effect: float | None,
) -> tuple[StudyRecords, ...]:
    """Read runs that others made, from tables or from an MLflow experiment.

    Args:
        runs: the table of runs, if it is tables.
        curves: the table of their curves, if there is one.
        experiment: the name of the MLflow experiment, if it is one.
        tracking: its tracking URI; None for that of the environment.
        mapping: a YAML file that says which param, tag or metric is what; None if tuner wrote the experiment.
        alpha: the error rate of each study's verdict.
        min_effect: the smallest difference that matters, in the metric's unit; None takes the seed noise.

    Raises:
        InputError: both or neither are given, what belongs to the other is given, or something in them is wrong.
    """
    if (runs is None) == (experiment is None):
        problem = "are both given" if runs else "are both missing"
        raise InputError(f"--runs and --mlflow-experiment {problem}; expected one of them.")
    if experiment is None and (mapping or tracking):
        raise InputError("--mapping and --tracking are given without an experiment; expected --mlflow-experiment NAME.")
    if runs is None and curves is not None:
        raise InputError("--curves is given without --runs; expected the table of runs that the curves belong to.")
    if runs is not None:
        from tuner.recorded.from_tables import studies_in_tables

        return studies_in_tables(runs, curves, alpha, min_effect)
    from tuner.tracking.experiment import studies_in_experiment

    assert experiment is not None
    uri = Settings.from_environment(None, tracking).tracking
    return studies_in_experiment(experiment, uri, mapping, alpha, min_effect)


def make_executor(spec: StudySpec, ray_address: str | None = None, workload: Any = None) -> Executor:
    """Build the executor that a study asks for.

    Args:
        spec: the study.
        ray_address: the address of a Ray cluster; None starts one on this machine.
        workload: the workload itself, where workers cannot import it.

    Raises:
        WorkloadError: workers can neither import the workload nor be sent it.
    """
    if spec.executor == "local":
        from tuner.execution.local import LocalExecutor

        return LocalExecutor(workload)
    assert spec.executor == "ray", f"make_executor has no branch for the executor {spec.executor!r}"
    if workload is None and spec.workload.path.startswith("__main__:"):
        raise WorkloadError(
            f"workload {spec.workload.path!r} was defined in a notebook or script; expected one that a worker can "
            "import. Resume it there with open_study(...).resume(workload=...), or move the workload into a module."
        )
    from tuner.execution.packing import packed
    from tuner.execution.ray_tune import RayTuneExecutor

    r = spec.resources
    payload = None if workload is None else packed(workload, spec.workload.path)
    module = spec.workload.path.partition(":")[0].partition(".")[0]
    return RayTuneExecutor(
        ray_address, cpus=r.cpus, gpus=r.gpus, folder=spec.workload.folder, module=module, workload=payload
    )


def make_tracker(name: str, settings: Settings) -> Tracker:
    """Build what shows a study: the mirror in MLflow, or nothing with ``tracking: none``."""
    if settings.tracking == "none":
        from tuner.tracking.null import NullTracker

        return NullTracker()
    from tuner.tracking.follow import MirrorProcess

    return MirrorProcess(name, settings)


def make_mirror(name: str, settings: Settings) -> MlflowMirror:
    """Build the mirror of one study: tracking knows MLflow, reporting knows what to say."""
    from tuner.reporting.files import FILES
    from tuner.reporting.markdown import note
    from tuner.tracking.description import Description
    from tuner.tracking.mlflow_runs import MlflowMirror

    ledger = open_ledger(settings)
    folder = settings.folder / name

    def describe() -> Description:
        try:
            evidence = workflow.analysis_of(ledger, name).evidence
        except NoEvidence:
            return Description()
        written = tuple(folder / file for file in FILES if (folder / file).is_file())
        tags = {"tuner.verdict": evidence.verdict.kind, "tuner.recommended": evidence.arm}
        best = {f"best.{row.arm}": row.best_value for row in evidence.arms if row.best_value is not None}
        return Description(note=note(evidence), tags=tags, artifacts=written, metrics=best)

    return MlflowMirror(ledger, name, settings.tracking, describe)
