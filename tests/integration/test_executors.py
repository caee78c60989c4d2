"""One suite that every executor passes, with a scripted source of runs; then what only Ray can do."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tuner.catalog.families import FAMILIES
from tuner.core.errors import ExecutorError, StorageError
from tuner.core.ports import EXECUTORS, Executor, Signal
from tuner.core.records import (
    Assignment,
    Horizon,
    Measurement,
    Outcome,
    Phase,
    RunResult,
    RunSpec,
    Setting,
    WorkloadRef,
)
from tuner.execution import ray_tune
from tuner.execution.local import LocalExecutor
from tuner.execution.ray_tune import RayTuneExecutor

TOY = "tuner.training.workloads.toy:ToyQuadratic"
DIGITS = "tuner.training.workloads.digits:DigitsCNN"
MAKERS: dict[str, Callable[..., Executor]] = {
    "local": lambda **rest: LocalExecutor(),
    "ray": lambda **rest: RayTuneExecutor(**rest),
}
ONE_AT_A_TIME = (LocalExecutor,)
"""Executors that never train two runs at once, whatever the source allows."""
MARKS = {"ray": pytest.mark.ray}
ALL = [pytest.param(name, marks=MARKS.get(name, ())) for name in sorted(EXECUTORS)]

MODULE = '''
import os, torch
from tuner.training.workloads.toy import ToyQuadratic

class Slow(ToyQuadratic):
    """A toy whose metrics name the process that trains it."""
    def evaluate(self, model, split):
        return {**super().evaluate(model, split), "pid": os.getpid()}

class Interrupted(ToyQuadratic):
    def train_step(self, model, batch, bundle):
        raise KeyboardInterrupt

def train(run):
    """A training loop of the user."""
    torch.manual_seed(run.seed)
    model = torch.nn.Linear(4, 1)
    optimizer = run.optimizer(model)
    x = torch.randn(32, 4)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 3.0])
    total, first = run.total_steps(steps_per_epoch=8), 0
    if saved := run.load():
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    for step in range(first, total):
        optimizer.apply(run.schedule.multipliers(step, total))
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x).squeeze(-1), y)
        loss.backward()
        optimizer.step()
        if (step + 1) % 8 == 0 or step + 1 == total:
            run.report(step=step + 1, loss=loss.item(), pid=os.getpid())
            run.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1})
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder with a module of the user: two workloads and a function."""
    place = tmp_path_factory.mktemp("user")
    (place / "runs_of_the_suite.py").write_text(MODULE)
    before = list(sys.path)
    yield str(place)
    sys.path[:] = before
    sys.modules.pop("runs_of_the_suite", None)


@pytest.fixture(scope="module")
def make(request: pytest.FixtureRequest) -> Callable[..., Executor]:
    name = request.param
    assert name in MAKERS, f"executor {name}: this suite does not know how to make one; add it to MAKERS"
    if name == "ray":
        request.getfixturevalue("ray_cluster")
    return MAKERS[name]


def spec(path: str = TOY, seed: int = 1, steps: float = 40, unit: str = "steps", **rest: Any) -> RunSpec:
    options, folder, phase = rest.pop("options", {}), rest.pop("folder", ""), rest.pop("phase", Phase.EXPLORE)
    setting = Setting("sgdm", FAMILIES["sgdm"].default.hyperparameters, {"kind": "cosine", "warmup": 0.1})
    metric, direction = ("accuracy", "maximize") if path == DIGITS else ("loss", "minimize")
    reference = WorkloadRef(path, folder, options)
    spec = RunSpec("s", "sgdm", seed, phase, seed, Horizon(steps, unit), setting, reference, metric, direction)
    return replace(spec, device="cpu", **rest)


