"""What the whole suite shares: one thread a process, who runs what, and one Ray cluster of two CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports torch or numpy; processes that tests start inherit it. With more threads than one, a sum would
# depend on how many cores the machine has, and threads over small tensors wait longer than they compute.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

SERVERS = ("ray", "mlflow", "postgres")
"""Markers of tests that need a server. pytest-xdist gives all tests of one marker to one worker: one server each."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        server = next((name for name in SERVERS if item.get_closest_marker(name)), None)
        if server is not None and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(server))


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, with none of tuner's settings in the environment."""
    for name in [name for name in os.environ if name.startswith("TUNER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Executors that start while it stands use it, and leave it as it is."""
    from tuner.execution.ray_tune import RayTuneExecutor

    owner = RayTuneExecutor(local_cpus=2)
    owner.start()
    yield
    owner.close()
