"""What trackers share: what a study says of itself, and the error of a tracker that is out of reach.

No tracker stands here, and the protocol itself is :class:`tuner.core.ports.Tracker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuner.core.errors import TunerError


class TrackingDown(TunerError):
    """The place where runs are shown cannot be reached, or refuses what it is sent; the study goes on."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a study says of itself: the leaderboard and the verdict in Markdown, tags, and files to attach.

    MLflow folds a note after three lines, so the verdict comes first. ``metrics`` (say ``best.sgdm``) become curves
    over the study's life.
    """

    note: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: tuple[Path, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
