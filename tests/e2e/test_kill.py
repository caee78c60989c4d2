"""kill -9 of everything at several moments, with real processes; then resume, to the very same ledger."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from tuner.cli import main
from tuner.core.records import Outcome, RunRecord, State, TrialRecord
from tuner.storage.ledger import Ledger

MARK = "TUNER_TEST_OF_KILLS"
PACE = "SECONDS_A_STEP_TAKES_LONGER"
PATIENCE = 90.0

MODULE = f'''
import os, time
from tuner.training.workloads.toy import ToyQuadratic

class Slow(ToyQuadratic):
    """A toy that takes its time where it has to be caught in training."""

    def train_step(self, model, batch, bundle):
        time.sleep(float(os.environ.get("{PACE}", "0")))
        return super().train_step(model, batch, bundle)
'''

STUDY = """
study: kill
workload: {path: "slow_toy:Slow", options: {dropout: 0.2, eval_every_steps: 8}}
horizon: {steps: 48}
space: quick
arms: [sgdm, adamw]
budget: {trials_per_arm: 4}
confirmation: {seeds: 2}
resources: {parallel: 1, device: cpu}
executor: local
tracking: none
checkpoint_seconds: 0.0
"""
LADDER = STUDY.replace("{steps: 48}", "{steps: 150}").replace("trials_per_arm: 4", "trials_per_arm: 3")


class Place:
    """A folder with a study, and the processes that were started there."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "slow_toy.py").write_text(MODULE)
        (folder / "study.yaml").write_text(study)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("TUNER_", "RAY_", "COV_"))}
        self.environment |= {MARK: str(folder), "PYTHONUNBUFFERED": "1"}

    def start(self, *words: str, seconds_a_step: float = 0.0) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tuner", *words],
            cwd=self.folder,
            env={**self.environment, PACE: str(seconds_a_step)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def call(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        output, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, output

    def ours(self) -> list[psutil.Process]:
        """Every process of this folder's studies: driver, mirror, Ray's daemons and workers."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def kill_everything(self) -> list[str]:
        names, tree = [], self.ours()
        while tree:
            for process in tree:
                try:
                    names.append(process.name())
                    process.kill()
                except psutil.Error:
                    continue
            psutil.wait_procs(tree, timeout=2)
            tree = self.ours()
        return names

    def read(self) -> tuple[list[TrialRecord], list[RunRecord]]:
        ledger = Ledger(f"sqlite:///{self.folder / 'tuner.db'}")
        try:
            row = ledger.study("kill")
            return ledger.trials(row), ledger.runs(row)
        finally:
            ledger.close()

    def glance(self) -> list[tuple[str, str, str, int]]:
        """Run, phase, state and attempt; nothing as long as the tables are not there."""
        try:
            with closing(sqlite3.connect(f"file:{self.folder / 'tuner.db'}?mode=ro", uri=True)) as connection:
                return connection.execute("select run_id, phase, state, attempt from tuner_runs").fetchall()
        except sqlite3.OperationalError:
            return []

    def wait_for(self, moment: Callable[[Place], bool], process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert process.poll() is None, f"it ended before the moment came: {process.communicate()[0]}"
            if moment(self):
                return
            time.sleep(0.03)
        raise AssertionError("the moment did not come")

    def die_at(self, moment: Callable[[Place], bool], *words: str) -> list[str]:
        process = self.start(*words, seconds_a_step=0.005)
        self.wait_for(moment, process)
        names = self.kill_everything()
        process.communicate(timeout=10)
        return names

    def optuna_states(self) -> dict[str, int]:
        with closing(sqlite3.connect(self.folder / "tuner.db")) as connection:
            return dict(connection.execute("select state, count(*) from trials group by state").fetchall())


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Make the place of a study; whatever was started there is killed at the end."""
    made: list[Place] = []

    def place(study: str) -> Place:
        made.append(Place(tmp_path / f"place-{len(made)}", study))
        return made[-1]

    yield place
    for one in made:
        one.kill_everything()


def uninterrupted(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Run the study in one go, in this process."""
    with monkeypatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("TUNER_")]:
            patch.delenv(name)
        patch.chdir(place.folder)
        patch.setattr(sys, "path", list(sys.path))
        done = CliRunner().invoke(main, ["run", "study.yaml"])
        sys.modules.pop("slow_toy", None)
    assert done.exit_code == 0, done.output
    return place


def ended(place: Place) -> dict[str, RunRecord]:
    return {run.run_id: run for run in place.read()[1] if run.state is State.ENDED}


def story(place: Place) -> tuple[Any, Any]:
    """What must be the same bit for bit, whatever was killed on the way."""
    trials, runs = place.read()
    found = {}
    for run in runs:
        assert run.result is not None, f"{run.run_id} is left {run.state}"
        result = run.result
        curve = [(m.step, dict(m.values)) for m in result.measurements]
        spec = replace(run.spec, workload=replace(run.spec.workload, folder=""))
        found[run.run_id] = (spec, result.outcome, result.value, result.step, curve, dict(result.tests))
    return trials, found


def check_whole(place: Place, whole: Place) -> None:
    assert story(place) == story(whole)
    assert place.optuna_states() == whole.optuna_states()
    assert set(place.optuna_states()) <= {"COMPLETE", "PRUNED"}
    _, runs = place.read()
    assert len({run.run_id for run in runs}) == len(runs) == len(whole.read()[1])
    assert not place.ours()


def check_kept(before: dict[str, RunRecord], place: Place) -> None:
    """What had ended was not trained again."""
    after = ended(place)
    for run_id, run in before.items():
        assert after[run_id] == run


def at_runs(count: int) -> Callable[[Place], bool]:
    return lambda place: sum(state == "ended" for _, _, state, _ in place.glance()) >= count


def in_phase(phase: str) -> Callable[[Place], bool]:
    return lambda place: any(row[1:3] == (phase, "running") for row in place.glance())


def on_rung(rung: int) -> Callable[[Place], bool]:
    return lambda place: any(
        f".explore.r{rung}." in run_id and state == "running" for run_id, _, state, _ in place.glance()
    )


def after_a_checkpoint(place: Place) -> bool:
    folder = place.folder / "studies" / "kill" / "checkpoints"
    training = [(run_id, attempt) for run_id, _, state, attempt in place.glance() if state == "running"]
    return any((folder / run_id / f"attempt-{attempt}.pt").is_file() for run_id, attempt in training)


def both(one: Callable[[Place], bool], two: Callable[[Place], bool]) -> Callable[[Place], bool]:
    return lambda place: one(place) and two(place)


def check_refused(place: Place, driver: subprocess.Popen[str]) -> None:
    """A second driver beside a living one is turned away, and the first goes on."""
    code, output = place.call("resume", "kill")
    assert code == 2, output
    assert f"is being driven by process {driver.pid}" in output
    assert "Traceback" not in output
    assert driver.poll() is None


def check_interrupt(place: Place, driver: subprocess.Popen[str]) -> None:
    """Ctrl-C stops cleanly, leaves nothing in training, and says how to go on."""
    os.kill(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, output
    assert "tuner resume kill" in output
    assert "Traceback" not in output
    assert not any(run.state is State.RUNNING for run in place.read()[1])
    assert not place.ours()


def test_killed_and_interrupted_at_many_moments_the_study_is_the_same(
    make: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short runs, promotions and finalists come out the same; what the search left on a short rung is told once."""
    whole, place = uninterrupted(make(LADDER), monkeypatch), make(LADDER)
    place.die_at(in_phase("explore"), "run", "study.yaml")
    driver = place.start("resume", "kill", seconds_a_step=0.05)
    place.wait_for(at_runs(1), driver)
    check_refused(place, driver)
    check_interrupt(place, driver)
    moments = [
        ("on a short rung", both(at_runs(2), after_a_checkpoint)),
        ("on a long rung", both(on_rung(1), after_a_checkpoint)),
        ("in confirmation", both(in_phase("confirm"), after_a_checkpoint)),
        ("in the last run", in_phase("test")),
    ]
    for name, moment in moments:
        before = ended(place)
        place.die_at(moment, "resume", "kill")
        check_kept(before, place)
        assert len(ended(place)) < len(ended(whole)), f"killed {name}, something was left to do"
    before = ended(place)
    code, output = place.call("resume", "kill")
    assert code == 0, output
    check_kept(before, place)
    check_whole(place, whole)
    assert place.optuna_states()["PRUNED"] >= 1
    assert {run.spec.horizon.amount for run in ended(place).values()} == {50, 150}
    resumed = [run.run_id for run in ended(place).values() if run.result and run.result.resumed_at > 0]
    assert len(resumed) >= 2, "the runs that were killed after a checkpoint went on from there"
    finished = ended(place)
    code, output = place.call("resume", "kill")
    assert code == 0, output
    assert ended(place) == finished, "a finished study is not trained again"


@pytest.mark.ray
def test_on_ray_with_mlflow(make: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver, Ray's daemons, the workers and MLflow's mirror die together; the ledger equals the local one's."""
    whole = uninterrupted(make(STUDY), monkeypatch)
    assert whole.optuna_states() == {"COMPLETE": 8}
    place = make(STUDY.replace("executor: local", "executor: ray").replace("tracking: none\n", ""))

    names = place.die_at(both(at_runs(3), after_a_checkpoint), "run", "study.yaml")
    assert "raylet" in names
    assert len(names) > 4, names
    before = ended(place)
    driver = place.start("resume", "kill", seconds_a_step=0.005)
    place.wait_for(in_phase("confirm"), driver)
    check_interrupt(place, driver)
    code, output = place.call("resume", "kill")
    assert code == 0, output
    check_kept(before, place)
    check_whole(place, whole)
    assert any(run.result and run.result.resumed_at > 0 for run in ended(place).values())
    with closing(sqlite3.connect(place.folder / "mlflow.db")) as connection:
        shown = dict(connection.execute("select status, count(*) from runs group by status").fetchall())
    completed = sum(run.outcome is Outcome.COMPLETED for run in whole.read()[1])
    broken_off = len(whole.read()[1]) - completed
    expected = {"FINISHED": completed + 1} | ({"FAILED": broken_off} if broken_off else {})
    assert shown == expected, "every run once, and the study"
