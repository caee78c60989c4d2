"""The tracker that shows nothing, for studies without MLflow; a part of the product, not of the tests."""

from __future__ import annotations


class NullTracker:
    """A :class:`tuner.core.ports.Tracker` for ``tracking: none``."""

    def start(self) -> None:
        """Do nothing."""

    def finish(self, seconds: float) -> bool:
        """Do nothing; what nobody asked for is shown completely."""
        del seconds
        return True
