"""The mirror on a SQLite store and on a real MLflow server: it shows everything once, also after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tuner.core.records import (
    Horizon,
    Measurement,
    Outcome,
    Phase,
    RunResult,
    RunSpec,
    Setting,
    Source,
    TrialRecord,
    WorkloadRef,
)
from tuner.core.settings import Settings
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger
from tuner.tracking.description import Description, TrackingDown
from tuner.tracking.follow import MirrorProcess
from tuner.tracking.mlflow_runs import MlflowMirror
from tuner.tracking.ui import ui_command, ui_environment

START = 1_760_000_000.0
MEASUREMENTS = 18
SPEC: dict[str, Any] = {
    "workload": {"path": "tuner.training.workloads.digits:Digits"},
    "metric": {"name": "accuracy", "direction": "maximize"},
    "horizon": {"epochs": 18},
    "space": {"name": "sgdm-vs-adam"},
    "arms": ["sgdm", "adamw"],
    "budget": {"trials_per_arm": 6, "hours": None},
    "confirmation": {"seeds": 3},
    "sampler": "tpe",
    "seed": 0,
    "executor": "ray",
}
SETTINGS = {
    "sgdm": Setting("sgdm", {"learning_rate": 0.1, "momentum": 0.9}, {"kind": "cosine", "warmup": 0.05}),
    "adamw": Setting("adamw", {"learning_rate": 0.001, "beta1": 0.9}, {"kind": "linear", "warmup": 0.0}),
}


class Driver:
    """A driver of one study: what it writes to a ledger, without training."""

    def __init__(self, url: str, study: str = "digits") -> None:
        self.ledger = Ledger(url)
        self.ledger.migrate()
        self.study = study
        self.row = self.ledger.create(study, SPEC)
        self.lease: Lease = self.ledger.acquire(self.row)
        self.clock = START

    def begin(self, arm: str, trial: int, source: Source = Source.SOBOL) -> RunSpec:
        spec = self.spec(arm, trial, Phase.EXPLORE, 11)
        self.ledger.add_trial(self.lease, TrialRecord(arm, trial, source, spec.setting, {}), spec)
        return spec

    def spec(self, arm: str, trial: int, phase: Phase, seed: int) -> RunSpec:
        workload = WorkloadRef("tuner.training.workloads.digits:Digits")
        args = (self.study, arm, trial, phase, seed, Horizon(18, "epochs"), SETTINGS[arm], workload)
        return RunSpec(*args, metric="accuracy", direction="maximize")

    def end(self, spec: RunSpec, outcome: Outcome = Outcome.COMPLETED, attempt: int = 1, **values: Any) -> None:
        self.clock += 2.0
        curve = values.pop("curve", None) or measured(MEASUREMENTS, spec.seed + spec.trial)
        given = {
            "value": curve[-1].values["accuracy"] if outcome is Outcome.COMPLETED else None,
            "step": curve[-1].step,
            "device": "cpu",
            "train_seconds": curve[-1].train_seconds,
            "eval_seconds": curve[-1].eval_seconds,
            "started_at": self.clock,
            "finished_at": self.clock + 1.5,
        }
        result = RunResult(outcome, measurements=curve, **{**given, **values})
        assert self.ledger.finish(self.lease, spec.run_id, attempt, result)

    def fill(self, trials: int, first: int = 0) -> None:
        for trial in range(first, first + trials):
            for arm in SETTINGS:
                self.end(self.begin(arm, trial))

    def mirror(self, uri: str, about: Description | None = None) -> MlflowMirror:
        return MlflowMirror(self.ledger, self.study, uri, lambda: about or Description(note="# Leaderboard"))


def measured(count: int, salt: int = 0, first: int = 1) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(
            10 * i,
            {"accuracy": 1 - 1 / (i + 1 + salt % 7), "loss": 1 / i},
            train_seconds=0.07 * i,
            eval_seconds=0.01 * i,
        )
        for i in range(first, first + count)
    )


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    writer = Driver(f"sqlite:///{tmp_path}/tuner.db", study=f"digits-{tmp_path.name}"[:60])
    yield writer
    writer.ledger.close()


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    process, uri = start_server(folder, free_port())
    yield uri
    stop(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(folder: Path, port: int) -> tuple[subprocess.Popen[bytes], str]:
    data = f"sqlite:///{folder}/mlflow.db"
    log = (folder / "server.log").open("ab")
    process = subprocess.Popen(
        ui_command(data, port=port),
        env=ui_environment(data),
        cwd=folder,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=2):
                return process, uri
        except OSError:
            assert process.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.2)
    raise AssertionError((folder / "server.log").read_text())


def stop(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with MLflow's tables, made once because that takes a second."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def sqlite_uri(empty_store: Path, tmp_path: Path) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.mlflow)])
def uri(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{request.param}_uri"))


class Seen:
    """What MLflow shows of a study, read back by a client of its own."""

    def __init__(self, uri: str, study: str) -> None:
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(uri)
        self.experiment = self.client.get_experiment_by_name(f"tuner/{study}")
        assert self.experiment is not None
        runs = self.client.search_runs([self.experiment.experiment_id], max_results=1000)
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        assert len(parents) == 1
        self.parent = parents[0]
        self.children = [run for run in runs if run is not self.parent]
        self.runs = {run.data.tags["tuner.run_id"]: run for run in self.children}
        assert len(self.runs) == len(self.children), "a run is shown twice"
        assert all(run.data.tags["mlflow.parentRunId"] == self.parent.info.run_id for run in self.children)

    def curve(self, run: Any, key: str) -> list[tuple[int, float, int]]:
        return [(m.step, m.value, m.timestamp) for m in self.client.get_metric_history(run.info.run_id, key)]

    def everything(self) -> Any:
        keys = ("accuracy", "loss", "value", "train_seconds", "eval_seconds")
        return {
            name: (
                run.info.status,
                run.info.start_time,
                run.info.end_time,
                sorted(run.data.params.items()),
                sorted(run.data.tags.items()),
                [self.curve(run, key) for key in keys],
            )
            for name, run in self.runs.items()
        }


def test_every_run_appears_once_with_all_that_the_ledger_knows(driver: Driver, uri: str) -> None:
    spec = driver.begin("sgdm", 0, Source.DEFAULT)
    driver.end(spec)
    driver.ledger.add_runs(driver.lease, [driver.spec("sgdm", 0, Phase.CONFIRM, 123)])
    assert driver.mirror(uri).catch_up() == driver.ledger.study(driver.study).revision

    seen = Seen(uri, driver.study)
    assert list(seen.runs) == [spec.run_id], "a queued run is not shown"
    run = seen.runs[spec.run_id]
    assert (run.info.run_name, run.info.status) == ("sgdm #0", "FINISHED")
    assert run.info.start_time == round((START + 2) * 1000)
    assert run.info.end_time == round((START + 3.5) * 1000)
    expected = {"arm": "sgdm", "phase": "explore", "outcome": "completed", "source": "default", "schedule": "cosine"}
    expected |= {"trial": "0", "attempt": "1", "rung": "0", "seed": "11", "device": "cpu", "tuner.study": driver.study}
    assert expected.items() <= run.data.tags.items()
    assert run.data.params == {
        "family": "sgdm",
        "learning_rate": "0.1",
        "momentum": "0.9",
        "schedule.kind": "cosine",
        "schedule.warmup": "0.05",
        "horizon": "18 epochs",
    }
    curve = seen.curve(run, "accuracy")
    assert [step for step, _, _ in curve] == [10 * i for i in range(1, 19)]
    assert curve[0][2] == run.info.start_time + 80
    assert run.data.metrics["value"] == curve[-1][1]
    assert run.data.metrics["train_seconds"] == pytest.approx(0.07 * 18)
    assert seen.parent.data.params["workload"] == "tuner.training.workloads.digits:Digits"
    assert seen.parent.data.tags["mlflow.note.content"].startswith("# Leaderboard\n\n[All runs, best first](#/")
    assert (seen.parent.info.run_name, seen.parent.info.status) == (driver.study, "RUNNING")


def test_a_replay_shows_nothing_twice(driver: Driver, uri: str) -> None:
    driver.fill(2)
    mirror = driver.mirror(uri)
    assert mirror.catch_up() > 0
    before = Seen(uri, driver.study).everything()
    assert mirror.catch_up() == 0
    assert driver.mirror(uri).rebuild() > 0
    assert driver.mirror(uri).catch_up() == 0
    assert Seen(uri, driver.study).everything() == before


def test_a_running_run_grows_and_ends(driver: Driver, uri: str) -> None:
    spec = driver.begin("adamw", 0)
    mirror = driver.mirror(uri)
    for count in (3, 7):
        driver.ledger.measure(driver.lease, {(spec.run_id, 1): measured(count)})
        mirror.catch_up(hurry=True)
        seen = Seen(uri, driver.study)
        assert len(seen.curve(seen.runs[spec.run_id], "loss")) == count
    assert seen.runs[spec.run_id].info.status == "RUNNING"
    driver.ledger.requeue(driver.lease, spec.run_id, 1, lost=True)
    mirror.catch_up()
    assert Seen(uri, driver.study).runs[spec.run_id].info.status == "SCHEDULED"
    assert driver.ledger.start(driver.lease, spec.run_id) == 2
    again = driver.mirror(uri)
    again.catch_up()
    driver.end(spec, attempt=2, curve=measured(18))
    again.catch_up()
    seen = Seen(uri, driver.study)
    run = seen.runs[spec.run_id]
    assert (run.info.status, run.data.tags["attempt"]) == ("FINISHED", "2")
    assert len(seen.curve(run, "loss")) == 18
    assert len(seen.curve(run, "value")) == 1


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("pruned", "KILLED"), ("diverged", "FAILED"), ("failed", "FAILED"), ("lost", "FAILED")],
)
def test_outcomes_become_statuses(driver: Driver, sqlite_uri: str, outcome: str, status: str) -> None:
    spec = driver.begin("sgdm", 0)
    trace = "Traceback\n" + "x" * 9000 + "\nValueError: http://ann:secret@host/"
    driver.end(spec, Outcome(outcome), reason="postgresql://ann:secret@db/x broke", traceback=trace)
    driver.mirror(sqlite_uri).catch_up()
    run = Seen(sqlite_uri, driver.study).runs[spec.run_id]
    assert (run.info.status, run.data.tags["outcome"]) == (status, outcome)
    assert "value" not in run.data.metrics
    note = run.data.tags["mlflow.note.content"]
    assert "ValueError: http://ann:***@host/" in note
    assert "secret" not in json.dumps(run.data.tags)


def test_nothing_non_finite_is_logged(driver: Driver, uri: str) -> None:
    spec = driver.begin("sgdm", 0)
    bad = (*measured(2), Measurement(30, {"accuracy": float("nan"), "loss": float("inf")}))
    driver.end(spec, Outcome.DIVERGED, curve=bad, tests={"loss": float("nan")}, reason="loss is inf at step 30")
    driver.mirror(uri).catch_up()
    seen = Seen(uri, driver.study)
    run = seen.runs[spec.run_id]
    assert [step for step, _, _ in seen.curve(run, "loss")] == [10, 20]
    assert "test.loss" not in run.data.metrics
    assert run.data.tags["tuner.nonfinite"] == (
        "NaN or infinite, so not shown: accuracy at step 30, loss at step 30, test.loss at the end"
    )


def test_the_parent_tells_where_the_study_stands(driver: Driver, uri: str, tmp_path: Path) -> None:
    driver.fill(1)
    page = tmp_path / "recommendation.md"
    page.write_text("sgdm")
    about = Description("# sgdm wins", {"verdict": "better"}, (page, tmp_path / "missing.png"), {"best.sgdm": 0.9})
    mirror = driver.mirror(uri, about)
    mirror.catch_up(driven=False)
    assert Seen(uri, driver.study).parent.info.status == "KILLED", "an open study without a driver was interrupted"
    driver.ledger.set_state(driver.lease, "finished")
    assert mirror.catch_up() == 1
    seen = Seen(uri, driver.study)
    assert (seen.parent.info.status, seen.parent.data.tags["verdict"]) == ("FINISHED", "better")
    assert seen.experiment.tags.get("mlflow.experimentKind") == "custom_model_development"
    assert [value for _, value, _ in seen.curve(seen.parent, "best.sgdm")] == [0.9, 0.9]
    assert [file.path for file in seen.client.list_artifacts(seen.parent.info.run_id)] == ["recommendation.md"]


def test_a_note_that_cannot_be_made_hides_no_run(driver: Driver, sqlite_uri: str) -> None:
    driver.fill(1)
    MlflowMirror(driver.ledger, driver.study, sqlite_uri, lambda: Description(note=str(1 // 0))).catch_up()
    assert len(Seen(sqlite_uri, driver.study).children) == 2


def test_a_store_that_was_lost_is_filled_again(driver: Driver, sqlite_uri: str) -> None:
    driver.fill(1)
    mirror = driver.mirror(sqlite_uri)
    driver.ledger.set_mirrored(driver.row, mirror.target, driver.ledger.study(driver.study).revision)
    mirror.catch_up()
    assert len(Seen(sqlite_uri, driver.study).children) == 2


def test_of_two_that_show_one_run_the_first_stays(driver: Driver, sqlite_uri: str) -> None:
    driver.fill(1)
    driver.mirror(sqlite_uri).catch_up()
    seen = Seen(sqlite_uri, driver.study)
    run = seen.children[0]
    twin = seen.client.create_run(run.info.experiment_id, start_time=run.info.start_time + 1, tags=dict(run.data.tags))
    driver.fill(1, first=1)
    driver.mirror(sqlite_uri).catch_up()
    assert twin.info.run_id not in {run.info.run_id for run in Seen(sqlite_uri, driver.study).children}


def test_what_somebody_deleted_is_shown_again_when_it_changes(driver: Driver, uri: str) -> None:
    spec = driver.begin("sgdm", 0)
    mirror = driver.mirror(uri)
    mirror.catch_up()
    seen = Seen(uri, driver.study)
    seen.client.delete_run(seen.runs[spec.run_id].info.run_id)
    driver.end(spec)
    mirror.catch_up()
    assert Seen(uri, driver.study).runs[spec.run_id].info.status == "FINISHED"


def test_studies_of_one_name_in_two_ledgers_stay_apart(driver: Driver, sqlite_uri: str, tmp_path: Path) -> None:
    other = Driver(f"sqlite:///{tmp_path}/other.db", study=driver.study)
    driver.fill(1)
    other.fill(1)
    driver.mirror(sqlite_uri).catch_up()
    other.mirror(sqlite_uri).catch_up()
    from mlflow.tracking import MlflowClient

    client = MlflowClient(sqlite_uri)
    runs = client.search_runs([client.get_experiment_by_name(f"tuner/{driver.study}").experiment_id])
    assert len(runs) == 2 * (1 + 2)
    other.ledger.close()


@pytest.mark.mlflow
def test_a_server_that_is_down_or_slow_costs_freshness_only(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    mirror = driver.mirror(uri)
    driver.fill(1)
    with pytest.raises(TrackingDown, match="did not answer"):
        mirror.catch_up()
    assert driver.ledger.mirrored(driver.row, mirror.target) == 0
    server, _ = start_server(tmp_path, port)
    try:
        mirror.catch_up()
        first = Seen(uri, driver.study).everything()
        os.killpg(server.pid, signal.SIGSTOP)
        driver.fill(1, first=1)
        with pytest.raises(TrackingDown):
            mirror.catch_up()
        os.killpg(server.pid, signal.SIGCONT)
        time.sleep(1)  # it answers what it was asked before
        mirror.catch_up()
        seen = Seen(uri, driver.study)
        assert len(seen.children) == 4
        assert first.items() <= seen.everything().items()
    finally:
        os.killpg(server.pid, signal.SIGCONT)
        stop(server)


CHILD = """
import os, sys
from pathlib import Path
from tuner.storage.ledger import Ledger
from tuner.tracking.description import Description
from tuner.tracking.follow import serve
from tuner.tracking.mlflow_runs import MlflowMirror

