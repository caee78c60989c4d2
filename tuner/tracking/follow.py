"""Runs the mirror in a process of its own, so that neither ``import mlflow`` nor a slow server delays the driver.

A pipe joins the two. The driver closes it when it is done, and the driver's death closes it too, so no mirror outlives
its study. What is shown is in :mod:`tuner.tracking.mlflow_runs`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from tuner.core.errors import TunerError
from tuner.core.settings import Settings, hide_secrets
from tuner.tracking.quiet import hide_secrets_in_output

log = logging.getLogger(__name__)

LOG_FILE = "mirror.log"
LOCK_FILE = "mirror.lock"
GRACE_SECONDS = 60.0
"""How long a mirror goes on after its driver died, to show the last changes."""
DOWN_SECONDS = 5.0
"""How long the mirror waits at the end for an MLflow that does not answer; the ledger keeps everything."""
LONGEST_WAIT = 30.0
"""The most seconds between two tries."""
NICENESS = 10
"""How far the mirror's process stands back behind the training: 0 is not at all, 19 lets it starve."""


class Mirror(Protocol):
    """What :func:`follow` drives: :class:`tuner.tracking.mlflow_runs.MlflowMirror`, or a fake in tests."""

    def catch_up(self, *, hurry: bool = False, driven: bool | None = None) -> int: ...


def follow(
    mirror: Mirror,
    until: Callable[[], bool],
    interval: float = 1.0,
    *,
    grace: Callable[[], float] = lambda: GRACE_SECONDS,
    pause: Callable[[float], object] = time.sleep,
) -> bool:
    """Show the ledger's changes until ``until()`` is true; return whether all of them are shown.

    Args:
        mirror: shows what has changed.
        until: whether no more changes come.
        interval: seconds between two passes; after each failed pass the wait doubles, to at most ``LONGEST_WAIT``.
        grace: how many seconds to go on after ``until()`` for the last changes; ``DOWN_SECONDS`` at most if MLflow is
            down.
        pause: waits for that many seconds, and may return early once ``until()`` is true.
    """
    wait, ended_at, down = interval, 0.0, False
    while True:
        done = until()
        if done and not ended_at:
            ended_at, wait = time.monotonic(), interval
        try:
            shown = mirror.catch_up(hurry=not done, driven=False if done else None)
        except Exception as error:
            if not down:
                log.warning("%s. Trying again.", error, exc_info=not isinstance(error, TunerError))
            down, wait = True, min(wait * 2, LONGEST_WAIT)
        else:
            if down:
                log.warning("MLflow is back; %d %s shown.", shown, "change" if shown == 1 else "changes")
            down, wait = False, interval
            if done:
                return True
        if done:
            left = ended_at + (min(grace(), DOWN_SECONDS) if down else grace()) - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(wait, left))
        else:
            pause(wait)


def serve(mirror: Mirror, stdin: IO[str], folder: Path | None = None) -> int:
    """Follow the ledger until ``stdin`` is closed or the driver is dead: the body of :class:`MirrorProcess`.

    Args:
        mirror: shows what has changed.
        stdin: each line is a number of seconds: how long the driver waits for the last changes.
        folder: the study's; a lock in it makes a second mirror wait for the first. None takes no lock.

    Returns:
        The exit code: 0 if everything is shown, else 1.
    """
    hide_secrets_in_output()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING, stream=sys.stderr)
    with suppress(OSError, AttributeError):
        os.nice(NICENESS)
    closed, grace, driver = threading.Event(), [GRACE_SECONDS], os.getppid()

    def read() -> None:
        with suppress(OSError, ValueError):
            for line in stdin:
                grace[0] = float(line)
        closed.set()

    threading.Thread(target=read, daemon=True).start()

    def until() -> bool:
        return closed.is_set() or os.getppid() != driver

    with alone(folder):
        return 0 if follow(mirror, until, grace=lambda: grace[0], pause=closed.wait) else 1


@contextmanager
def alone(folder: Path | None) -> Iterator[None]:
    """Wait until this is the study's only mirror; two at once could create the same run twice."""
    try:
        import fcntl
    except ImportError:  # Windows
        folder = None
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("ab") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class MirrorProcess:
    """The :class:`tuner.core.ports.Tracker` of MLflow: runs ``tuner mirror STUDY --follow`` beside the driver.

    The process gets its URLs in the environment, because every user of the machine can read a command line. It has a
    session of its own, so that Ctrl-C reaches only the driver.

    Args:
        study: the study's name.
        settings: where the ledger, MLflow and the study's folder are.
        command: the command to run; None takes the one above.
    """

    def __init__(self, study: str, settings: Settings, command: tuple[str, ...] | None = None) -> None:
        self.study = study
        self.settings = settings
        self.command = command or (sys.executable, "-m", "tuner", "mirror", study, "--follow")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        return self.settings.folder / self.study / LOG_FILE

    def start(self) -> None:
        """Start the process. If that fails, a warning is logged and nothing is shown."""
        try:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            with self.log_file.open("ab") as output:
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=self._environment(),
                    start_new_session=True,
                )
        except OSError as error:
            log.warning("the mirror did not start, so MLflow shows nothing: %s", hide_secrets(str(error)))

    def finish(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the mirror to show the last changes; return whether all are shown."""
        process = self.process
        if process is None:
            return False
        assert process.stdin is not None
        with suppress(OSError):
            process.stdin.write(f"{seconds:.3f}\n".encode())
            process.stdin.close()
        try:
            return process.wait(max(seconds, 0.0)) == 0
        except subprocess.TimeoutExpired:
            process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return False

    def _environment(self) -> dict[str, str]:
        ours = {
            "TUNER_STORAGE": self.settings.storage,
            "TUNER_TRACKING": self.settings.tracking,
            "TUNER_FOLDER": str(self.settings.folder),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        return {**os.environ, **ours}
