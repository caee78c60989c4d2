"""The one place that chooses implementations from the settings: ledger, search, executor, tracker."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import workflow
from tuner.analysis.verdict.plan import next_runs
from tuner.analysis.widening import widened
from tuner.catalog.training_options import OWN_OPTIONS, changed, learning_rate_factor
from tuner.config.spec import StudySpec, stored_spec
from tuner.core.errors import (
    ExecutorError,
    InputError,
    NoEvidence,
    StorageError,
    StudyExists,
    TunerError,
    WorkloadError,
)
from tuner.core.ports import Executor, Tracker
from tuner.core.records import Horizon
from tuner.core.settings import Settings, hide_secrets
from tuner.resolve import head_start
from tuner.storage.ledger import Ledger
from tuner.study import Study

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tuner.search.arm import ArmSearch
    from tuner.storage.leases import Lease
    from tuner.storage.reading import StudyRow
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


def settings_for(spec: StudySpec | None, storage: str | None, tracking: str | None) -> Settings:
    """Command line before study file before environment before default."""
    if spec is not None:
        storage, tracking = storage or spec.storage, tracking or spec.tracking
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
    return (
        f"{scheme.partition('+')[0].replace('postgres', 'postgresql', 1)} {rest.rpartition('@')[2].partition('?')[0]}"
    )


def resolved(spec: StudySpec, workload: Any = None) -> StudySpec:
    """Import the workload, and take from it what the study file leaves open: metric, direction, horizon, training.

    Recipes that the study asks for are looked up; its earlier studies are not (see :func:`create`).

    Raises:
        WorkloadError: it cannot be imported, is no workload, or does not take a batch size that the study sets.
        InputError: metric or horizon stands nowhere.
    """
    from tuner.training.workloads.load import describe, load

    target = load(spec.workload) if workload is None else workload
    about = describe(target)
    if not spec.metric:
        if not about.metric:
            raise InputError(
                f"study {spec.name!r}: metric is missing, and {spec.workload.path!r} is a function, which cannot say "
                "it; expected {name: ..., direction: maximize or minimize}. Add the key 'metric'."
            )
        spec = spec.measuring(about.metric, str(about.direction))
    if not spec.horizon.amount:
        if not about.horizon:
            raise InputError(
                f"study {spec.name!r}: horizon is missing, and workload {spec.workload.path!r} has none of its own; "
                "expected {epochs: N} or {steps: N}. Add the key 'horizon'."
            )
        unit, amount = next(iter(about.horizon.items()))
        spec = replace(spec, horizon=Horizon(amount, unit))
        spec.fidelity.check(spec.horizon)
    if about.has_test is False:
        spec = replace(spec, confirmation=replace(spec.confirmation, test=False))
    _check_own_items(spec, about.takes)
    if about.training:
        whole = stored_spec({**spec.to_json(), "workload_training": dict(about.training)}, spec.name)
        spec = replace(whole, storage=spec.storage, tracking=spec.tracking)
    spec = head_start.with_recipes(spec, target, about.takes)
    for arm in spec.arms if about.takes is None else ():  # a function: nobody will say what to scale from
        learning_rate_factor(arm.default.training)
    return spec


def _upgraded(spec: Mapping[str, Any], name: str) -> StudySpec:
    """Read a stored study. One from before the training options gets those of its workload, as it had trained."""
    if not {"workload_recipe", "workload_training"} & set(spec):
        from tuner.training.workloads.load import describe, load

        about = describe(load(stored_spec(spec, name).workload))
        spec = {**spec, "workload_training": dict(about.training)}
    return stored_spec(spec, name)


def _check_own_items(spec: StudySpec, takes: frozenset[str] | None) -> None:
    """Refuse a batch size or a label smoothing that the workload would ignore; a function says so when it trains."""
    for arm in spec.arms:
        said = {d.name for d in arm.all_dimensions} | set(arm.fixed)
        said |= {f"training.{name}" for setting in arm.initial_settings for name in changed(setting.training)}
        for name in OWN_OPTIONS:
            if takes is not None and name not in takes and f"training.{name}" in said:
                raise WorkloadError(
                    f"study {spec.name!r}: training.{name} is set, but workload {spec.workload.path!r} does not "
                    f"take it; expected a workload with {name!r} on its class. Leave it out, or use self.{name} there."
                )


def open_ledger(settings: Settings, *, migrate: bool = False) -> Ledger:
    ledger = Ledger(settings.storage)
    if migrate:
        ledger.migrate()
    return ledger


def create(spec: StudySpec, settings: Settings) -> StudySpec:
    """Add the study to the ledger, or find it there; return the stored question, with its order of dimensions.

    How runs are placed may have changed since; another question under the same name is refused.

    Raises:
        StudyExists: the name is taken by a study that asks something else.
    """
    ledger = open_ledger(settings, migrate=True)
    try:
        return stored_spec(_row(spec, ledger).spec, spec.name)
    finally:
        ledger.close()


def _row(spec: StudySpec, ledger: Ledger) -> StudyRow:
    asked = spec.to_json()
    row = next((row for row in ledger.studies() if row.name == spec.name), None)
    if row is None:
        return ledger.create(spec.name, head_start.with_earlier(spec, ledger).to_json())
    if row.spec == asked:
        return row
    if not ledger.trials(row) and not ledger.runs(row, measured=False):
        return _replace(ledger, row, head_start.with_earlier(spec, ledger).to_json())
    stored = _upgraded(row.spec, spec.name).to_json()
    if _question(stored) == _question(asked):
        return _replace(ledger, row, {**stored, **{key: asked[key] for key in (*PLACING, "resources", "workload")}})
    raise StudyExists(
        f"study {spec.name!r} is in this database with other settings; expected the same ones, or a new name. Go on "
        f"with 'tuner resume {spec.name}' or 'tuner extend {spec.name}', or change 'study'."
    )


PLACING = ("executor", "checkpoint_seconds", "retries", "stop_after_failures", "tracking")
"""Keys that say how runs are placed and kept alive; they may change between two drivers of a study."""


@contextmanager
def _leased(ledger: Ledger, row: StudyRow) -> Iterator[Lease]:
    """Hold a study's lease for a moment, and give it back whatever happens."""
    lease = ledger.acquire(row)
    try:
        yield lease
    finally:
        ledger.release(lease)


