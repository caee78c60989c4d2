"""What several suites share: one Ray cluster of two CPUs for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Executors that start while it stands use it, and leave it as it is."""
    from tuner.execution.ray_tune import RayTuneExecutor

    owner = RayTuneExecutor(local_cpus=2)
    owner.start()
    yield
    owner.close()
