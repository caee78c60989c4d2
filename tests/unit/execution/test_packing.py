"""Workloads that workers cannot import, pickled."""

from __future__ import annotations

import pickle
import threading

import pytest

from tuner.core.errors import WorkloadError
from tuner.execution.packing import packed
from tuner.training.workloads.toy import ToyQuadratic


def test_what_cannot_be_sent_is_refused_at_once() -> None:
    class Locked(ToyQuadratic):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    with pytest.raises(WorkloadError, match=r"'__main__:Locked' is .*cannot be sent to Ray's workers: TypeError"):
        packed(Locked(), "__main__:Locked")


def test_what_can_be_sent_arrives() -> None:
    assert isinstance(pickle.loads(packed(ToyQuadratic(), "__main__:Toy")), ToyQuadratic)