def _replace(ledger: Ledger, row: StudyRow, spec: Mapping[str, Any]) -> StudyRow:
    with _leased(ledger, row) as lease:
        ledger.set_spec(lease, spec)
    return ledger.study(row.name)


def _question(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a study asks, without how its runs are placed, what was found where it starts from, and what it widened."""
    asked = {key: value for key, value in spec.items() if key not in (*PLACING, "initial_settings", "widened")}
    for widening in spec.get("widened", ()):
        trials = asked["budget"]["trials_per_arm"] - widening["trials"]
        asked["budget"] = {**asked["budget"], "trials_per_arm": trials}
    kept = ("threads", "device")  # the others do not change a number
    asked["resources"] = {key: spec["resources"].get(key) for key in kept}
    asked["workload"] = {**spec["workload"], "folder": ""}
    return asked


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
    ledger = open_ledger(settings)
    try:
        return head_start.with_earlier(spec, ledger)
    finally:
        ledger.close()


def stored(name: str, settings: Settings) -> StudySpec:
    """Return what the ledger keeps of a study's file.

    Raises:
        StudyNotFound: there is no study of that name.
    """
    ledger = open_ledger(settings)
    try:
        return _upgraded(ledger.study(name).spec, name)
    finally:
        ledger.close()


def update(spec: StudySpec, settings: Settings) -> None:
    """Change what a study asks for.

    Raises:
        StudyBusy: a living driver holds the lease.
    """
    ledger = open_ledger(settings)
    try:
        asked = spec.to_json()
        with _leased(ledger, ledger.study(spec.name)) as lease:
            ledger.set_spec(lease, asked, "extended", {"budget": asked["budget"], "arms": asked["arms"]})
    finally:
        ledger.close()


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

    Raises:
        InputError: both or neither are given, what belongs to the other is given, or something in them is wrong.
    """
    from tuner.recorded.csv_reading import read_curves, read_runs
    from tuner.recorded.to_records import studies_of

    if (runs is None) == (experiment is None):
        found = "are both given" if runs else "are both missing"
        raise InputError(f"--runs and --mlflow-experiment {found}; expected one of them.")
    if experiment is None and (mapping or tracking):
        raise InputError("--mapping and --tracking are given without an experiment; expected --mlflow-experiment NAME.")
    if runs is None and curves is not None:
        raise InputError("--curves is given without --runs; expected the table of runs that the curves belong to.")
    if runs is not None:
        rows = read_runs(runs)
        points = read_curves(curves, rows) if curves else {}
        return studies_of(rows, points, source=runs.name, alpha=alpha, min_effect=min_effect)
    from tuner.recorded.mapping import read_mapping
    from tuner.tracking.experiment import read_experiment

    assert experiment is not None
    uri = Settings.from_environment(None, tracking).tracking
    if uri == "none":
        raise InputError("tracking is 'none'; expected an MLflow tracking URI. Give one with --tracking.")
    rows, points = read_experiment(experiment, uri, read_mapping(mapping) if mapping else None)
    source = f"MLflow experiment {experiment}"
    return studies_of(rows, points, source=source, alpha=alpha, min_effect=min_effect)


def make_executor(spec: StudySpec, ray_address: str | None = None, workload: Any = None) -> Executor:
    if spec.executor == "local":
        from tuner.execution.local import LocalExecutor

        return LocalExecutor(workload)
    if workload is None and spec.workload.path.startswith("__main__:"):
        raise WorkloadError(
            f"workload {spec.workload.path!r} was defined in a notebook or script; expected one that a worker can "
            "import. Resume it there with open_study(...).resume(workload=...), or move the workload into a module."
        )
    from tuner.execution.ray_tune import RayTuneExecutor

    r = spec.resources
    payload = None if workload is None else pack(spec, workload)
    module = spec.workload.path.partition(":")[0].partition(".")[0]
    return RayTuneExecutor(
        ray_address, cpus=r.cpus, gpus=r.gpus, folder=spec.workload.folder, module=module, workload=payload
    )


def pack(spec: StudySpec, workload: Any) -> bytes:
    """Pickle a workload that workers cannot import.

    Raises:
        WorkloadError: it does not survive the journey; with the reason.
    """
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps(workload)
        pickle.loads(packed)
        return packed
    except Exception as error:
        raise WorkloadError(
            f"workload {spec.workload.path!r} is defined in __main__ and cannot be sent to Ray's workers: "
            f"{type(error).__name__}: {error}; expected one that can be pickled, or that can be imported. Load "
            "the data in setup(), move the workload into a module, or take executor='local'."
        ) from None


def make_tracker(name: str, settings: Settings) -> Tracker:
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
        found = tuple(folder / file for file in FILES if (folder / file).is_file())
        tags = {"tuner.verdict": evidence.verdict.kind, "tuner.recommended": evidence.arm}
        best = {f"best.{row.arm}": row.best_value for row in evidence.arms if row.best_value is not None}
        return Description(note=note(evidence), tags=tags, artifacts=found, metrics=best)

    return MlflowMirror(ledger, name, settings.tracking, describe)


def examine(settings: Settings, ray_address: str | None = None) -> list[tuple[str, bool | None, str]]:
    """Look at what a study needs; nothing is written. A part, whether it is well (None: only told), what was found."""
    import importlib.metadata
    import platform

    packages = ("torch", "optuna", "ray", "mlflow", "sqlalchemy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    findings: list[tuple[str, bool | None, str]] = [("python", None, f"{platform.python_version()}; {versions}")]
    for part, look in (
        ("device", _examine_device),
        ("ledger", lambda: _examine_ledger(settings)),
        ("mlflow", lambda: _examine_tracking(settings)),
        ("ray", lambda: _examine_ray(ray_address)),
    ):
        try:
            findings.append((part, True, look()))
        except TunerError as error:
            findings.append((part, False, hide_secrets(str(error))))
    return findings


def _examine_device() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"no GPU that torch sees; CPU with {torch.get_num_threads()} threads"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _examine_ledger(settings: Settings) -> str:
    where = hide_secrets(settings.storage)
    file = settings.storage.removeprefix("sqlite:///")
    if file != settings.storage and not Path(file).exists():
        return f"{where}: not there yet; the first study makes it"
    ledger = open_ledger(settings)
    try:
        if not ledger.ready():
            return f"{where}: reached; no tables of tuner yet, the first study makes them"
        return f"{where}: {len(ledger.studies())} studies"
    finally:
        ledger.close()


def _examine_tracking(settings: Settings) -> str:
    from tuner.tracking import places

    if settings.tracking == "none":
        return "off"
    uri = places.check(settings.tracking)
    if places.is_server(uri):
        import urllib.error
        import urllib.request

        scheme, _, rest = uri.rstrip("/").partition("://")
        try:
            with urllib.request.urlopen(f"{scheme}://{rest.rpartition('@')[2]}/health", timeout=5):
                return f"{hide_secrets(uri)}: answers"
        except (urllib.error.URLError, OSError) as error:
            raise ExecutorError(f"{hide_secrets(uri)} does not answer: {error}. Studies run without it.") from None
    return f"{hide_secrets(uri)}: not opened; the mirror does that"


def _examine_ray(address: str | None) -> str:
    from tuner.execution.ray_tune import RayTuneExecutor

    executor = RayTuneExecutor(address)
    try:
        executor.start()
        return f"{address or 'a local cluster starts'}: {executor.slots()} runs of one CPU at once"
    finally:
        executor.close()
