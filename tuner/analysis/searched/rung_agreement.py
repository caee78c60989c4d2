"""Whether short runs tell what full ones do: the rank agreement of an arm's rungs; nothing is decided by it here.

Only settings that trained on both rungs tell, and those were chosen by their short runs: the agreement over all
settings is usually larger than the one over the chosen few.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from tuner.core.records import Horizon, Outcome, Phase
from tuner.study_records import StudyRecords

FEWEST = 4
"""So many settings on both rungs a rank correlation takes."""
LIES = 0.4
"""Below this rank correlation a short horizon says little about the full one."""

Scores = Mapping[tuple[str, float], Mapping[int, float]]
"""(arm, length of the horizon) -> trial -> score: more is better, -inf where it diverged or failed."""


@dataclass(frozen=True, slots=True)
class RungAgreement:
    """How an arm's ``n`` settings that trained on both rank at a short horizon and at the full one (Spearman's rho).

    ``correlation`` is None below four settings, and where one of the two horizons tells no two of them apart.
    """

    arm: str
    horizon: Horizon
    full: Horizon
    n: int
    correlation: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"horizon": str(self.horizon), "full": str(self.full)}


def rung_agreements(records: StudyRecords) -> tuple[RungAgreement, ...]:
    """Return one row for each arm and each rung below the full horizon; none where all runs are full ones."""
    spec, scores = records.spec, _scores(records)
    short = [rung for rung in spec.rungs[:-1] if spec.recording is None]
    return tuple(
        RungAgreement(arm.arm, rung, spec.horizon, n, rho)
        for arm in spec.arms
        for rung in short
        for n, rho in [_agreement(scores[arm.arm, rung.amount], scores[arm.arm, spec.horizon.amount])]
    )


def best_known(rows: Iterable[RungAgreement]) -> tuple[RungAgreement, ...]:
    """Return for each arm the rung that most settings share with the full horizon, the longer one of equals."""
    best: dict[str, RungAgreement] = {}
    for row in rows:
        if row.arm not in best or row.n >= best[row.arm].n:
            best[row.arm] = row
    return tuple(best.values())


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's rho of pairs (Spearman 1904); None below four, and where one side has no order.

    >>> rank_correlation([(1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 40.0)])
    0.8
    >>> rank_correlation([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)])
    """
    if len(pairs) < FEWEST or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    first, second = (stats.rankdata(side) for side in zip(*pairs, strict=True))
    return round(float(stats.pearsonr(first, second).statistic), 12)


def _agreement(short: Mapping[int, float], full: Mapping[int, float]) -> tuple[int, float | None]:
    pairs = [(score, full[trial]) for trial, score in short.items() if trial in full and math.isfinite(score)]
    return len(pairs), rank_correlation(pairs)


def _scores(records: StudyRecords) -> Scores:
    scores: dict[tuple[str, float], dict[int, float]] = defaultdict(dict)
    for run in sorted(records.in_phase(Phase.EXPLORE), key=lambda run: run.run_id):
        if run.outcome not in (None, Outcome.LOST, Outcome.PRUNED):
            scores[run.spec.arm, run.spec.horizon.amount][run.spec.trial] = run.score(records.spec.sign)
    return scores
