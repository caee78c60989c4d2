"""Where MLflow's data is, and how its web interface starts on it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tuner.core.errors import InputError
from tuner.tracking import places, view
from tuner.tracking.ui import serve_ui, ui_command, ui_environment


def test_a_relative_file_is_taken_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert places.check("sqlite:///mlflow.db") == f"sqlite:///{tmp_path}/mlflow.db"
    assert places.artifact_folder("sqlite:///mlflow.db") == tmp_path / "mlartifacts"
    assert places.target("sqlite:///mlflow.db") == places.target(f"sqlite:///{tmp_path}/mlflow.db")
    assert len(places.target("http://host")) == 12
    assert places.artifact_folder("http://host") is None


@pytest.mark.parametrize("uri", ["./mlruns", "file:///data/mlruns", "", "databricks", "sqlite://"])
def test_what_cannot_hold_a_study_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="expected sqlite:///FILE"):
        places.check(uri)


def test_no_password_stands_on_the_command_line() -> None:
    uri = "postgresql://ann:pass-word@host/mlflow"
    assert "pass-word" not in " ".join(ui_command(uri))
    assert ui_environment(uri)["MLFLOW_BACKEND_STORE_URI"] == uri


def test_a_server_is_named_and_not_started(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve_ui("http://ann:pass-word@host:5000/") == 0
    assert (
        capsys.readouterr().out == "MLflow is at http://ann:***@host:5000/#/experiments?workflowType=machine_learning\n"
    )


def test_data_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        serve_ui(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port is {port}"):
            serve_ui(f"sqlite:///{tmp_path}/mlflow.db", port=port)


def test_the_first_look_is_sorted_by_the_study_direction() -> None:
    state = json.loads(view.shared_view([], "minimize"))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`value`", True)
    assert not json.loads(view.shared_view([], "maximize"))["orderByAsc"]
