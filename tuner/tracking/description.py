"""What trackers share: how a study describes itself, and the error of a tracker that cannot be reached.

The protocol of a tracker is :class:`tuner.core.ports.Tracker`; the trackers are in other modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuner.core.errors import TunerError


class TrackingDown(TunerError):
    """The tracker's server or database cannot be reached, or refuses a request; the study goes on."""


@dataclass(frozen=True, slots=True)
class Description:
    """How a study describes itself: leaderboard and verdict in Markdown, tags, files to attach, and numbers.

    The note begins with the verdict, because MLflow folds it after three lines. ``metrics``, such as ``best.sgdm``,
    become curves over the study's life.
    """

    note: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Path, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