class Script:
    """A source that hands out given runs in waves and records what the executor reports."""

    def __init__(self, *waves: Sequence[RunSpec], parallel: int = 2, checkpoints: str = "") -> None:
        self.parallel = parallel
        self.checkpoints = checkpoints
        self.waves = [list(wave) for wave in waves]
        self.queue: list[tuple[RunSpec, int]] = []
        self.running: dict[str, Assignment] = {}
        self.results: dict[str, RunResult] = {}
        self.order: list[str] = []
        self.lost: list[str] = []
        self.released: list[str] = []
        self.measured: dict[str, list[Measurement]] = {}
        self.peak = self.waits = 0
        self.stopping = False
        self.watch: Callable[[Assignment, tuple[Measurement, ...]], bool] = lambda assignment, measured: True

    def ask(self) -> Assignment | Signal:
        if self.stopping:
            return self._wait() if self.running else Signal.FINISHED
        if not self.queue and not self.running and self.waves:
            self.queue = [(spec, 1) for spec in self.waves.pop(0)]
        if not self.queue:
            return self._wait() if self.running else Signal.FINISHED
        spec, attempt = self.queue.pop(0)
        folder = str(Path(self.checkpoints) / spec.run_id) if self.checkpoints else ""
        assignment = Assignment(spec, attempt, folder, checkpoint_seconds=0.0)
        assert spec.run_id not in self.running, "handed out twice at once"
        self.running[spec.run_id] = assignment
        self.order.append(spec.run_id)
        self.peak = max(self.peak, len(self.running))
        return assignment

    def _wait(self) -> Signal:
        self.waits += 1
        return Signal.WAIT

    def observe(self, assignment: Assignment, measurements: tuple[Measurement, ...]) -> bool:
        assert self.running[assignment.spec.run_id] == assignment
        self.measured.setdefault(assignment.spec.run_id, []).extend(measurements)
        return self.watch(assignment, measurements) and not self.stopping

    def tell(self, assignment: Assignment, result: RunResult) -> None:
        assert self.running.pop(assignment.spec.run_id) == assignment
        if result.outcome is Outcome.LOST:
            assert "died" in result.reason
            self.lost.append(assignment.spec.run_id)
            self.queue.append((assignment.spec, assignment.attempt + 1))
            return
        assert assignment.spec.run_id not in self.results, "told twice"
        self.results[assignment.spec.run_id] = result

    def release(self, assignment: Assignment) -> None:
        assert self.running.pop(assignment.spec.run_id) == assignment
        self.released.append(assignment.spec.run_id)


def numbers(result: RunResult) -> tuple[Any, ...]:
    curve = [(m.step, {k: v for k, v in m.values.items() if k != "pid"}) for m in result.measurements]
    return result.outcome, result.value, result.step, curve, dict(result.tests)


def mixed(folder: str) -> dict[str, RunSpec]:
    """A run of every kind."""
    function = "runs_of_the_suite:train"
    return {
        "toy": spec(seed=1),
        "dropout": spec(seed=2, options={"dropout": 0.3, "eval_every_steps": 7}),
        "test": spec(seed=3, phase=Phase.TEST),
        "digits": spec(DIGITS, seed=4, steps=2, unit="epochs"),
        "function": spec(function, seed=5, folder=folder),
        "failed": spec(seed=6, options={"fail_at": 18}),
        "diverged": spec(seed=7, options={"diverge_above": 0.01}),
        "unknown": spec("no_such_module_anywhere:Thing", seed=8),
        "two threads": spec(DIGITS, seed=9, steps=1, unit="epochs", threads=2),
    }


@pytest.fixture(scope="module")
def batch(make: Callable[..., Executor], folder: str) -> tuple[dict[str, RunSpec], Script]:
    """The runs of :func:`mixed`, and the source for which an executor has trained them all."""
    specs = mixed(folder)
    script = Script(list(specs.values()))
    executor = make()
    executor.run(script)
    executor.close()
    return specs, script


@pytest.fixture(scope="module")
def expected(folder: str) -> dict[str, RunResult]:
    """The same runs, trained without an executor."""
    from tuner.training.run import train

    results = {}
    for name, wanted in mixed(folder).items():
        training = train(Assignment(wanted, 1))
        while name not in results:
            try:
                next(training)
            except StopIteration as end:
                results[name] = end.value
    return results


every = pytest.mark.parametrize("make", ALL, indirect=True, scope="module")


@every
def test_the_same_run_gives_the_same_numbers_bit_for_bit(
    batch: tuple[dict[str, RunSpec], Script], expected: dict[str, RunResult]
) -> None:
    specs, script = batch
    assert set(script.results) == {s.run_id for s in specs.values()}
    for name, wanted in specs.items():
        assert numbers(script.results[wanted.run_id]) == numbers(expected[name]), name
    assert script.results[specs["test"].run_id].tests
    assert script.results[specs["digits"].run_id].outcome is Outcome.COMPLETED


@every
def test_a_bug_in_the_users_code_fails_at_once_with_its_traceback(
    batch: tuple[dict[str, RunSpec], Script],
) -> None:
    specs, script = batch
    failed = script.results[specs["failed"].run_id]
    assert failed.outcome is Outcome.FAILED
    assert failed.reason == "RuntimeError: the toy fails at update 18, as it was told to"
    assert "Traceback" in failed.traceback
    assert "toy.py" in failed.traceback
    assert script.order.count(specs["failed"].run_id) == 1
    assert not script.lost
    unknown = script.results[specs["unknown"].run_id]
    assert unknown.outcome is Outcome.FAILED
    assert "has no module 'no_such_module_anywhere'" in unknown.reason


