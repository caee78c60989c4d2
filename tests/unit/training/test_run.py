from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.core.records import Outcome
from tuner.training.handle import Run
from tuner.training.run import train, warm_up
from tuner.training.workloads import Batch
from tuner.training.workloads.toy import ToyQuadratic

from .helpers import assign, trained


def test_an_exception_of_a_workload_is_a_failed_run() -> None:
    result = trained(assign(options={"fail_at": 20}))
    assert result.outcome is Outcome.FAILED
    assert result.reason == "RuntimeError: the toy fails at update 20, as it was told to"
    assert result.step == 19
    assert [m.step for m in result.measurements] == [16]
    assert "toy.py" in result.traceback
    assert "loop.py" not in result.traceback
    assert result.finished_at >= result.started_at > 0


def test_an_exception_of_a_function_is_a_failed_run() -> None:
    def function(run: Run) -> None:
        run.report(step=1, loss=1.0)
        raise ValueError("first line\nsecond line")

    result = trained(assign(), function)
    assert result.outcome is Outcome.FAILED
    assert result.reason == "ValueError: first line"
    assert result.step == 1
    assert "second line" in result.traceback
    assert "handle.py" not in result.traceback
    assert "test_run.py" in result.traceback


def test_a_gpu_that_is_full_is_said_in_words() -> None:
    class Full(ToyQuadratic):
        def loss(self, model: nn.Module, batch: Batch) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    result = trained(assign(), Full())
    assert result.outcome is Outcome.FAILED
    assert "use a smaller batch or model" in result.reason


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_stop_passes_through(stop: type[BaseException]) -> None:
    class Stopping(ToyQuadratic):
        def loss(self, model: nn.Module, batch: Batch) -> Tensor:
            raise stop

    def function(run: Run) -> None:
        raise stop

    targets: list[Any] = [Stopping(), function]
    for target in targets:
        with pytest.raises(stop):
            trained(assign(), target)


def test_a_run_can_be_closed_between_measurements() -> None:
    generator = train(assign())
    next(generator)
    generator.close()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_workload_that_cannot_be_loaded_is_a_failed_run() -> None:
    result = trained(assign("no_such_module:Thing"))
    assert result.outcome is Outcome.FAILED
    assert "no_such_module" in result.reason


def test_importing_the_entry_point_imports_no_compiler_and_no_scikit_learn() -> None:
    code = (
        "import sys, tuner.training.run\n"
        "heavy = ['torch._dynamo', 'torch._inductor', 'sympy', 'sklearn', 'optuna', 'ray', 'mlflow', 'sqlalchemy']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_warming_up_leaves_no_trace() -> None:
    warm_up()
