"""What both adapters share: options that the study sets, reports, checkpoints as bytes. No framework is used here."""

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

    Args:
        name: the package or a module in it.
        extra: the extra of tuner that installs it.

    Raises:
        WorkloadError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        found = f"needs the package {name.partition('.')[0]!r}, which cannot be imported ({error})"
        todo = f'Install it where the runs train: pip install "tuner[{extra}]"'
        raise WorkloadError(wrong(Place("the adapter"), found, "an installed package", todo)) from error


def chosen(run: Run, name: str) -> Any:
    """Return the value that the study sets for a training option, or None if it sets none.

    An option at its default counts as not set, so that the user's own value stays. The option counts as honoured.
    """
    value = run.training[name]
    return None if value == TRAINING_OPTIONS[name].default else value


def horizon_steps(run: Run, updates_per_epoch: int) -> int:
    """Return the run's horizon in optimizer steps, for a loop with this number of updates in an epoch.

    ``run.total_steps`` counts batches and drops an incomplete accumulation at the end of an epoch. Both frameworks
    update the weights with an incomplete one.
    """
    return run.total_steps(updates_per_epoch * int(run.training["accumulation"]))


def refuse(run: Run, todo: Mapping[str, str]) -> None:
    """Refuse training options that the adapter cannot honour, before the run trains in vain.

    Call it after all honoured options were read.

    Args:
        run: the run.
        todo: for an option's name, what the user can do about it.

    Raises:
        WorkloadError: the study sets an option that was not read.
    """
    place = Place("the training function")
    for name, value in run.training.untaken.items():
        found = f"sets {name} to {value!r}, which this adapter cannot honour"
        raise WorkloadError(wrong(place, found, "what the study sets to be honoured", todo.get(name, "Leave it out.")))


def refuse_float16_on_cpu(run: Run) -> None:
    """Refuse float16 on a CPU, which both frameworks refuse or change in silence.

    Raises:
        WorkloadError: the run trains on a CPU in float16.
    """
    if run.device.type == "cpu" and run.training["precision"] == "float16":
        found = "trains in float16 on a CPU"
        todo = "Set precision to bfloat16, or device to cuda."
        raise WorkloadError(wrong(Place("the training function"), found, "bfloat16 or float32 on a CPU", todo))


@final
class Reporter:
    """Reports a framework's evaluations to a run, each step once, with the mean training loss since the last report.

    Args:
        run: the run.
        model: its weights are checked for values that are not finite.
        only: report only these metrics; None reports all.
    """

    def __init__(self, run: Run, model: nn.Module, only: Sequence[str] | None) -> None:
        self.step = 0
        self._run, self._model, self._only = run, model, only
        self._sum, self._count = 0.0, 0

    def train_loss(self, step: int, loss: float, steps: int) -> None:
        """Add the mean loss of the last ``steps`` steps. A loss that is not finite ends the run as diverged."""
        if not math.isfinite(loss):
            self._run.report(step=max(step, self.step + 1), train_loss=loss)
        self._sum, self._count = self._sum + loss * steps, self._count + steps

    def measured(self, step: int, metrics: Mapping[str, Scalar]) -> bool:
        """Report metrics if the model was updated since the last report; return whether it was."""
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
        """Continue after this step: everything up to it has been reported."""
        self.step = step


@contextmanager
def released() -> Iterator[None]:
    """Free what a loop held when an error ended it: batches, tensors on a GPU, the workers of a data loader.

    Otherwise the error keeps the loop's frames, and these keep their objects, until Python's garbage collector runs.
    """
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise


@final
class Late(Mapping[str, Any]):
    """A state that is made when it is first read, so that ``run.save`` costs nothing if no checkpoint is due."""

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
    """Return the content of all files below a folder by relative path, to put a framework's checkpoint into ours."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write the files that ``packed`` returned below a folder, and return the folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
