"""The tracker that shows nothing, for studies without MLflow."""

from __future__ import annotations


class NullTracker:
    """The :class:`tuner.core.ports.Tracker` of ``tracking: none``."""

    def start(self) -> None:
        """Do nothing."""

    def finish(self, seconds: float) -> bool:
        """Return True: there is nothing left to show."""
        del seconds
        return True
