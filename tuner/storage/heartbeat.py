"""The driver's sign of life: renews the lease beside the training, and counts the seconds of the search."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tuner.core.errors import LeaseLost, StorageError
from tuner.core.settings import HEARTBEAT_SECONDS, LEASE_SECONDS
from tuner.storage.leases import Lease
from tuner.storage.ledger import Ledger


class Heartbeat:
    """Renews a lease in a thread until closed; ``on_loss`` is called once if it was taken over.

    ``seconds`` says for how long this driver has searched by now. A database that does not answer for a while is tried
    again, as long as the lease could still be ours.
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
        self._over = threading.Event()
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="tuner-heartbeat", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(self._every):
            try:
                self._renew()
            except LeaseLost as error:
                self._on_loss(str(error))
                return
            except StorageError as error:
                if time.monotonic() - self._beaten > LEASE_SECONDS:
                    self._on_loss(str(error))
                    return

    def _renew(self) -> None:
        now = time.monotonic()
        seconds = self._seconds()
        self._ledger.renew(self._lease, seconds - self._counted)
        self._counted = seconds
        self._beaten = now

    def close(self) -> None:
        """Stop; count the last seconds and give the lease back if it is still ours."""
        self._over.set()
        self._thread.join(timeout=self._every + 5)
        try:
            self._renew()
            self._ledger.release(self._lease)
        except (LeaseLost, StorageError):
            return
