"""Checkpoint files of a run, one per attempt, each replaced atomically. The training decides what is in them."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tuner.core.records import Assignment, RunSpec
from tuner.core.values import digest

log = logging.getLogger(__name__)

_NAME = re.compile(r"attempt-(\d+)\.pt(\..*\.tmp)?")


class Checkpoints:
    """The checkpoints of one attempt of a run, and those of earlier attempts to resume from.

    Without a folder in the assignment nothing is written or read.
    """

    def __init__(self, assignment: Assignment) -> None:
        self._folder = Path(assignment.checkpoints) if assignment.checkpoints else None
        self._attempt = assignment.attempt
        self._spacing = assignment.checkpoint_seconds
        self._spec = _identity(assignment.spec)
        self._last = 0.0

    def due(self, train_seconds: float, evaluated: bool) -> bool:
        """Return whether to save now.

        Args:
            train_seconds: seconds of training so far. The assignment says how many must pass between checkpoints.
            evaluated: whether the run was just evaluated. With a spacing of 0 seconds each evaluation is saved.
        """
        if self._folder is None:
            return False
        if self._spacing <= 0:
            return evaluated
        return train_seconds - self._last >= self._spacing

    def save(self, state: dict[str, Any], train_seconds: float) -> None:
        """Replace this attempt's last checkpoint. A kill at any moment leaves either the old or the new file whole.

        Raises:
            OSError: the folder cannot be written.
        """
        assert self._folder is not None, "save() is called only where due() is True"
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"attempt-{self._attempt}.pt"
        draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with draft.open("wb") as file:
            torch.save({"spec": self._spec, "state": state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
        _sync_folder(self._folder)
        self._last = train_seconds

    def load(self) -> dict[str, Any] | None:
        """Return the state of this run's newest readable checkpoint, or None. Its tensors are on the CPU.

        Files are unpickled, so whoever can write to the folder can run code here.
        """
        for path in self._newest_first():
            try:
                saved = torch.load(path, map_location="cpu", weights_only=False)
                if saved["spec"] == self._spec:
                    state: dict[str, Any] = saved["state"]
                    return state
                log.warning("%s belongs to another run and is skipped", path)
            except Exception as error:  # a damaged file can make the unpickler raise any exception
                log.warning("%s cannot be read and is skipped: %s", path, error)
        return None

    def resumed(self, train_seconds: float) -> None:
        """Count the seconds to the next checkpoint from here, after a resume."""
        self._last = train_seconds

    def _newest_first(self) -> Iterator[Path]:
        if self._folder is None or not self._folder.is_dir():
            return
        attempts = [(int(match[1]), path) for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        yield from (path for _, path in sorted(attempts, reverse=True) if path.suffix == ".pt")


def _identity(spec: RunSpec) -> str:
    """Return the digest that ties a checkpoint to its run; older ones have the training options as ``recipe``."""
    data = spec.to_json()
    setting = dict(data["setting"])
    setting["recipe"] = setting.pop("training")
    return digest({**data, "setting": setting})


def discard(folder: str) -> None:
    """Remove the checkpoints of a run that has ended, and their folder if it is then empty."""
    place = Path(folder)
    if not folder or not place.is_dir():
        return
    for path in place.iterdir():
        if _NAME.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if not any(place.iterdir()):
        place.rmdir()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
