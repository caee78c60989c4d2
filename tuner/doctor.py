"""Examines what a study needs: Python and its packages, the device, the ledger, MLflow, Ray; nothing is written."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tuner.core.errors import ExecutorError, TunerError
from tuner.core.settings import Settings, hide_secrets
from tuner.storage.ledger import Ledger

PACKAGES = ("torch", "optuna", "ray", "mlflow", "sqlalchemy")


class Health(StrEnum):
    """Whether a part works; TOLD where there is nothing to try."""

    TOLD = "told"
    WELL = "well"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One part, whether it works, and what there is to say of it."""

    part: str
    health: Health
    text: str


def examine(settings: Settings, ray_address: str | None = None) -> list[Finding]:
    """Look at all that a study needs.

    Args:
        settings: where ledger and MLflow are.
        ray_address: the address of a Ray cluster; None starts one on this machine, and ends it.
    """
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return [
        Finding("python", Health.TOLD, f"{platform.python_version()}; {versions}"),
        _tried("device", _examine_device),
        _tried("ledger", lambda: _examine_ledger(settings)),
        _tried("mlflow", lambda: _examine_tracking(settings)),
        _tried("ray", lambda: _examine_ray(ray_address)),
    ]


def _tried(part: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(part, Health.WELL, look())
    except TunerError as error:
        return Finding(part, Health.PROBLEM, hide_secrets(str(error)))


def _examine_device() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"no GPU that torch sees; CPU with {torch.get_num_threads()} threads"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _examine_ledger(settings: Settings) -> str:
    where = hide_secrets(settings.storage)
    file = settings.storage.removeprefix("sqlite:///")
    if file != settings.storage and not Path(file).exists():
        return f"{where}: not there yet; the first study makes it"
    with closing(Ledger(settings.storage)) as ledger:
        if not ledger.ready():
            return f"{where}: reached; no tables of tuner yet, the first study makes them"
        count = len(ledger.studies())
        return f"{where}: {count} {'study' if count == 1 else 'studies'}"


def _examine_tracking(settings: Settings) -> str:
    from tuner.tracking import places

    if settings.tracking == "none":
        return "off"
    uri = places.check(settings.tracking)
    if places.is_server(uri):
        import urllib.error
        import urllib.request

        scheme, _, rest = uri.rstrip("/").partition("://")
        try:
            with urllib.request.urlopen(f"{scheme}://{rest.rpartition('@')[2]}/health", timeout=5):
                return f"{hide_secrets(uri)}: answers"
        except (urllib.error.URLError, OSError) as error:
            raise ExecutorError(f"{hide_secrets(uri)} does not answer: {error}. Studies run without it.") from None
    return f"{hide_secrets(uri)}: not opened; the mirror does that"


def _examine_ray(address: str | None) -> str:
    from tuner.execution.ray_tune import RayTuneExecutor

    executor = RayTuneExecutor(address)
    try:
        executor.start()
        return f"{address or 'a local cluster starts'}: {executor.slots()} runs of one CPU at once"
    finally:
        executor.close()
