"""Starts MLflow's web interface on a study's data."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from tuner.core.errors import InputError
from tuner.core.settings import hide_secrets
from tuner.tracking import places
from tuner.tracking.view import TRAINING

LOOPBACK = "127.0.0.1"


def ui_command(tracking_uri: str, host: str = LOOPBACK, port: int = 5000) -> list[str]:
    """Return the command that serves a database; its URI, which may hold a password, is in :func:`ui_environment`.

    >>> ui_command("sqlite:////data/mlflow.db", port=5001)[1:]
    ['-m', 'mlflow', 'server', '--default-artifact-root', 'file:///data/mlartifacts', '--host', '127.0.0.1', '--port', \
'5001', '--workers', '1', '--uvicorn-opts', '--log-level warning']
    """
    folder = places.artifact_folder(places.check(tracking_uri))
    assert folder is not None, "a server is opened, not started"
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--default-artifact-root", folder.as_uri()),
        *("--host", host),
        *("--port", str(port)),
        *("--workers", "1"),
        *("--uvicorn-opts", "--log-level warning"),
    ]


def ui_environment(tracking_uri: str) -> dict[str, str]:
    """Return the environment for :func:`ui_command`: the data's URI, no telemetry, two processes instead of ten."""
    return {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": places.check(tracking_uri),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "PYTHONWARNINGS": "ignore",
    }


def serve_ui(tracking_uri: str, host: str = LOOPBACK, port: int = 5000, say: Callable[[str], None] = print) -> int:
    """Say where MLflow's server is, or serve a database until Ctrl-C.

    Args:
        tracking_uri: a server's address or a database.
        host: the address to serve a database at.
        port: the port to serve it at.
        say: receives one line with the address.

    Returns:
        The exit code.

    Raises:
        InputError: the database does not exist, or the port cannot be used.
    """
    uri = places.check(tracking_uri)
    if places.is_server(uri):
        say(f"MLflow is at {hide_secrets(uri).rstrip('/')}/#/experiments?{TRAINING}")
        return 0
    path = places.sqlite_file(uri)
    if path is not None and not path.is_file():
        raise InputError(
            f"tracking is {tracking_uri!r}, and {path} does not exist; expected the MLflow data of a study. Run "
            "this in the study's folder, name its data with --tracking, or run a study first."
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"--port is {port}: {host}:{port} cannot be used ({error.strerror}); expected a free port."
            ) from None
    say(f"MLflow is at http://{host}:{port}/#/experiments?{TRAINING} in a few seconds (Ctrl-C stops it)")
    process = subprocess.Popen(ui_command(uri, host, port), env=ui_environment(uri))
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
