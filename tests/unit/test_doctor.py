"""What ``tuner doctor`` examines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner import doctor
from tuner.core.settings import Settings
from tuner.doctor import Finding, Health, examine


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_examine_ray", lambda address: "two runs at once")


def test_tells_and_writes_nothing(tmp_path: Path) -> None:
    settings = Settings(f"sqlite:///{tmp_path}/a.db", "none", tmp_path / "studies")
    findings = {finding.part: finding for finding in examine(settings)}
    assert list(findings) == ["python", "device", "ledger", "mlflow", "ray"]
    assert findings["python"].health is Health.TOLD
    not_there = f"{settings.storage}: not there yet; the first study makes it"
    assert findings["ledger"] == Finding("ledger", Health.WELL, not_there)
    assert findings["mlflow"] == Finding("mlflow", Health.WELL, "off")
    assert list(tmp_path.iterdir()) == []


def test_hides_secrets() -> None:
    url = "postgresql+psycopg://ann:hunter2@127.0.0.1:1/db"
    findings = examine(Settings(url, "http://ann:hunter2@127.0.0.1:1"))
    assert {finding.part for finding in findings if finding.health is Health.PROBLEM} == {"ledger", "mlflow"}
    assert "hunter2" not in str(findings)
