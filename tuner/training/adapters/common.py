"""What the adapters share: what the study sets, reports, checkpoints as bytes; nothing of either framework."""

from __future__ import annotations

import importlib
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, final

from torch import nn

from tuner.catalog.training_options import TRAINING_OPTIONS
from tuner.core.errors import Place, WorkloadError, wrong
from tuner.core.values import Scalar
from tuner.training.handle import Run
from tuner.training.loop import weights_finite


def package(name: str, extra: str) -> Any:
    """Import a package that an adapter needs.

    Raises:
        WorkloadError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        found = f"needs the package {name.partition('.')[0]!r}, which cannot be imported ({error})"
        todo = f'Install it where the runs train: pip install "tuner[{extra}]"'
        raise WorkloadError(wrong(Place("the adapter"), found, "that it is installed", todo)) from error


def chosen(run: Run, name: str) -> Any:
    """Return what the study sets for a training option, or None where it leaves the user's own.

    An option at its default sets nothing. The option counts as honoured.
    """
    value = run.training[name]
    return None if value == TRAINING_OPTIONS[name].default else value


def horizon_steps(run: Run, updates_per_epoch: int) -> int:
    """Return the run's horizon in optimizer steps, for a loop that updates so often in an epoch.

    ``run.total_steps`` counts batches, and drops an accumulation that an epoch does not fill. Both frameworks update
    with what there is.
    """
    return run.total_steps(updates_per_epoch * int(run.training["accumulation"]))


def refuse(run: Run, todo: Mapping[str, str]) -> None:
    """Refuse at once what the adapter cannot honour of the training options, and would fail for at the end of the run.

    ``todo`` says what to do about an option. Call it when all that is honoured has been read.

    Raises:
        WorkloadError: the study sets an option that nobody read.
    """
    place = Place("the training function")
    for name, value in run.training.untaken.items():
        found = f"sets {name} to {value!r}, which this adapter cannot honour"
        raise WorkloadError(wrong(place, found, "what the study sets to be honoured", todo.get(name, "Leave it out.")))


def refuse_float16_on_cpu(run: Run) -> None:
    """Refuse what both frameworks refuse or change in silence.

    Raises:
        WorkloadError: the run trains on a CPU in float16.
    """
    if run.device.type == "cpu" and run.training["precision"] == "float16":
        found = "trains in float16 on a CPU"
        todo = "Set precision to bfloat16, or device to cuda."
        raise WorkloadError(wrong(Place("the training function"), found, "bfloat16 or float32 there", todo))


@final
class Reporter:
    """Hands a framework's evaluations to a run: once for each step, with the mean training loss since the last."""

    def __init__(self, run: Run, model: nn.Module, only: Sequence[str] | None) -> None:
        self.step = 0
        self._run, self._model, self._only = run, model, only
        self._sum, self._count = 0.0, 0

    def train_loss(self, step: int, loss: float, steps: int) -> None:
        """Take the mean loss of the last ``steps`` steps. One that is not finite ends the run as diverged."""
        if not math.isfinite(loss):
            self._run.report(step=max(step, self.step + 1), train_loss=loss)
        self._sum, self._count = self._sum + loss * steps, self._count + steps

    def measured(self, step: int, metrics: Mapping[str, Scalar]) -> bool:
        """Report metrics, if the model was updated since the last report; say whether it was."""
        if step <= self.step:
            return False
        kept = {name: value for name, value in metrics.items() if self._only is None or name in self._only}
        if not weights_finite(self._model):
            self._run.report(step=step, weights=math.nan)
        means = {"train_loss": self._sum / self._count} if self._count else {}
        self._run.report(step=step, **{**means, **kept})
        self.step, self._sum, self._count = step, 0.0, 0
        return True

    def resume(self, step: int) -> None:
        """Note that everything up to this step has been reported."""
        self.step = step


@contextmanager
def released() -> Iterator[None]:
    """Let go of what an unwound loop holds, at once: batches, tensors on a GPU, the workers of a data loader.

    The error would keep the frames, and they all of it, until Python looks for cycles.
    """
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


@final
class Late(Mapping[str, Any]):
    """A state that is made when it is read, so that ``run.save`` costs nothing where no checkpoint is due."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make = make

    @cached_property
    def _state(self) -> Mapping[str, Any]:
        return self._make()

    def __getitem__(self, name: str) -> Any:
        return self._state[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def packed(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder by its relative path: a framework's checkpoint, to be saved as one of ours."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write what ``packed`` returned below a folder, and return the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
