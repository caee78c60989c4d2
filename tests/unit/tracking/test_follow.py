"""How the mirror follows the ledger and how its process lives and ends, without MLflow."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import pytest

from tuner.core.settings import Settings
from tuner.tracking.description import TrackingDown
from tuner.tracking.follow import MirrorProcess, alone, follow
from tuner.tracking.null import NullTracker
from tuner.tracking.quiet import _Discreet, known_secrets


class Fake:
    """A mirror that is down for its first passes."""

    def __init__(self, down: int = 0) -> None:
        self.down = down
        self.passes: list[tuple[bool, bool | None]] = []

    def catch_up(self, *, hurry: bool = False, driven: bool | None = None) -> int:
        self.passes.append((hurry, driven))
        if len(self.passes) <= self.down:
            raise TrackingDown("MLflow did not answer")
        return 1


def test_the_last_pass_shows_all_and_knows_that_the_driver_is_gone() -> None:
    mirror = Fake()
    assert follow(mirror, lambda: len(mirror.passes) >= 2, pause=lambda _: None)
    assert mirror.passes == [(True, None), (True, None), (False, False)]


def test_waits_grow_while_mlflow_is_down_and_shrink_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    waits: list[float] = []
    mirror = Fake(down=7)
    assert follow(mirror, lambda: len(mirror.passes) >= 9, pause=waits.append)
    assert waits == [2, 4, 8, 16, 30, 30, 30, 1, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "MLflow did not answer. Trying again.",
        "MLflow is back; 1 change shown.",
    ]


def test_what_cannot_be_shown_in_time_is_left() -> None:
    began = time.monotonic()
    assert not follow(Fake(down=1000), lambda: True, interval=0.01, grace=lambda: 0.3)
    assert time.monotonic() - began < 5


def test_a_failure_that_is_nobodys_fault_does_not_end_the_mirror() -> None:
    class Odd(Fake):
        def catch_up(self, *, hurry: bool = False, driven: bool | None = None) -> int:
            if super().catch_up(hurry=hurry, driven=driven) and len(self.passes) == 1:
                raise ZeroDivisionError
            return 0

    mirror = Odd()
    assert follow(mirror, lambda: len(mirror.passes) >= 1, interval=0.01)
    assert len(mirror.passes) == 2


def tracker(tmp_path: Path, code: str) -> MirrorProcess:
    settings = Settings("sqlite:///a.db", "http://ann:pass-word@host", tmp_path)
    return MirrorProcess("digits", settings, (sys.executable, "-c", code))


def test_the_process_gets_its_urls_by_environment_and_a_session_of_its_own(tmp_path: Path) -> None:
    code = "import os, sys; sys.stdin.read(); print(os.environ['TUNER_STORAGE'], os.getsid(0) == os.getpid())"
    process = tracker(tmp_path, code)
    process.start()
    assert process.finish(20)
    assert process.log_file.read_text() == "sqlite:///a.db True\n"
    assert "pass-word" not in " ".join(MirrorProcess("digits", process.settings).command)


def test_a_mirror_that_does_not_end_is_ended(tmp_path: Path) -> None:
    process = tracker(tmp_path, "import time; time.sleep(60)")
    process.start()
    assert not process.finish(0.2)
    assert process.process is not None
    assert process.process.poll() is not None


def test_a_mirror_that_fails_or_never_starts_shows_nothing(tmp_path: Path) -> None:
    process = tracker(tmp_path, "raise SystemExit(1)")
    process.start()
    assert not process.finish(20)
    absent = MirrorProcess("digits", Settings(folder=tmp_path), ("/no/such/program",))
    absent.start()
    assert not absent.finish(1)


def test_a_second_mirror_waits_for_the_first(tmp_path: Path) -> None:
    code = "from tuner.tracking.follow import alone; from pathlib import Path; import sys\n"
    code += f"with alone(Path({str(tmp_path)!r})): print('in', flush=True)"
    with alone(tmp_path):
        process = tracker(tmp_path, code)
        process.start()
        time.sleep(0.8)
        assert process.log_file.read_text() == ""
    assert process.finish(20)
    assert process.log_file.read_text() == "in\n"


def test_nothing_secret_passes_through_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_TRACKING", "http://ann:p%40ss-word@host")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123")
    out = io.StringIO()
    stream = _Discreet(out, known_secrets())
    print("at http://ann:p%40ss-word@host with", "p@ss-word and", "tok-123", file=stream)
    stream.write("half a line: tok-")
    stream.write("123")
    stream.close()
    assert out.getvalue() == "at http://ann:***@host with *** and ***\nhalf a line: ***"


def test_the_null_tracker_is_done_at_once() -> None:
    tracker = NullTracker()
    tracker.start()
    assert tracker.finish(0.0)
    assert os.environ.get("MLFLOW_RUN_ID") is None
