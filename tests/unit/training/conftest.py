"""What the tests of the adapters share: where their files go, and who collects the garbage."""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def little_garbage() -> Iterator[None]:
    """Accelerate collects garbage at the start of each training, among all that the suite has imported: 0.3 s."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder for temporary files whose name is short, for the loaders' sockets lie there; and one to stand in."""
    folder = tempfile.mkdtemp(prefix="t-")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
