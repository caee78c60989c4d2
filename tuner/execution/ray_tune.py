"""The executor on Ray Tune: places runs on a cluster and keeps its workers alive; which runs is not decided here.

Each run is a Tune trial of its own. A worker that dies ends its trial; the courier tells the source that the run was
lost, and the source hands it out again as a new attempt. Tune pickles its searcher and its scheduler into the
experiment's folder, so both hold only a key, under which they find the courier in this process.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tuner.core.errors import ExecutorError
from tuner.core.ports import RunSource
from tuner.execution.courier import Courier
from tuner.execution.ray_worker import TunerWorker

CONNECT_SECONDS = 10.0
"""How long a cluster's address may take to answer."""

_ROUNDING = 1e-9
"""Added before a number of slots is rounded down: 0.3 / 0.1 is 2.9999999999999996 in floating point."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
}


class _Users:
    """How many executors of this process use Ray, and whether one of them started it; the last one shuts it down."""

    count = 0
    owned = False


_users = _Users()
_couriers: dict[str, Courier] = {}
_keys = itertools.count()


class CourierSearcher(Searcher):
    """Tune's searcher: proposes the courier's next run as the next trial."""

    def __init__(self, key: str) -> None:
        super().__init__(metric="step", mode="max")
        self._key = key

    def suggest(self, trial_id: str) -> Any:
        courier = _couriers[self._key]
        config = courier.hand_out(trial_id)
        return Searcher.FINISHED if config is None and courier.finished else config

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        _couriers[self._key].end(trial_id, result, died=error)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the ledger has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class CourierScheduler(FIFOScheduler):
    """Tune's scheduler: passes measurements on to the courier, and stops a trial whose run the source stops."""

    def __init__(self, key: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._key = key

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002
        _couriers[self._key].death = str(trial.get_error())

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        courier = _couriers[self._key]
        courier.note_pending({t.trial_id for t in tune_controller.get_live_trials() if t.status == "PENDING"})
        goes_on = courier.observe(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class RayTuneExecutor:
    """Trains on a Ray cluster: the one at ``address``, or one that :meth:`start` starts here and :meth:`close` stops.

    Args:
        address: a cluster's; None takes the variable RAY_ADDRESS, and without it starts a cluster on this machine.
        cpus: CPUs of a run; a fraction lets several runs share one.
        gpus: GPUs of a run, or a fraction of one; None takes one GPU if the cluster has any, else none.
        local_cpus: CPUs of a cluster that is started here; None takes all of the machine.
        folder: the folder of the user's module, which is sent to nodes that do not have it.
        module: the name of that module.
        workload: a pickled workload that replaces the one that the runs name.
    """

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float | None = None,
        local_cpus: int | None = None,
        folder: str = "",
        module: str = "",
        workload: bytes | None = None,
    ) -> None:
        self._address, self._cpus, self._gpus = address, cpus, gpus
        self._local_cpus, self._workload = local_cpus, workload
        self._folder, self._module = folder, module
        self._joined = False
        self._starting: threading.Thread | None = None
        self._ready, self._closed = threading.Event(), threading.Event()

    def prepare(self) -> None:
        """Start or join the cluster in a thread, because its processes take seconds to come up."""
        self._starting = threading.Thread(target=self._keep, name="tuner-ray", daemon=True)
        self._starting.start()

    def _keep(self) -> None:
        """Start the cluster and stay until the end: Ray's processes are killed with the thread that started them."""
        with contextlib.suppress(ExecutorError):  # run() tries again and raises it
            self.start()
        self._ready.set()
        self._closed.wait()

    def start(self) -> None:
        """Start or join the cluster; nothing happens if this process uses one already.

        Raises:
            ExecutorError: the cluster cannot be started or reached.
        """
        os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        if not ray.is_initialized():
            self._connect()
            _users.owned = True
        if not self._joined:
            self._joined = True
            _users.count += 1
        if self._gpus is None:
            self._gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0  # type: ignore[no-untyped-call]

    def _connect(self) -> None:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        address = self._address or os.environ.get("RAY_ADDRESS")
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            if address:
                _check_address(address)
                ray.init(address=address, runtime_env=self._runtime_env(), **quiet)
            else:
                ray.init("local", include_dashboard=False, num_cpus=self._local_cpus, **quiet)
        except Exception as error:
            where = address or "this machine"
            raise ExecutorError(f"Ray on {where} cannot be used: {str(error).splitlines()[0]}") from error
        finally:
            if terminate is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)  # Ray replaces the handler
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # else it logs every lost worker

    def _runtime_env(self) -> dict[str, Any]:
        """The user's module, for nodes that do not have its folder."""
        paths = (Path(self._folder) / self._module, Path(self._folder) / f"{self._module}.py")
        modules = [str(path) for path in paths if self._folder and self._module and path.exists()]
        return {"py_modules": modules} if modules else {}

    def slots(self) -> int:
        """Return how many runs fit on the cluster at once.

        Raises:
            ExecutorError: no run fits.
        """
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        slots = int(cpus / self._cpus + _ROUNDING)
        if self._gpus:
            per_gpu = int(1 / self._gpus + _ROUNDING) if self._gpus < 1 else 0
            slots = min(slots, int(gpus) * per_gpu if per_gpu else int(gpus / self._gpus + _ROUNDING))
        if slots < 1:
            raise ExecutorError(
                f"a run asks for {_count(self._cpus, 'CPU')} and {_count(self._gpus or 0.0, 'GPU')}, but the cluster "
                f"has {_count(cpus, 'CPU')} and {_count(gpus, 'GPU')}; lower 'resources' in the study file, or name a "
                "larger cluster with --ray-address."
            )
        return slots

    def run(self, source: RunSource) -> None:
        """Train what the source hands out until it is finished.

        Raises:
            ExecutorError: the cluster cannot be used, or no run fits on it. What the source raises passes through.
        """
        if self._starting is not None:
            self._ready.wait()
        self.start()
        key = str(next(_keys))
        courier = _couriers[key] = Courier(source, min(source.parallel, self.slots()))
        folder = tempfile.mkdtemp(prefix="tuner-ray-")
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(courier.slots)  # let all workers start at once
        try:
            self._experiment(key, folder).fit()
        finally:
            courier.release_all()
            del _couriers[key]
            shutil.rmtree(folder, ignore_errors=True)
        if courier.error is not None:
            raise courier.error

    def _experiment(self, key: str, folder: str) -> tune.Tuner:
        worker = tune.with_parameters(TunerWorker, workload=self._workload) if self._workload else TunerWorker
        return tune.Tuner(
            tune.with_resources(worker, {"CPU": self._cpus, "GPU": self._gpus or 0.0}),
            tune_config=tune.TuneConfig(
                search_alg=CourierSearcher(key),
                scheduler=CourierScheduler(key),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="runs",
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )

    def close(self) -> None:
        """Leave the cluster; one that was started here is shut down with the last executor of this process."""
        if self._starting is not None:
            self._ready.wait()
        if self._joined:
            self._joined = False
            _users.count -= 1
            if _users.owned and not _users.count:
                _users.owned = False
                ray.shutdown()
        self._closed.set()


def _count(amount: float, unit: str) -> str:
    return f"{amount:g} {unit if amount == 1 else unit + 's'}"


def _check_address(address: str) -> None:
    """Fail at once if nothing listens at the address; Ray itself tries for minutes, and Ctrl-C does not stop it."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            pass
