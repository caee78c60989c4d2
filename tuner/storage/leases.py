"""One driver per study: a lease whose epoch refuses what an earlier driver still tries to write.

Each function works on a connection whose transaction the caller holds.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from tuner.core.errors import LeaseLost, StudyBusy
from tuner.core.settings import LEASE_SECONDS
from tuner.storage.tables import leases


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a study, until another driver takes a later ``epoch``."""

    study_id: int
    study: str
    epoch: int
    owner: str


def database_now(connection: sa.Connection) -> float:
    """Return seconds since the epoch by the database's clock, which all drivers share; whole seconds on SQLite."""
    if connection.dialect.name == "sqlite":
        return float(connection.execute(sa.text("SELECT strftime('%s', 'now')")).scalar_one())
    return float(connection.execute(sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))).scalar_one())


def acquire(connection: sa.Connection, study_id: int, study: str) -> Lease:
    """Take the study's lease if no living driver holds it.

    A driver on this host is dead if its process is gone. A driver on another host counts as dead once it has not
    renewed its lease for :data:`tuner.core.settings.LEASE_SECONDS`.

    Raises:
        StudyBusy: a living driver holds the lease.
    """
    now = database_now(connection)
    row = connection.execute(sa.select(leases).where(leases.c.study_id == study_id).with_for_update()).one_or_none()
    process = psutil.Process()
    values: dict[str, Any] = {
        "owner": uuid.uuid4().hex,
        "host": _host(),
        "pid": os.getpid(),
        "process_started": process.create_time(),
        "renewed_at": now,
        "held": True,
    }
    if row is None:
        connection.execute(leases.insert().values(study_id=study_id, epoch=1, **values))
        return Lease(study_id, study, 1, values["owner"])
    if row.held and now - row.renewed_at <= LEASE_SECONDS and not _dead(row):
        ago = max(0.0, now - row.renewed_at)
        raise StudyBusy(
            f"study {study!r} is being driven by process {row.pid} on {row.host} (last sign of life {ago:.0f} s ago); "
            f"expected no other driver. Wait for it, stop it with Ctrl-C, or watch it with 'tuner status {study}'."
        )
    connection.execute(leases.update().where(leases.c.study_id == study_id).values(epoch=row.epoch + 1, **values))
    return Lease(study_id, study, row.epoch + 1, values["owner"])


def _host() -> str:
    """Return a name of this machine and its last boot; a process number means something only under the same name."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return socket.gethostname() + (f"/{boot.read_text()[:8]}" if boot.is_file() else "")


def _dead(row: Any) -> bool:
    """Whether the lease's driver is certainly dead: it ran on this host, and its process is gone."""
    if row.host != _host():
        return False
    try:
        return abs(psutil.Process(row.pid).create_time() - float(row.process_started)) > 1.0
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def check(connection: sa.Connection, lease: Lease) -> None:
    """Refuse to go on unless the lease is still ours; locks it until the transaction ends.

    Raises:
        LeaseLost: another driver holds a later epoch, or the lease was released.
    """
    query = sa.select(leases.c.epoch, leases.c.held).where(leases.c.study_id == lease.study_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None or row.epoch != lease.epoch or not row.held:
        holder = "nobody" if row is None or not row.held else f"epoch {row.epoch}"
        raise LeaseLost(
            f"study {lease.study!r} is held by {holder}; expected epoch {lease.epoch}, which is this driver's. Another "
            "driver took over; this one stops without writing."
        )


def renew(connection: sa.Connection, lease: Lease) -> None:
    """Record that the driver lives, by the database's clock.

    Raises:
        LeaseLost: as :func:`check`.
    """
    check(connection, lease)
    where = leases.c.study_id == lease.study_id
    connection.execute(leases.update().where(where).values(renewed_at=database_now(connection)))


def release(connection: sa.Connection, lease: Lease) -> None:
    """Give the lease back; nothing happens if it is no longer ours."""
    where = (leases.c.study_id == lease.study_id) & (leases.c.epoch == lease.epoch)
    connection.execute(leases.update().where(where).values(held=False))


def holder(connection: sa.Connection, study_id: int) -> str | None:
    """Return the process and the host of the study's driver; None if no living driver holds the lease."""
    row = connection.execute(sa.select(leases).where(leases.c.study_id == study_id)).one_or_none()
    if row is None or not row.held or _dead(row) or database_now(connection) - row.renewed_at > LEASE_SECONDS:
        return None
    return f"process {row.pid} on {row.host}"
