"""What the search taught beside the verdict: best-at-budget, sensitivity, importance, edges, divergence; no words.

Nothing of it decides anything; the verdict rests on fresh seeds alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tuner.analysis.searched.edges import Edge, edges
from tuner.analysis.searched.points import Points
from tuner.analysis.searched.rung_agreement import RungAgreement, rung_agreements
from tuner.analysis.searched.sensitivity import Sensitivity, sensitivities
from tuner.analysis.searched.tuning_curves import TuningCurve, tuning_curves
from tuner.analysis.verdict.contest import Contest
from tuner.core.records import Outcome
from tuner.search.shares import Importance
from tuner.study_records import StudyRecords


@dataclass(frozen=True, slots=True)
class Findings:
    """One entry per arm in each tuple, in the space's order; ``edges`` are those that the finalists touch."""

    points: Points
    curves: tuple[TuningCurve, ...]
    sensitivities: tuple[Sensitivity, ...]
    importances: tuple[Importance, ...]
    edges: tuple[Edge, ...]
    rungs: tuple[RungAgreement, ...] = ()

    def diverged(self, arm: str) -> tuple[int, int]:
        """Return how many trials of the arm diverged in the search, and how many ended."""
        mine = self.points[arm]
        return sum(point.outcome is Outcome.DIVERGED for point in mine), len(mine)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, without the points: those are in the ledger."""
        edges = [
            {"arm": e.arm, "name": e.dimension.name, "value": e.coordinate, "side": e.side, "range": str(e.dimension)}
            for e in self.edges
        ]
        rows = {arm: self.diverged(arm) for arm in self.points}
        return {
            "best_at_budget": [asdict(curve) for curve in self.curves],
            "sensitivity": [asdict(row) for row in self.sensitivities],
            "importance": [row.to_json() for row in self.importances],
            "edges": edges,
            "diverged": [{"arm": arm, "diverged": bad, "trials": n} for arm, (bad, n) in rows.items()],
            "rungs": [row.to_json() for row in self.rungs],
        }


def findings_of(
    records: StudyRecords, points: Points, state: Contest, min_effect: float | None, importances: Sequence[Importance]
) -> Findings:
    """Gather what the records teach; ``min_effect`` is what the verdict took for the smallest effect that matters."""
    return Findings(
        points=points,
        curves=tuning_curves(records.spec, points),
        sensitivities=sensitivities(records.spec, points, min_effect),
        importances=tuple(importances),
        edges=edges(records, state.chosen),
        rungs=rung_agreements(records),
    )
