"""The Python API: launch a study, wait for it, take its recommendation; analyse runs of others. Prints nothing."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import bootstrap, workflow
from tuner.analysis.analysis import Analysis
from tuner.analysis.evidence import Nothing
from tuner.config.documents import Section
from tuner.config.spec import StudySpec
from tuner.config.study_file import read_study
from tuner.core.errors import InputError, NoEvidence, TunerError
from tuner.core.settings import Settings
from tuner.resolve.asked import resolve
from tuner.training.workloads.reference import reference_to

if TYPE_CHECKING:
    from tuner.recommendation import Recommendation
    from tuner.study import Snapshot


class StudyHandle:
    """A study, perhaps driven by a thread of this process; all that it holds can be read again from SQL."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._settings = settings
        self._thread: threading.Thread | None = None
        self._session: bootstrap.Session | None = None
        self._error: BaseException | None = None
        self._ready = threading.Event()

    def _drive(self, spec: StudySpec, ray_address: str | None, workload: Any) -> None:
        def body() -> None:
            try:
                with bootstrap.session(spec, self._settings, ray_address, workload) as session:
                    self._session = session
                    self._ready.set()
                    session.run()
            except BaseException as error:  # re-raised by wait(), in the caller's thread
                self._error = error
            finally:
                self._ready.set()

        self._thread = threading.Thread(target=body, name=f"tuner-{self.name}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None and isinstance(self._error, TunerError):
            raise self._error

    @property
    def running(self) -> bool:
        """Whether it is being driven by this process."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait while this process drives the study, for at most ``timeout`` seconds; True if it is finished.

        Ctrl-C stops the study cleanly: what trains ends at its next measurement and waits to be continued.

        Raises:
            TunerError: the study stopped with an error.
        """
        if self._thread is not None:
            try:
                self._thread.join(timeout)
            except KeyboardInterrupt:
                self.stop()
                self._thread.join()
                raise
            if self._thread.is_alive():
                return False
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        with closing(bootstrap.open_ledger(self._settings)) as ledger:
            return ledger.study(self.name).state == "finished"

    def resume(self, *, workload: type | object | None = None, ray_address: str | None = None) -> StudyHandle:
        """Go on with the study in the background; ``workload`` is needed if it was defined in a notebook.

        Raises:
            StudyBusy: another process drives it.
        """
        spec = bootstrap.stored(self.name, self._settings)
        self._drive(spec, ray_address, reference_to(workload)[1] if workload is not None else None)
        return self

    def extend(
        self,
        *,
        trials: int = 0,
        seeds: int = 0,
        arm: str | None = None,
        hours: float = 0.0,
        workload: type | object | None = None,
        ray_address: str | None = None,
    ) -> StudyHandle:
        """Ask for more, and go on with the study in the background.

        Args:
            trials: so many more trials per arm.
            seeds: so many seeds for each finalist, in all.
            arm: one more arm: of the study's space, or an optimizer family.
            hours: so many more hours of search.
            workload: needed if it was defined in a notebook.
            ray_address: the address of a Ray cluster.

        Raises:
            InputError: nothing is asked for, or it does not fit the study.
            StudyBusy: another process drives it.
        """
        spec = workflow.extend(
            bootstrap.stored(self.name, self._settings), trials=trials, seeds=seeds, arm=arm, hours=hours
        )
        target = reference_to(workload)[1] if workload is not None else None
        bootstrap.make_executor(spec, ray_address, target).close()
        bootstrap.update(spec, self._settings)
        self._drive(spec, ray_address, target)
        return self

    def stop(self) -> None:
        """Hand out no more runs; ``launch`` with the same arguments, or ``tuner resume``, goes on."""
        if self._session is not None:
            self._session.study.stop("stopped")

    def snapshot(self) -> Snapshot | None:
        """Return where the study stands now; None if this process does not drive it."""
        return self._session.study.snapshot() if self._session else None

    def recommend(self) -> Recommendation:
        """Return the recommendation as the ledger stands.

        Raises:
            NoEvidence: no run has finished yet.
        """
        from tuner.recommendation import Recommendation

        with closing(bootstrap.open_ledger(self._settings)) as ledger:
            return Recommendation.of(workflow.analysis_of(ledger, self.name))

    def _repr_markdown_(self) -> str:
        try:
            return self.recommend().markdown()
        except NoEvidence as error:
            return str(error)

    def __repr__(self) -> str:
        return f"<study {self.name!r}{', running' if self.running else ''}>"


def launch(
    workload: str | type | object,
    *,
    options: Mapping[str, Any] | None = None,
    name: str | None = None,
    space: str | Mapping[str, Any] | None = None,
    arms: list[str] | None = None,
    horizon: Mapping[str, float] | None = None,
    metric: str | None = None,
    direction: str | None = None,
    trials_per_arm: int | None = None,
    hours: float | None = None,
    gpu_hours: float | None = None,
    current: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    sampler: str | None = None,
    fidelity: str | Mapping[str, Any] | None = None,
    allocation: str | None = None,
    seed: int | None = None,
    confirmation: Mapping[str, Any] | None = None,
    resources: Mapping[str, Any] | None = None,
    executor: str | None = None,
    storage: str | None = None,
    tracking: str | None = None,
    ray_address: str | None = None,
    **more: Any,
) -> StudyHandle:
    """Start a study, or go on with the one of this name and these arguments, in the background.

    The arguments are the keys of a study file. ``workload`` is ``"module:attribute"``, or the class or function
    itself, also one that was defined in a notebook; ``options`` are its keyword arguments. ``name`` is the workload's
    own, if it is not given.

    Raises:
        InputError: an argument is wrong; nothing was written.
        StudyExists: the name is taken by a study that asks something else.
        StudyBusy: another process drives this study.
    """
    reference, target = reference_to(workload, options)
    given: dict[str, Any] = {
        "study": name or re.sub(r"[^a-z0-9]+", "-", reference.path.partition(":")[2].lower()),
        "workload": asdict(reference),
        "metric": {"name": metric, "direction": direction} if metric or direction else None,
        "budget": {"trials_per_arm": trials_per_arm, "hours": hours, "gpu_hours": gpu_hours},
    }
    given |= {"space": space, "arms": arms, "horizon": horizon, "current": current, "training": training, "seed": seed}
    given |= {"sampler": sampler, "fidelity": fidelity, "allocation": allocation, "confirmation": confirmation}
    given |= {"resources": resources, "executor": executor, "storage": storage, "tracking": tracking, **more}
    return _launched({key: value for key, value in given.items() if value is not None}, ray_address, target)


def _launched(given: Mapping[str, Any], ray_address: str | None, workload: Any) -> StudyHandle:
    """Check a study that is given as the keys of a study file, add it to the ledger, and drive it."""
    file = read_study(Section(given, "launch()"))
    spec = resolve(file, workload)
    settings = bootstrap.settings_for(file, None, None)
    bootstrap.make_executor(spec, ray_address, workload).close()  # refuses what cannot run, before anything is written
    spec = bootstrap.create(spec, settings)
    handle = StudyHandle(spec.name, settings)
    handle._drive(spec, ray_address, workload)
    return handle


def analyze(
    runs: str | Path, curves: str | Path | None = None, *, alpha: float = 0.05, min_effect: float | None = None
) -> list[Recommendation]:
    """Return what recorded runs recommend, whoever made them: one recommendation for each study, by name.

    A study of which no run completed has no recommendation and is left out.

    Args:
        runs: a row a run, as a CSV file (``.csv`` or ``.csv.gz``).
        curves: a row a point of a run's curve, in the same formats.
        alpha: the error rate of each verdict, above 0 and up to 0.5.
        min_effect: the smallest difference that matters, in the metric's unit; None takes one standard deviation of
            the seed noise.

    Raises:
        InputError: a row contradicts another or cannot be read; with file, line and column.
        NoEvidence: no study has an answer.
    """
    from tuner.recommendation import Recommendation

    if not 0.0 < alpha <= 0.5:
        raise InputError(f"analyze(): alpha is {alpha!r}; expected a number above 0 and up to 0.5.")
    if min_effect is not None and not 0.0 <= min_effect < math.inf:
        raise InputError(f"analyze(): min_effect is {min_effect!r}; expected a number of at least 0, or None.")
    table, points = Path(runs), None if curves is None else Path(curves)
    studies = bootstrap.recorded_studies(table, points, None, None, None, alpha, min_effect)
    analyses = [Analysis(records) for records in studies]
    silent = [one.answer.reason for one in analyses if isinstance(one.answer, Nothing)]
    if len(silent) == len(analyses):
        raise NoEvidence(f"{table}: {' '.join(silent)}")
    return [Recommendation.of(one) for one in analyses if not isinstance(one.answer, Nothing)]


def open_study(name: str, *, storage: str | None = None, tracking: str | None = None) -> StudyHandle:
    """Return a handle on a study in SQL, to read its recommendation.

    Raises:
        StudyNotFound: there is none of that name.
    """
    settings = Settings.from_environment(storage, tracking)
    with closing(bootstrap.open_ledger(settings)) as ledger:
        ledger.study(name)
    return StudyHandle(name, settings)
