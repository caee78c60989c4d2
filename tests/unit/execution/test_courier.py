"""The courier between a source of runs and an executor that calls back, without Ray."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tuner.core.errors import StorageError
from tuner.core.ports import Signal
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
from tuner.execution.courier import Courier


def assignment(seed: int) -> Assignment:
    setting, workload = Setting("sgdm", {"learning_rate": 0.1}, {"kind": "cosine"}), WorkloadRef("m:W")
    spec = RunSpec("s", "sgdm", 0, Phase.EXPLORE, seed, Horizon(4, "steps"), setting, workload, "loss", "minimize")
    return Assignment(spec, attempt=1)


class Source:
    """Hands out given answers, then FINISHED, and records what it is told."""

    parallel = 2

    def __init__(self, *answers: Assignment | Signal) -> None:
        self.answers = list(answers)
        self.goes_on = True
        self.measured: list[Measurement] = []
        self.told: list[tuple[Assignment, RunResult]] = []
        self.released: list[Assignment] = []

    def ask(self) -> Assignment | Signal:
        return self.answers.pop(0) if self.answers else Signal.FINISHED

    def observe(self, assignment: Assignment, measurements: Sequence[Measurement]) -> bool:
        self.measured += measurements
        return self.goes_on

    def tell(self, assignment: Assignment, result: RunResult) -> None:
        self.told.append((assignment, result))

    def release(self, assignment: Assignment) -> None:
        self.released.append(assignment)


def handed_out(config: dict[str, Any] | None) -> Assignment:
    assert config is not None
    return Assignment.from_json(json.loads(config["assignment"]))


def test_a_run_goes_out_and_its_measurements_and_result_come_back_bit_for_bit() -> None:
    source = Source(assignment(1))
    courier = Courier(source, slots=2)
    assert handed_out(courier.hand_out("a")) == assignment(1)
    measured = Measurement(2, {"loss": 1 / 3}, 0.1 + 0.2, 0.25)
    assert courier.observe("a", {"measurements": json.dumps([measured.to_row()])})
    result = RunResult(Outcome.COMPLETED, 1 / 3, 4, measurements=(measured,))
    courier.end("a", {"result": json.dumps(result.to_json())}, died=False)
    assert source.measured == [measured]
    assert source.told == [(assignment(1), result)]
    assert courier.hand_out("b") is None
    assert courier.finished


def test_a_free_worker_idles_while_the_source_waits_and_stops_for_a_run() -> None:
    source = Source(assignment(1), *[Signal.WAIT] * 3, assignment(2))
    courier = Courier(source, slots=2)
    courier.hand_out("a")
    assert courier.hand_out("b") == {"assignment": ""}
    assert courier.hand_out("c") is None, "both slots are taken"
    assert courier.observe("b", {}), "nothing to train yet"
    assert not courier.observe("b", {}), "a run waits for the worker"
    courier.end("b", {}, died=False)
    assert handed_out(courier.hand_out("d")) == assignment(2)
    assert source.told == []


def test_an_idle_worker_makes_room_for_a_run_that_has_no_place() -> None:
    courier = Courier(Source(assignment(1), Signal.WAIT), slots=2)
    courier.hand_out("a")
    courier.hand_out("b")
    courier.note_pending({"a", "b"})
    assert not courier.observe("b", {})
    assert courier.hand_out("c") is None


@pytest.mark.parametrize(("report", "died"), [({}, True), (None, False)])
def test_a_worker_that_died_lost_its_run(report: dict[str, Any] | None, died: bool) -> None:
    source = Source(assignment(1))
    courier = Courier(source, slots=1)
    courier.hand_out("a")
    courier.death = "The worker was killed.\nand many more lines"
    courier.end("a", report, died)
    ((_, result),) = source.told
    assert (result.outcome, result.reason) == (Outcome.LOST, "the worker or its node died: The worker was killed.")


def test_what_the_source_stops_and_what_has_no_result_is_given_back() -> None:
    source = Source(assignment(1), assignment(2))
    courier = Courier(source, slots=2)
    courier.hand_out("a")
    courier.hand_out("b")
    source.goes_on = False
    assert not courier.observe("a", {})
    courier.end("a", {}, died=False)
    courier.release_all()
    assert source.released == [assignment(1), assignment(2)]
    assert source.told == []


@pytest.mark.parametrize("method", ["ask", "observe", "tell", "release"])
def test_an_error_of_the_source_is_kept_and_ends_the_experiment(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(assignment(1))

    def fail(*_: Any) -> Any:
        raise StorageError("the database is gone")

    monkeypatch.setattr(source, method, fail)
    courier = Courier(source, slots=1)
    if courier.hand_out("a") is not None:
        courier.observe("a", {})
        courier.end("a", {"result": json.dumps(RunResult(Outcome.FAILED).to_json())} if method == "tell" else {}, False)
    assert isinstance(courier.error, StorageError)
    assert courier.finished
