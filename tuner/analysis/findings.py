"""What the search taught beside the verdict: best-at-budget, sensitivity, importance, edges, divergence; no words.

It decides nothing: the verdict rests on fresh seeds alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tuner.analysis.searched.edges import Edge
from tuner.analysis.searched.points import Points
from tuner.analysis.searched.rung_agreement import RungAgreement
from tuner.analysis.searched.sensitivity import Sensitivity
from tuner.analysis.searched.tuning_curves import TuningCurve
from tuner.core.records import Outcome
from tuner.search.shares import Importance


@dataclass(frozen=True, slots=True)
class Findings:
    """What the search taught, arm by arm in the space's order.

    ``curves``, ``sensitivities`` and ``importances`` have one entry per arm, ``edges`` one for each edge of a range
    that a finalist touches, ``rungs`` one for each arm and each rung below the full horizon.
    """

    points: Points
    curves: tuple[TuningCurve, ...]
    sensitivities: tuple[Sensitivity, ...]
    importances: tuple[Importance, ...]
    edges: tuple[Edge, ...]
    rungs: tuple[RungAgreement, ...] = ()

    def diverged(self, arm: str) -> tuple[int, int]:
        """Return how many trials of the arm diverged in the search, and how many ended."""
        points = self.points[arm]
        return sum(point.outcome is Outcome.DIVERGED for point in points), len(points)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, without the points: those are in the ledger."""
        counts = {arm: self.diverged(arm) for arm in self.points}
        return {
            "best_at_budget": [asdict(curve) for curve in self.curves],
            "sensitivity": [asdict(row) for row in self.sensitivities],
            "importance": [row.to_json() for row in self.importances],
            "edges": [edge.to_json() for edge in self.edges],
            "diverged": [{"arm": arm, "diverged": bad, "trials": n} for arm, (bad, n) in counts.items()],
            "rungs": [row.to_json() for row in self.rungs],
        }
