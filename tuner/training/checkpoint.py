"""Checkpoints of a run, one file per attempt, written whole or not at all; what is in them is the trainer's."""

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
    """The folder of a run's checkpoints, seen from one attempt. With no folder nothing is written or read."""

    def __init__(self, assignment: Assignment) -> None:
        self._folder = Path(assignment.checkpoints) if assignment.checkpoints else None
        self._attempt = assignment.attempt
        self._spacing = assignment.checkpoint_seconds
        self._spec = _identity(assignment.spec)
        self._last = 0.0

    def due(self, train_seconds: float, evaluated: bool) -> bool:
        """Whether to save now: enough seconds of training have passed; with a spacing of 0, at each evaluation."""
        if self._folder is None:
            return False
        if self._spacing <= 0:
            return evaluated
        return train_seconds - self._last >= self._spacing

    def save(self, state: dict[str, Any], train_seconds: float) -> None:
        """Write a state in place of this attempt's last one; a kill at any moment leaves one of the two.

        Raises:
            OSError: the folder cannot be written.
        """
        assert self._folder is not None, "due() said so"
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
        """Return the state of the newest attempt that can be read and is of this very run, or None.

        Tensors come to the CPU. Files are unpickled: the folder is as trusted as the code that wrote it.
        """
        for path in self._newest_first():
            try:
                saved = torch.load(path, map_location="cpu", weights_only=False)
                if saved["spec"] == self._spec:
                    state: dict[str, Any] = saved["state"]
                    return state
                log.warning("%s is of another run and is skipped", path)
            except Exception as error:  # a torn file can make the unpickler raise anything
                log.warning("%s cannot be read and is skipped: %s", path, error)
        return None

    def resumed(self, train_seconds: float) -> None:
        """Count the spacing from here, after a resume."""
        self._last = train_seconds

    def _newest_first(self) -> Iterator[Path]:
        if self._folder is None or not self._folder.is_dir():
            return
        found = [(int(match[1]), path) for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        yield from (path for _, path in sorted(found, reverse=True) if path.suffix == ".pt")


def _identity(spec: RunSpec) -> str:
    """What a checkpoint is recognised by; the training options keep the name that they had in older checkpoints."""
    data = spec.to_json()
    setting = dict(data["setting"])
    setting["recipe"] = setting.pop("training")
    return digest({**data, "setting": setting})


def discard(folder: str) -> None:
    """Remove the checkpoints of a run that has ended, and their folder if nothing else is in it."""
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
