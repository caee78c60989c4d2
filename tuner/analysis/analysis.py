"""A study analysed: all that follows from its records, each part computed once, when somebody first asks for it.

Recommendation, report, pictures, note and card are made from it; none of them is made here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tuner.analysis.conclusion import evidence_of, nothing_of
from tuner.analysis.evidence import Evidence, Nothing, finite
from tuner.analysis.findings import Findings
from tuner.analysis.searched.edges import edges
from tuner.analysis.searched.points import Points, points_at, points_of, scored
from tuner.analysis.searched.rung_agreement import RungAgreement, rung_agreements
from tuner.analysis.searched.sensitivity import sensitivities
from tuner.analysis.searched.tuning_curves import tuning_curves
from tuner.analysis.verdict.contest import Contest, contest
from tuner.core.errors import NoEvidence
from tuner.search.shares import Importance
from tuner.study_records import StudyRecords


@dataclass(frozen=True)
class Analysis:
    """What the records of a study say, also in the middle of it.

    The records are kept with their runs sorted by run id, so the order in which runs were handed out does not matter.
    """

    records: StudyRecords

    def __post_init__(self) -> None:
        runs = tuple(sorted(self.records.runs, key=lambda run: run.run_id))
        object.__setattr__(self, "records", replace(self.records, runs=runs))

    @cached_property
    @np.errstate(over="ignore")
    def contest(self) -> Contest:
        """Where the contest of the finalists stands."""
        return contest(self.records)

    @cached_property
    def points(self) -> Points:
        """The ended trials of each arm."""
        return points_of(self.records)

    @cached_property
    def rungs(self) -> tuple[RungAgreement, ...]:
        """How short runs rank the settings of each arm, against full runs."""
        return rung_agreements(self.records)

    @cached_property
    def evidence(self) -> Evidence:
        """The answer, with all that it rests on.

        Raises:
            NoEvidence: no arm has a completed run of the search at the full horizon.
        """
        return evidence_of(self.records, self.points, self.rungs, self.contest)

    @cached_property
    def answer(self) -> Evidence | Nothing:
        """The evidence; where nothing can be recommended, how the runs ended."""
        try:
            return self.evidence
        except NoEvidence as error:
            return nothing_of(self.records, self.contest, str(error))

    @cached_property
    def findings(self) -> Findings:
        """What the search taught beside the verdict.

        Raises:
            NoEvidence: no arm has a completed run of the search at the full horizon.
        """
        spec = self.records.spec
        return Findings(
            points=self.points,
            curves=tuning_curves(spec, self.points),
            sensitivities=sensitivities(spec, self.points, self.evidence.min_effect),
            importances=self.importances,
            edges=edges(self.records, self.contest.chosen),
            rungs=self.rungs,
        )

    @cached_property
    def importances(self) -> tuple[Importance, ...]:
        """How much each dimension mattered, by arm: at the full horizon, or on the lowest rung if too few got there."""
        from tuner.search.importance import importance  # loads Optuna, which only reports need

        spec = self.records.spec
        lowest = spec.rungs[0]
        short = points_at(self.records, lowest)
        rows = []
        for arm in spec.arms:
            row = importance(arm, scored(self.points[arm.arm], spec.sign))
            if not row.shares and lowest != spec.horizon:
                below = importance(arm, scored(short[arm.arm], spec.sign))
                row = replace(below, horizon=lowest) if below.shares else row
            rows.append(row)
        return tuple(rows)

    def to_json(self) -> dict[str, Any]:
        """Return the recommendation's document, with the key ``analyses`` added to the study: plain JSON.

        Raises:
            NoEvidence: no arm has a completed run of the search at the full horizon.
        """
        document = self.evidence.to_json()
        document["studies"][0]["analyses"] = finite(self.findings.to_json())
        return document
