"""Train one assigned run: the only function that executors call. Where it runs is the executor's choice."""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import torch

from tuner.core.errors import Place, TunerError
from tuner.core.records import Assignment, Measurement, Outcome, RunResult
from tuner.training.environment import choose_device, device_name
from tuner.training.handle import Function, train_function
from tuner.training.loop import train_workload
from tuner.training.progress import Progress
from tuner.training.workloads.base import Workload
from tuner.training.workloads.load import check, load

_MACHINERY = frozenset(str(Path(__file__).parent / name) for name in ("run.py", "loop.py", "handle.py"))


def train(
    assignment: Assignment, workload: Workload | Function | None = None
) -> Generator[Measurement, None, RunResult]:
    """Train one run; yield its measurements and return its result.

    An exception, in the user's code or ours, becomes the outcome *failed* with its traceback. ``KeyboardInterrupt``,
    ``SystemExit`` and the closing of the generator pass through.

    Args:
        assignment: the run, and where its checkpoints are.
        workload: an instance of ``Workload``, or a function of one argument; None imports what the spec names.
    """
    started, progress = time.time(), Progress()
    try:
        target = load(assignment.spec.workload) if workload is None else check(workload, Place("the workload"))
        if isinstance(target, Workload):
            result = yield from train_workload(assignment, target, progress)
        else:
            result = yield from train_function(assignment, target, progress)
    except Exception as error:
        result = progress.ended(Outcome.FAILED, _reason(error, progress.step), traceback=_traceback(error))
    device = _device(assignment.spec.device)
    return replace(result, started_at=started, finished_at=time.time(), device=device, torch=torch.__version__)


def warm_up() -> None:
    """Make a first optimizer step, so that the first run is not slowed down: torch imports a compiler for it (1 s)."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.0)
    weight.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _reason(error: Exception, step: int) -> str:
    """Return one line that says what went wrong."""
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU ran out of memory after step {step}; use a smaller batch or model, or put fewer runs on a GPU "
            "(a larger share of it for each)"
        )
    lines = str(error).strip().splitlines()
    head = lines[0] if lines else ""
    if isinstance(error, TunerError):
        return head
    return f"{type(error).__name__}: {head}" if head else type(error).__name__


def _traceback(error: Exception) -> str:
    """Return the traceback as text, without the frames of this package that lead to the user's code."""
    frame: TracebackType | None = error.__traceback__
    while frame is not None and frame.tb_next is not None and frame.tb_frame.f_code.co_filename in _MACHINERY:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))


def _device(name: str) -> str:
    try:
        return device_name(choose_device(name))
    except TunerError:
        return name
