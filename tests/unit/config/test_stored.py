"""Stored studies of every age: the documents below are as those versions wrote them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from analysis.records import make_spec

from tuner.config.spec import STORED_VERSION, StudySpec
from tuner.config.stored import says_workload_training, stored_spec, upgraded
from tuner.core.errors import InputError, StorageError
from tuner.core.records import Horizon

FIRST = """
{"study": "toy", "workload": {"path": "my.work:Load", "folder": "/work", "options": {}},
 "metric": {"name": "loss", "direction": "minimize"}, "horizon": {"epochs": 450},
 "space": {"name": "s", "arms": {"adamw": {"learning_rate": {"low": 1e-4, "high": 0.1, "scale": "log"},
   "known": [{"learning_rate": 3e-4, "source": "a paper"}]}}},
 "arms": ["adamw"], "opened_for": 12, "budget": {"trials_per_arm": 12, "hours": null, "gpu_hours": null},
 "sampler": "tpe", "seed": 3,
 "confirmation": {"seeds": 10, "max_runs": null, "alpha": 0.05, "min_effect": null, "references": true, "test": true},
 "resources": {"cpus": 1.0, "gpus": null, "threads": 1, "parallel": null, "device": "auto", "precision": "bfloat16"},
 "executor": "local", "checkpoint_seconds": 30.0, "retries": 3, "stop_after_failures": 3,
 "current": {"family": "adamw", "learning_rate": 1e-3, "schedule": {"kind": "constant"}}, "tracking": "none"}
"""
"""Before there was a ladder, before there were training options: the precision stands in ``resources``."""

LAST_UNVERSIONED = """
{"study": "toy", "workload": {"path": "my.work:Load", "folder": "/work", "options": {"width": 3}},
 "metric": {"name": "loss", "direction": "minimize"}, "horizon": {"steps": 900},
 "space": {"name": "s", "recipe": {"clip_norm": {"low": 0.1, "high": 10.0, "scale": "log"}},
   "arms": {"sgdm": {"recipe": {"average": "ema"}},
     "adamw": {"learning_rate": {"low": 1e-5, "high": 0.03, "scale": "log"},
       "known": [{"learning_rate": 2e-4, "recipe": {"clip_norm": 0.5}, "source": "a paper"}]}}},
 "arms": ["sgdm", "adamw"], "opened_for": 12, "budget": {"trials_per_arm": 15, "hours": null, "gpu_hours": null},
 "sampler": "surrogate", "fidelity": {"kind": "ladder", "rungs": 3, "reduction": 3, "horizons": [], "pruner": "median"},
 "allocation": "compare", "seed": 3,
 "confirmation": {"seeds": 10, "max_runs": null, "alpha": 0.05, "min_effect": null, "references": true, "test": false,
   "extensions": [], "noise_seeds": 4},
 "resources": {"cpus": 1.0, "gpus": null, "threads": 1, "parallel": null, "device": "auto"},
 "executor": "ray", "checkpoint_seconds": 30.0, "retries": 3, "stop_after_failures": 3,
 "current": {"family": "adamw", "learning_rate": 1e-3, "schedule": {"kind": "constant"}, "recipe": {"clip_norm": 3}},
 "recipe": {"accumulation": 2}, "workload_recipe": {"batch_size": 32, "batch_reference": 32},
 "known_recipes": ["vit-b-16"],
 "known": [{"found": "earlier", "origin": "study a", "family": "adamw", "learning_rate": 5e-4,
   "recipe": {"clip_norm": 2.0}}],
 "widen": true,
 "widened": [{"trials": 3, "proposed": {"sgdm": 12, "adamw": 12},
   "moved": [{"arm": "adamw", "dimension": "recipe.clip_norm", "side": "upper", "old": 10.0, "new": 100.0}]}],
 "tracking": null}
"""
"""The last one without a version: the training options are the ``recipe``, initial settings are ``known``."""


def read(text: str, **changes: Any) -> StudySpec:
    return stored_spec({**json.loads(text), **changes}, "toy")


def test_before_the_ladder_every_run_was_a_full_one() -> None:
    spec = read(FIRST)
    assert (spec.fidelity.kind, spec.allocation, spec.sampler) == ("full", "compare", "tpe")
    assert spec.rungs == (Horizon(450, "epochs"),)
    assert (spec.confirmation.noise_seeds, spec.confirmation.extensions) == (4, ())


def test_the_precision_that_stood_in_resources_is_a_training_option() -> None:
    spec = read(FIRST)
    assert spec.training.document == {"precision": "bfloat16"}
    assert {arm.default.training["precision"] for arm in spec.arms} == {"bfloat16"}
    assert "precision" not in spec.to_json()["resources"]


def test_what_a_workload_takes_for_granted_is_missing_before_the_training_options() -> None:
    assert not says_workload_training(json.loads(FIRST))
    assert says_workload_training(json.loads(LAST_UNVERSIONED))
    assert says_workload_training(read(LAST_UNVERSIONED).to_json())


def test_the_recipe_is_the_training_options() -> None:
    spec = read(LAST_UNVERSIONED)
    assert spec.training.document == {"accumulation": 2}
    assert spec.workload_training == {"batch_size": 32, "batch_reference": 32}
    assert spec.current is not None
    assert {name: spec.current.training[name] for name in ("clip_norm", "accumulation", "batch_size")} == {
        "clip_norm": 3.0,
        "accumulation": 2,
        "batch_size": 32,
    }
    assert spec.space.arm("sgdm").default.training["average"] == "ema"
    assert spec.space.arm("adamw").dimension("training.clip_norm") is not None


def test_known_settings_are_initial_settings() -> None:
    spec = read(LAST_UNVERSIONED)
    (earlier,) = spec.initial_settings
    assert earlier.written == {"learning_rate": 5e-4, "training": {"clip_norm": 2.0}}
    assert spec.known_recipes == ("vit-b-16",), "a key of its own, whose name stays"
    adamw = spec.space.arm("adamw")
    assert [setting.training["clip_norm"] for setting in adamw.initial_settings[1:]] == [3.0, 2.0, 0.5]
    assert set(adamw.origins.values()) == {"study a", "a paper"}


def test_a_widened_range_keeps_its_dimension() -> None:
    spec = read(LAST_UNVERSIONED)
    dimension = spec.space.arm("adamw").dimension("training.clip_norm")
    assert dimension is not None
    assert dimension.high == 100.0
    assert spec.widened[0].moved[0].dimension == "training.clip_norm"


@pytest.mark.parametrize("text", [FIRST, LAST_UNVERSIONED])
def test_an_upgraded_study_is_stored_in_the_present_version_and_reads_back(text: str) -> None:
    spec = read(text)
    document = spec.to_json()
    assert document["version"] == STORED_VERSION
    assert not {"recipe", "known", "workload_recipe"} & set(document)
    assert "recipe.clip_norm" not in json.dumps(document)
    assert stored_spec(json.loads(json.dumps(document)), "toy") == spec
    assert upgraded(document, "toy") == document


def test_a_study_of_now_needs_no_step() -> None:
    document = make_spec().to_json()
    assert upgraded(document, "toy") == document


def test_a_document_of_a_later_version_is_refused() -> None:
    with pytest.raises(StorageError, match=r"study 'toy' was stored by a later tuner \(document version 99\)"):
        read(LAST_UNVERSIONED, version=99)


def test_what_no_version_wrote_is_refused_with_its_place() -> None:
    with pytest.raises(InputError, match=r"study 'toy' in the database: flavour is not a key here"):
        read(LAST_UNVERSIONED, flavour="vanilla")
