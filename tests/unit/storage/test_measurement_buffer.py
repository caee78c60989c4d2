"""Measurements of runs in training reach the ledger together, and none of an attempt that is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tuner.core.records import Measurement
from tuner.storage import buffer
from tuner.storage.buffer import Attempt, MeasurementBuffer


def at(step: int) -> Measurement:
    return Measurement(step, {"loss": 1.0 / step})


def test_is_written_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = [0.0], list[dict[Attempt, list[int]]]()
    monkeypatch.setattr(buffer.time, "monotonic", lambda: now[0])

    def write(waiting: Mapping[Attempt, Sequence[Measurement]]) -> None:
        written.append({attempt: [m.step for m in row] for attempt, row in waiting.items()})

    waiting = MeasurementBuffer(write)
    waiting.add(("a", 1), (at(1), at(2)))
    waiting.add(("b", 1), (at(1),))
    waiting.discard(("b", 1))
    waiting.discard(("never", 1))
    assert written == []
    now[0] = buffer.FLUSH_SECONDS + 0.1
    waiting.add(("a", 2), (at(3),))
    waiting.add(("a", 2), (at(4),))
    assert written == [{("a", 1): [1, 2], ("a", 2): [3]}]
    now[0] *= 2
    waiting.add(("a", 2), ())
    assert written[1:] == [{("a", 2): [4]}]


def test_what_could_not_be_written_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    now, tried = [0.0], list[int]()
    monkeypatch.setattr(buffer.time, "monotonic", lambda: now[0])

    def write(waiting: Mapping[Attempt, Sequence[Measurement]]) -> None:
        tried.append(sum(map(len, waiting.values())))
        if len(tried) == 1:
            raise OSError("the database is away")

    waiting = MeasurementBuffer(write)
    now[0] = 3.0
    with pytest.raises(OSError, match="away"):
        waiting.add(("a", 1), (at(1),))
    waiting.add(("a", 1), (at(2),))
    assert tried == [1, 2]