@every
def test_divergence_is_an_outcome(batch: tuple[dict[str, RunSpec], Script]) -> None:
    specs, script = batch
    diverged = script.results[specs["diverged"].run_id]
    assert diverged.outcome is Outcome.DIVERGED
    assert diverged.value is None
    assert "loss became nan" in diverged.reason


@every
def test_measurements_arrive_in_order_and_nothing_is_left(batch: tuple[dict[str, RunSpec], Script]) -> None:
    specs, script = batch
    for wanted in specs.values():
        result, seen = script.results[wanted.run_id], script.measured.get(wanted.run_id, [])
        assert list(result.measurements)[: len(seen)] == seen, "the last measurements may arrive only with the result"
        assert result.finished_at >= result.started_at > 0
        assert result.outcome is Outcome.FAILED or result.torch
    assert not script.running
    assert not script.released
    assert script.order == [s.run_id for s in specs.values()]


@every
def test_a_source_that_waits_for_what_trains_is_asked_again(make: Callable[..., Executor]) -> None:
    waves = [[spec(seed=1), spec(seed=2, options={"sleep": 0.02})], [spec(seed=3)], [spec(seed=4), spec(seed=5)]]
    script = Script(*waves)
    make().run(script)
    assert len(script.results) == 5
    assert script.order == [s.run_id for wave in waves for s in wave]
    at_once = 1 if isinstance(make(), ONE_AT_A_TIME) else 2
    assert script.peak == at_once, f"{script.peak} runs at once, expected {at_once}"


@every
def test_no_more_runs_train_at_once_than_the_source_allows(make: Callable[..., Executor]) -> None:
    script = Script([spec(seed=i, options={"sleep": 0.005}) for i in range(4)], parallel=1)
    make().run(script)
    assert len(script.results) == 4
    assert script.peak == 1


@every
def test_what_the_source_does_not_want_any_more_is_stopped_and_given_back(make: Callable[..., Executor]) -> None:
    """The source stops one run first, then the whole study."""
    endless = [spec(seed=i, steps=40_000, options={"sleep": 0.01}) for i in (1, 3, 4, 5)]
    short = spec(seed=2)
    script = Script([endless[0], short, *endless[1:]])

    def watch(assignment: Assignment, measured: tuple[Measurement, ...]) -> bool:
        if assignment.spec == endless[0]:
            return measured[-1].step < 32
        script.stopping = script.stopping or (assignment.spec in endless and short.run_id in script.results)
        return True

    script.watch = watch
    began = time.monotonic()
    make().run(script)
    assert time.monotonic() - began < 50
    assert list(script.results) == [short.run_id]
    assert endless[0].run_id in script.released
    assert sorted([*script.released, short.run_id]) == sorted(script.order)
    assert len(script.order) < 5
    assert not script.running


@every
def test_an_empty_source_is_finished_at_once(make: Callable[..., Executor]) -> None:
    script = Script()
    make().run(script)
    assert not script.order


