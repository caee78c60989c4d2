"""The driver's sign of life: a thread that renews the lease and counts the seconds of the search.

What a lease is and when it is lost is in :mod:`tuner.storage.leases`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tuner.core.errors import LeaseLost, StorageError
from tuner.core.settings import HEARTBEAT_SECONDS, LEASE_SECONDS
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger


class Heartbeat:
    """Renews a lease in a thread until it is closed.

    A database that does not answer is tried again until the lease may have run out.

    Args:
        ledger: where the lease is held.
        lease: the driver's.
        on_loss: called once, with the reason, when the lease is lost.
        seconds: returns how many seconds this driver has searched so far.
        every: seconds between two renewals.
    """

    def __init__(
        self,
        ledger: Ledger,
        lease: Lease,
        on_loss: Callable[[str], None],
        seconds: Callable[[], float],
        every: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._ledger, self._lease, self._on_loss, self._every = ledger, lease, on_loss, every
        self._seconds, self._counted = seconds, 0.0
        self._closed = threading.Event()
        self._renewed_at = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="tuner-heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._closed.wait(self._every):
            try:
                self._renew()
            except LeaseLost as error:
                self._on_loss(str(error))
                return
            except StorageError as error:
                if time.monotonic() - self._renewed_at > LEASE_SECONDS:
                    self._on_loss(str(error))
                    return

    def _renew(self) -> None:
        """Renew the lease, and count the seconds since the last renewal."""
        now = time.monotonic()
        seconds = self._seconds()
        self._ledger.renew(self._lease, seconds - self._counted)
        self._counted = seconds
        self._renewed_at = now

    def close(self) -> None:
        """Stop the thread, count the last seconds, and give the lease back if it is still ours."""
        self._closed.set()
        self._thread.join(timeout=self._every + 5)
        try:
            self._renew()
            self._ledger.release(self._lease)
        except (LeaseLost, StorageError):
            return
