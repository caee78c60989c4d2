"""What a study file leaves open is taken from its workload."""

from __future__ import annotations

from typing import Any

import pytest
from analysis.records import make_study

from tuner.config.spec import StudyFile
from tuner.core.errors import InputError
from tuner.resolve.asked import resolve
from tuner.training.workloads.toy import ToyQuadratic

TOY = "tuner.training.workloads.toy:ToyQuadratic"


def toy(**changes: Any) -> StudyFile:
    return make_study(**{"workload": TOY, "executor": "local", "space": "quick", "metric": None, **changes})


class TestResolve:
    def test_takes_from_the_workload_what_the_file_leaves_open(self) -> None:
        spec = resolve(toy())
        assert (spec.metric, spec.direction) == ("loss", "minimize")

    def test_the_file_wins(self) -> None:
        spec = resolve(toy(metric={"name": "error", "direction": "maximize"}))
        assert (spec.metric, spec.direction) == ("error", "maximize")

    def test_the_workloads_own_horizon(self) -> None:
        class Long(ToyQuadratic):
            horizon = {"epochs": 7}  # noqa: RUF012

        assert str(resolve(toy(horizon=None), Long()).horizon) == "7 epochs"

    def test_no_test_split_no_test_run(self) -> None:
        class Blind(ToyQuadratic):
            has_test = False

        assert not resolve(toy(), Blind()).confirmation.test
        assert resolve(toy()).confirmation.test

    def test_functions_cannot_say_metric_or_horizon(self) -> None:
        with pytest.raises(InputError, match="metric is missing"):
            resolve(toy(), lambda run: None)
        with pytest.raises(InputError, match="horizon is missing"):
            resolve(toy(horizon=None))
