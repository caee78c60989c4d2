from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, asdict, fields

import pytest
from analysis.records import started

from tuner.core.records import (
    Assignment,
    Horizon,
    Measurement,
    Outcome,
    Phase,
    RunRecord,
    RunResult,
    RunSpec,
    Setting,
    State,
    WorkloadRef,
)
from tuner.core.values import derive_seed, digest, short


def test_a_run_spec_survives_json() -> None:
    for run in started().runs:
        assert RunSpec.from_json(json.loads(json.dumps(run.spec.to_json()))) == run.spec


def test_an_assignment_survives_json() -> None:
    spec = started().runs[0].spec
    one = Assignment(spec, 3, "/x", 1.5)
    assert Assignment.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_result_survives_json(outcome: Outcome) -> None:
    measured = (Measurement(1, {"a": 1 / 3, "b": 1e-300}, 0.1, 0.2), Measurement(2, {"a": 0.1 + 0.2}))
    one = RunResult(outcome, 1 / 3, 7, "why", "tb", measured, {"t": 1.0}, "cpu", "2.13", 1.0, 2.0, 3.0, 4.0, 5)
    assert RunResult.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_measurement_is_one_row_in_json_and_in_checkpoints() -> None:
    measurement = Measurement(7, {"loss": 1 / 3, "b": 1e-300}, 0.1 + 0.2, 0.2)
    row = (7, {"loss": 1 / 3, "b": 1e-300}, 0.1 + 0.2, 0.2)
    assert measurement.to_row() == row, "checkpoints of runs that began before have these rows"
    assert Measurement.from_row(row) == measurement
    assert Measurement.from_row(json.loads(json.dumps(row))) == measurement


def test_run_ids_say_what_is_trained() -> None:
    spec = started().runs[0].spec
    assert spec.run_id == f"sgdm.0000.explore.r0.s{spec.seed}"
    ids = {run.run_id for run in started().runs}
    assert len(ids) == len(started().runs)


def test_a_fingerprint_knows_the_setting_not_its_order() -> None:
    one = Setting("sgdm", {"a": 1.0, "b": 2.0}, {"kind": "cosine", "warmup": 0.0})
    two = Setting("sgdm", {"b": 2.0, "a": 1.0}, {"warmup": 0.0, "kind": "cosine"})
    three = Setting("sgdm", {"b": 2.0, "a": 1.0}, {"warmup": 0.1, "kind": "cosine"})
    assert one.fingerprint == two.fingerprint != three.fingerprint
    assert len(one.fingerprint) == 12
    assert str(three) == "sgdm b=2 a=1, cosine (warmup 0.1)"
    assert str(one) == "sgdm a=1 b=2, cosine"


def test_records_are_frozen() -> None:
    for record in (Horizon(1, "steps"), WorkloadRef("a:b"), Measurement(1, {}), RunResult(Outcome.LOST)):
        with pytest.raises(FrozenInstanceError):
            setattr(record, next(iter(fields(record))).name, None)


def test_horizons_are_at_least_a_step() -> None:
    assert [Horizon(a, "steps").steps(99) for a in (0.2, 1, 7)] == [1, 1, 7]
    assert [Horizon(a, "epochs").steps(10) for a in (0.01, 0.5, 3)] == [1, 5, 30]


class TestScore:
    @staticmethod
    def run(outcome: Outcome | None, value: float | None = None) -> RunRecord:
        queued = RunRecord(started().runs[0].spec, State.QUEUED)
        return queued if outcome is None else queued.ended(RunResult(outcome, value))

    @pytest.mark.parametrize("sign", [1, -1])
    def test_more_is_better_in_either_direction(self, sign: int) -> None:
        assert self.run(Outcome.COMPLETED, 0.25).score(sign) == sign * 0.25
        assert self.run(Outcome.COMPLETED, 0.0).score(sign) == 0.0

    @pytest.mark.parametrize("outcome", [None, Outcome.LOST])
    def test_a_run_that_says_nothing_has_none(self, outcome: Outcome | None) -> None:
        assert math.isnan(self.run(outcome).score(1))
        assert math.isnan(self.run(outcome).score(-1))

    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize(
        ("outcome", "value"),
        [
            (Outcome.DIVERGED, None),
            (Outcome.FAILED, None),
            (Outcome.PRUNED, None),
            (Outcome.PRUNED, 0.9),
            (Outcome.COMPLETED, None),
            (Outcome.COMPLETED, math.nan),
            (Outcome.COMPLETED, math.inf),
            (Outcome.COMPLETED, -math.inf),
        ],
    )
    def test_a_run_without_a_finite_value_is_the_worst(self, outcome: Outcome, value: float | None, sign: int) -> None:
        assert self.run(outcome, value).score(sign) == -math.inf


def test_a_run_began_when_its_result_says_or_its_last_attempt() -> None:
    spec = started().runs[0].spec
    waiting = RunRecord(spec, State.QUEUED)
    running = RunRecord(spec, State.RUNNING, 1, started_at=5.0)
    assert (waiting.began, running.began) == (0.0, 5.0)
    assert running.ended(RunResult(Outcome.COMPLETED, 0.5)).began == 5.0
    assert running.ended(RunResult(Outcome.COMPLETED, 0.5, started_at=7.0)).began == 7.0


def test_an_ended_run_keeps_the_measurements_of_its_result() -> None:
    curve = (Measurement(1, {"a": 0.5}),)
    run = RunRecord(started().runs[0].spec, State.RUNNING, 2).ended(RunResult(Outcome.PRUNED, measurements=curve))
    assert (run.state, run.attempt, run.outcome, run.value, run.curve) == (
        State.ENDED,
        2,
        Outcome.PRUNED,
        None,
        curve,
    )


@pytest.mark.parametrize(
    ("horizon", "text"),
    [
        (Horizon(1, "epochs"), "1 epoch"),
        (Horizon(1, "steps"), "1 step"),
        (Horizon(0.5, "epochs"), "0.5 epochs"),
        (Horizon(18, "epochs"), "18 epochs"),
    ],
)
def test_one_of_a_unit_is_singular(horizon: Horizon, text: str) -> None:
    assert str(horizon) == text


def test_seeds_are_stable_and_apart() -> None:
    assert derive_seed(0, "search") == 2114957890, "the same on every machine and version"
    seeds = {derive_seed(s, arm, i) for s in range(5) for arm in ("a", "b") for i in range(200)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(1, "2") != derive_seed("1", 2)


def test_digests_ignore_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1}) != digest({"a": 1, "b": [2, 1]})


def test_short() -> None:
    assert [short(v) for v in (True, 12, 1.0, 1e-9, "x", None)] == ["True", "12", "1", "1e-09", "x", "-"]


def test_phases_and_outcomes_are_texts() -> None:
    assert [str(p) for p in Phase] == ["explore", "noise", "confirm", "reference", "test"]
    assert [str(o) for o in Outcome] == ["completed", "pruned", "diverged", "failed", "lost"]
    assert json.dumps(asdict(started().runs[0].spec))


def test_a_setting_stored_with_a_recipe_reads_back() -> None:
    stored = {"family": "sgd", "hyperparameters": {}, "schedule": {}, "recipe": {"clip_norm": 1.0}}
    setting = Setting.from_json(stored)
    assert setting.training == setting.recipe == {"clip_norm": 1.0}
    assert setting == Setting("sgd", {}, {}, training={"clip_norm": 1.0})