ledger = Ledger(os.environ["TUNER_STORAGE"])
mirror = MlflowMirror(ledger, sys.argv[1], os.environ["TUNER_TRACKING"], lambda: Description("# note"))
sys.exit(serve(mirror, sys.stdin, Path(os.environ["TUNER_FOLDER"]) / sys.argv[1]))
"""


def process_for(driver: Driver, tracking: str, folder: Path) -> MirrorProcess:
    settings = Settings(storage=driver.ledger.url, tracking=tracking, folder=folder / "studies")
    return MirrorProcess(driver.study, settings, command=(sys.executable, "-c", CHILD, driver.study))


def wait_for(condition: Any, seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_mirror_killed_in_the_middle_shows_nothing_twice(driver: Driver, uri: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    driver.fill(15)
    client = MlflowClient(uri)
    killed = process_for(driver, uri, tmp_path)
    killed.start()
    assert killed.process is not None

    def begun() -> bool:
        experiment = client.get_experiment_by_name(f"tuner/{driver.study}")
        return experiment is not None and len(client.search_runs([experiment.experiment_id])) > 8

    wait_for(begun)
    killed.process.kill()
    killed.process.wait()
    assert len(Seen(uri, driver.study).children) < 30, "it was killed too late to show anything"
    second = process_for(driver, uri, tmp_path)
    second.start()
    assert second.finish(100), second.log_file.read_text()
    seen = Seen(uri, driver.study)
    assert len(seen.children) == 30
    assert {run.info.status for run in seen.children} == {"FINISHED"}
    assert {len(seen.curve(run, "loss")) for run in seen.children} == {MEASUREMENTS}
    assert {len(seen.curve(run, "value")) for run in seen.children} == {1}


def test_a_dead_driver_leaves_no_mirror_behind(driver: Driver, sqlite_uri: str, tmp_path: Path) -> None:
    driver.fill(1)
    process = process_for(driver, sqlite_uri, tmp_path)
    process.start()
    assert process.process is not None
    assert process.process.stdin is not None
    process.process.stdin.close()  # what the kernel does when the driver is killed
    assert process.process.wait(100) == 0
    assert len(Seen(sqlite_uri, driver.study).children) == 2


def test_no_secret_gets_into_the_log_or_the_command(driver: Driver, tmp_path: Path) -> None:
    secret = "s3cret-w0rd"
    process = process_for(driver, f"http://ann:{secret}@127.0.0.1:{free_port()}", tmp_path)
    process.start()
    assert process.process is not None
    assert secret not in json.dumps(process.process.args)
    wait_for(lambda: "did not answer" in process.log_file.read_text())
    assert not process.finish(1)
    assert secret not in process.log_file.read_text()
