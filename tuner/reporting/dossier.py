"""A study as the report needs it: the answer, the records it rests on, what the search taught; nothing is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner.analysis.evidence import Evidence, finite
from tuner.analysis.findings import Findings
from tuner.config.spec import StudySpec
from tuner.core.records import RunRecord, TrialRecord


@dataclass(frozen=True, slots=True)
class Dossier:
    """Everything that is shown of a study."""

    evidence: Evidence
    spec: StudySpec
    trials: Sequence[TrialRecord]
    runs: Sequence[RunRecord]
    findings: Findings

    def to_json(self) -> dict[str, Any]:
        """Return the recommendation's document, with the key ``analyses`` added to the study."""
        document = self.evidence.to_json()
        document["studies"][0]["analyses"] = finite(self.findings.to_json())
        return document