@every
@pytest.mark.parametrize("where", ["ask", "observe", "tell"])
def test_an_error_of_the_source_comes_through_as_it_is(
    make: Callable[..., Executor], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script([spec(seed=1, options={"sleep": 0.02}), spec(seed=2)])

    def fail(*args: Any) -> Any:
        raise StorageError("the database is gone")

    monkeypatch.setattr(script, where, fail)
    with pytest.raises(StorageError, match="the database is gone"):
        make().run(script)
    assert len(script.order) <= 2


@pytest.mark.parametrize("source", ["observe", "workload"])
def test_local_ctrl_c_gives_the_run_back(source: str, folder: str) -> None:
    path = TOY if source == "observe" else "runs_of_the_suite:Interrupted"
    script = Script([spec(path, folder=folder)])

    def interrupt(assignment: Assignment, measured: tuple[Measurement, ...]) -> bool:
        raise KeyboardInterrupt

    script.watch = interrupt
    with pytest.raises(KeyboardInterrupt):
        LocalExecutor().run(script)
    assert script.released == script.order
    assert not script.running


@every
def test_an_attempt_continues_from_the_checkpoint_of_another_executor(
    make: Callable[..., Executor], tmp_path: Path, folder: str
) -> None:
    """A run that one executor stops and the other continues has the same numbers as one without a stop."""
    wanted = spec("runs_of_the_suite:train", seed=5, folder=folder)
    whole = Script([wanted])
    LocalExecutor().run(whole)
    first = Script([wanted], checkpoints=str(tmp_path))
    first.watch = lambda assignment, measured: measured[-1].step < 16
    LocalExecutor().run(first)
    assert first.released == [wanted.run_id]
    second = Script([wanted], checkpoints=str(tmp_path))
    make().run(second)
    result = second.results[wanted.run_id]
    assert result.resumed_at > 0
    assert numbers(result) == numbers(whole.results[wanted.run_id])


# -- Ray alone


@pytest.mark.ray
def test_a_killed_worker_is_tried_again_from_its_checkpoint(ray_cluster: None, tmp_path: Path, folder: str) -> None:
    options = {"sleep": 0.01, "eval_every_steps": 8}
    wanted, other = spec("runs_of_the_suite:Slow", 1, 240, folder=folder, options=options), spec(seed=2)
    script = Script([wanted, other], checkpoints=str(tmp_path))
    killed: list[float] = []

    def watch(assignment: Assignment, measured: tuple[Measurement, ...]) -> bool:
        if assignment.spec == wanted and assignment.attempt == 1 and measured and not killed:
            killed.append(measured[-1].values["pid"])
            assert killed[0] != os.getpid()
            os.kill(int(killed[0]), signal.SIGKILL)
        return True

    script.watch = watch
    RayTuneExecutor().run(script)
    assert len(killed) == 1
    assert script.lost == [wanted.run_id]
    assert script.order.count(wanted.run_id) == 2
    assert script.order.count(other.run_id) == 1
    result = script.results[wanted.run_id]
    assert result.outcome is Outcome.COMPLETED
    assert result.resumed_at > 0
    whole = Script([wanted])
    LocalExecutor().run(whole)
    assert numbers(result) == numbers(whole.results[wanted.run_id])


@pytest.mark.ray
def test_workers_stay_warm_and_take_shares_of_a_cpu(ray_cluster: None, folder: str) -> None:
    """Twelve runs, three at once on two CPUs, in waves that leave workers idle, need at most three processes."""
    runs = [spec("runs_of_the_suite:Slow", i, folder=folder, options={"sleep": 0.005}) for i in range(12)]
    script = Script(runs[:6], runs[6:7], runs[7:], parallel=3)
    executor = RayTuneExecutor(cpus=0.5)
    executor.run(script)
    assert executor.slots() == 4
    assert script.peak == 3
    pids = [result.measurements[-1].values["pid"] for result in script.results.values()]
    assert len(pids) == 12
    assert len(set(pids)) <= 3
    assert os.getpid() not in pids


@pytest.mark.ray
@pytest.mark.parametrize(
    ("resources", "message"),
    [({"cpus": 64.0}, "a run asks for 64 CPUs and 0 GPUs"), ({"gpus": 2.0}, "a run asks for 1 CPU and 2 GPUs")],
)
def test_a_run_that_fits_nowhere_is_refused_at_once(
    ray_cluster: None, resources: dict[str, float], message: str
) -> None:
    script = Script([spec()])
    with pytest.raises(ExecutorError, match=message):
        RayTuneExecutor(**resources).run(script)
    assert not script.order


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "no-such-host.invalid:6379"])
def test_a_cluster_that_is_not_there_is_said_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tune.ray, "is_initialized", lambda: False)
    began = time.monotonic()
    with pytest.raises(ExecutorError, match=rf"^Ray on {re.escape(address)} cannot be used: (\[Errno|timed out)"):
        RayTuneExecutor(address).start()
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(("variable", "asked"), [("", "local"), ("auto", "auto")])
def test_without_an_address_a_cluster_is_started(variable: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor must not join a cluster that happens to run on this machine, unless RAY_ADDRESS says so."""
    given: list[Any] = []

    def init(*words: Any, **rest: Any) -> None:
        given.append(rest.get("address", *words))
        raise ConnectionError("no such place\nand many more lines")

    monkeypatch.setenv("RAY_ADDRESS", variable)
    monkeypatch.setattr(ray_tune.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_tune.ray, "init", init)
    with pytest.raises(ExecutorError, match=r"cannot be used: no such place$"):
        RayTuneExecutor().start()
    assert given == [asked]


@pytest.mark.ray
def test_nothing_is_left_behind(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray_tune.tempfile, "tempdir", str(tmp_path))
    script = Script([spec()])
    executor = RayTuneExecutor()
    executor.run(script)
    executor.close()
    assert ray.is_initialized(), "it was not started by this executor"
    assert not ray_tune._couriers
    assert not list(tmp_path.iterdir())
    end = time.monotonic() + 20
    while (workers() or ray.available_resources().get("CPU", 0) < 2) and time.monotonic() < end:
        time.sleep(0.1)
    assert not workers()
    assert ray.available_resources()["CPU"] == 2


def workers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "TunerWorker" in " ".join(_words(p))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
