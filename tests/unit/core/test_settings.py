from __future__ import annotations

from pathlib import Path

import pytest

from tuner.core.settings import DEFAULT_STORAGE, DEFAULT_TRACKING, Settings, hide_secrets


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUNER_STORAGE", "TUNER_TRACKING", "TUNER_FOLDER"):
        monkeypatch.delenv(name, raising=False)


def test_what_is_given_wins_over_the_environment_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_environment() == Settings(DEFAULT_STORAGE, DEFAULT_TRACKING, Path("studies"))
    monkeypatch.setenv("TUNER_STORAGE", "sqlite:///e.db")
    monkeypatch.setenv("TUNER_TRACKING", "none")
    monkeypatch.setenv("TUNER_FOLDER", "/data")
    assert Settings.from_environment() == Settings("sqlite:///e.db", "none", Path("/data"))
    assert Settings.from_environment("sqlite:///g.db", "http://h") == Settings(
        "sqlite:///g.db", "http://h", Path("/data")
    )
    monkeypatch.setenv("TUNER_STORAGE", "")
    assert Settings.from_environment().storage == DEFAULT_STORAGE


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://ann:pw@host/db", "postgresql://ann:***@host/db"),
        ("postgresql+psycopg://ann:p@s:s/w{o}rd%40@host:5432/db", "postgresql+psycopg://ann:***@host:5432/db"),
        ("mysql://:pw@host", "mysql://:***@host"),
        ("'http://ann:pw@a' and 'https://bob:pw@b' failed", "'http://ann:***@a' and 'https://bob:***@b' failed"),
        ("postgresql:///db?user=ann&password=pw&x=1", "postgresql:///db?user=ann&password=***&x=1"),
        ("http://h/?x=1&api_key=pw", "http://h/?x=1&api_key=***"),
        ("http://h/?TOKEN=pw", "http://h/?TOKEN=***"),
        ("sqlite:///tuner.db", "sqlite:///tuner.db"),
        ("study.yaml:3: seed is 'x'", "study.yaml:3: seed is 'x'"),
        ("postgresql://host:5432/db", "postgresql://host:5432/db"),
        ("mail ann@host: see http://h:80/a", "mail ann@host: see http://h:80/a"),
    ],
)
def test_secrets_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown
    assert hide_secrets(shown) == shown
