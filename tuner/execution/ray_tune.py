"""The executor on Ray Tune: places runs and keeps workers alive; it decides nothing. The only door to Ray.

Tune pickles its searcher and its scheduler into the experiment's folder, so both are thin: they know a key, and
find the source of runs in a registry of this process. Each run is a Tune trial of its own; each lost worker comes
back to the source as an outcome, and the source hands the run out again as a new attempt.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tuner.core.errors import ExecutorError
from tuner.core.ports import RunSource, Signal
from tuner.core.records import Assignment, Measurement, Outcome, RunResult

SLICE_SECONDS = 0.5
"""How long a worker trains before it reports: one Tune result may carry many measurements."""

IDLE_SECONDS = 0.05
"""How often a worker without a run looks for one; it stays warm meanwhile."""

CONNECT_SECONDS = 10.0
"""How long a cluster's address may take to answer."""

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
    """How many executors of this process use Ray, and whether one of them started it: the last one ends it."""

    count = 0
    owned = False


_users = _Users()
_sources: dict[str, _Courier] = {}
_keys = itertools.count()


class _Courier:
    """Carries runs between Tune's callbacks and the source; lives in the driver's process only."""

    def __init__(self, source: RunSource, slots: int) -> None:
        self.source = source
        self.slots = slots
        self.running: dict[str, Assignment] = {}
        self.idle: set[str] = set()
        self.waiting: Assignment | None = None
        self.finished = False
        self.unplaced = 0  # runs handed out for which Tune has found no place yet
        self.error = ""
        self.broken: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        """Remember what the source raised, and end: Tune would take it for a trial's error and go on."""
        self.broken, self.finished = self.broken or error, True

    def look(self) -> bool:
        """Whether a run is waiting to be handed out."""
        if self.waiting is None and not self.finished and len(self.running) < self.slots:
            try:
                answer = self.source.ask()
            except BaseException as error:
                self.fail(error)
                return False
            self.finished = answer is Signal.FINISHED
            self.waiting = answer if isinstance(answer, Assignment) else None
        return self.waiting is not None

    def hand_out(self, trial_id: str) -> dict[str, Any] | None:
        """The config of the next Tune trial: a run, an idle turn that keeps a free worker warm, or nothing."""
        if self.look():
            assert self.waiting is not None
            self.running[trial_id], self.waiting = self.waiting, None
            return {"assignment": json.dumps(self.running[trial_id].to_json())}
        if self.finished or self.unplaced or len(self.running) + len(self.idle) >= self.slots:
            return None
        self.idle.add(trial_id)
        return {"assignment": ""}

    def bring(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Take what a worker measured; False stops its Tune trial."""
        if trial_id in self.idle:
            return not (self.finished or self.unplaced or self.look())
        assignment = self.running.get(trial_id)
        found = tuple(Measurement(**m) for m in json.loads(result.get("measurements", "[]")))
        try:
            return assignment is not None and self.broken is None and self.source.observe(assignment, found)
        except BaseException as error:
            self.fail(error)
            return False

    def end(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        self.idle.discard(trial_id)
        assignment = self.running.pop(trial_id, None)
        if assignment is None:
            return
        try:
            self._tell(assignment, (result or {}).get("result"), error or result is None)
        except BaseException as failure:
            self.fail(failure)

    def _tell(self, assignment: Assignment, text: str | None, died: bool) -> None:
        if died:
            reason = f"the worker or its node died: {self.error.strip().splitlines()[0][:300] if self.error else '?'}"
            self.source.tell(assignment, RunResult(Outcome.LOST, reason=reason, finished_at=time.time()))
        elif text:
            self.source.tell(assignment, RunResult.from_json(json.loads(text)))
        else:
            self.source.release(assignment)

    def sweep(self) -> None:
        """Give back what never came to an end: Tune's ways of stopping everything tell nobody."""
        for assignment in [*self.running.values(), *([self.waiting] if self.waiting else [])]:
            try:
                self.source.release(assignment)
            except BaseException as error:
                self.fail(error)
        self.running.clear()
        self.waiting = None


class CourierSearcher(Searcher):
    """Asks the courier for the next run; it holds a key only, because Tune pickles it."""

    def __init__(self, key: str) -> None:
        super().__init__(metric="step", mode="max")
        self._key = key

    def suggest(self, trial_id: str) -> Any:
        courier = _sources[self._key]
        config = courier.hand_out(trial_id)
        return Searcher.FINISHED if config is None and courier.finished else config

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        _sources[self._key].end(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger knows everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class CourierScheduler(FIFOScheduler):
    """Passes on what workers measured, and stops a run when the source asks for it."""

    def __init__(self, key: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._key = key

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002
        _sources[self._key].error = str(trial.get_error())

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        courier = _sources[self._key]
        pending = {t.trial_id for t in tune_controller.get_live_trials() if t.status == "PENDING"}
        courier.unplaced = len(courier.running.keys() & pending)
        go_on = courier.bring(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP)


class TunerWorker(tune.Trainable):
    """A warm worker: trains one run after the other in one process."""

    def setup(self, config: dict[str, Any], workload: bytes | None = None) -> None:
        self._workload = pickle.loads(workload) if workload else None
        self._training: Generator[Measurement, None, RunResult] | None = None
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        from tuner.training.run import train

        self.cleanup()
        text = new_config["assignment"]
        if text:
            self._training = train(Assignment.from_json(json.loads(text)), self._workload)
        return True

    def step(self) -> dict[str, Any]:
        if self._training is None:
            time.sleep(IDLE_SECONDS)
            return {"step": 0}
        found: list[Measurement] = []
        until = time.monotonic() + SLICE_SECONDS
        try:
            while time.monotonic() < until:
                found.append(next(self._training))
        except StopIteration as end:
            self._training = None
            return {"step": 1, "done": True, "result": json.dumps(end.value.to_json())}
        except Exception as error:  # not the user's code, whose errors are outcomes: a bug of ours, said at once
            self._training = None
            text = f"{type(error).__name__}: {error}"
            result = RunResult(Outcome.FAILED, reason=text, traceback=traceback.format_exc(), finished_at=time.time())
            return {"step": 1, "done": True, "result": json.dumps(result.to_json())}
        return {"step": 1, "measurements": json.dumps([_plain(m) for m in found])}

    def cleanup(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None


class RayTuneExecutor:
    """Trains on a Ray cluster: the one at ``address``, or one that is started here and stopped by :meth:`close`."""

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
        self._ready, self._over = threading.Event(), threading.Event()

    def prepare(self) -> None:
        """Start or join the cluster in a thread: its processes take seconds to come up."""
        self._starting = threading.Thread(target=self._keep, name="tuner-ray", daemon=True)
        self._starting.start()

    def _keep(self) -> None:
        """Ray's processes ask to be killed with the thread that started them, so it stays until the end."""
        with contextlib.suppress(ExecutorError):  # run() tries again, and raises
            self.start()
        self._ready.set()
        self._over.wait()

    def start(self) -> None:
        """Start or join the cluster.

        Raises:
            ExecutorError: it cannot be reached, or no run fits on it.
        """
        os.environ.update({name: os.environ.get(name, value) for name, value in _ENVIRONMENT.items()})
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        if not ray.is_initialized():
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            address = self._address or os.environ.get("RAY_ADDRESS")
            terminate = signal.getsignal(signal.SIGTERM)
            try:
                if address:
                    _knock(address)
                    ray.init(address=address, runtime_env=self._shipment(), **quiet)
                else:
                    ray.init("local", include_dashboard=False, num_cpus=self._local_cpus, **quiet)
            except Exception as error:
                where = address or "this machine"
                raise ExecutorError(f"Ray on {where} cannot be used: {str(error).splitlines()[0]}") from error
            finally:
                if terminate is not None and threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, terminate)  # Ray puts its own in the way
            logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it reports lost workers, which are no news
            _users.owned = True
        if not self._joined:
            self._joined = True
            _users.count += 1
        if self._gpus is None:
            self._gpus = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0  # type: ignore[no-untyped-call]

    def _shipment(self) -> dict[str, Any]:
        """The user's own module, for nodes that do not see the folder in which it stands."""
        found = (Path(self._folder) / self._module, Path(self._folder) / f"{self._module}.py")
        modules = [str(path) for path in found if self._folder and self._module and path.exists()]
        return {"py_modules": modules} if modules else {}

    def slots(self) -> int:
        """How many runs fit on the cluster at once.

        Raises:
            ExecutorError: none does.
        """
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        fits = int(there.get("CPU", 0.0) / self._cpus + 1e-9)
        if self._gpus:
            per_gpu = int(1 / self._gpus + 1e-9) if self._gpus < 1 else 0
            count = there.get("GPU", 0.0)
            fits = min(fits, int(count) * per_gpu if per_gpu else int(count / self._gpus + 1e-9))
        if fits < 1:
            raise ExecutorError(
                f"a run asks for {self._cpus:g} CPUs and {self._gpus:g} GPUs, but the cluster has "
                f"{there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs; lower 'resources' in the study "
                "file, or name a larger cluster with --ray-address."
            )
        return fits

    def run(self, source: RunSource) -> None:
        if self._starting is not None:
            self._ready.wait()
        self.start()
        assert self._gpus is not None
        key = str(next(_keys))
        courier = _sources[key] = _Courier(source, min(source.parallel, self.slots()))
        folder = tempfile.mkdtemp(prefix="tuner-ray-")
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(courier.slots)  # let all workers start at once
        worker = tune.with_parameters(TunerWorker, workload=self._workload) if self._workload else TunerWorker
        try:
            tune.Tuner(
                tune.with_resources(worker, {"CPU": self._cpus, "GPU": self._gpus}),
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
            ).fit()
        finally:
            courier.sweep()
            del _sources[key]
            shutil.rmtree(folder, ignore_errors=True)
        if courier.broken is not None:
            raise courier.broken

    def close(self) -> None:
        """Leave the cluster; the one that was started here ends, with its processes."""
        if self._starting is not None:
            self._ready.wait()
        if self._joined:
            self._joined = False
            _users.count -= 1
            if _users.owned and not _users.count:
                _users.owned = False
                ray.shutdown()
        self._over.set()


def _knock(address: str) -> None:
    """Fail at once if nobody listens there; Ray itself would try for many minutes, deaf to Ctrl-C."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
            pass


def _plain(measurement: Measurement) -> dict[str, Any]:
    return {
        "step": measurement.step,
        "values": dict(measurement.values),
        "train_seconds": measurement.train_seconds,
        "eval_seconds": measurement.eval_seconds,
    }
