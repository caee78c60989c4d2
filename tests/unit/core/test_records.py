from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict, fields

import pytest
from analysis.records import started

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
    found = (Measurement(1, {"a": 1 / 3, "b": 1e-300}, 0.1, 0.2), Measurement(2, {"a": 0.1 + 0.2}))
    one = RunResult(outcome, 1 / 3, 7, "why", "tb", found, {"t": 1.0}, "cpu", "2.13", 1.0, 2.0, 3.0, 4.0, 5)
    assert RunResult.from_json(json.loads(json.dumps(one.to_json()))) == one


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
