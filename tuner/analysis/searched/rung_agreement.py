"""How well short runs rank an arm's settings, compared with full runs; nothing is decided by it here.

Only settings that trained on both rungs can be compared, and they were chosen by their short runs: the agreement over
all settings is usually larger than over the chosen few.
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
"""A rank correlation takes at least this many settings on both rungs."""
LIES = 0.4
"""Below this rank correlation a short horizon says little about the full one."""

Scores = Mapping[tuple[str, float], Mapping[int, float]]
"""(arm, amount of the horizon) -> trial -> score: more is better, -inf where the run diverged or failed."""


@dataclass(frozen=True, slots=True)
class RungAgreement:
    """How alike an arm's settings rank at a short horizon and at the full one (Spearman's rho).

    ``n`` settings trained at both. ``correlation`` is None for fewer than four, and where all of them have the same
    score at one of the two horizons.
    """

    arm: str
    horizon: Horizon
    full: Horizon
    n: int
    correlation: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, with the horizons as text."""
        return asdict(self) | {"horizon": str(self.horizon), "full": str(self.full)}


def rung_agreements(records: StudyRecords) -> tuple[RungAgreement, ...]:
    """Return one row for each arm and each rung below the full horizon; none for a recording."""
    spec, scores = records.spec, _scores(records)
    short = [rung for rung in spec.rungs[:-1] if spec.recording is None]
    return tuple(
        RungAgreement(arm.arm, rung, spec.horizon, n, rho)
        for arm in spec.arms
        for rung in short
        for n, rho in [_agreement(scores[arm.arm, rung.amount], scores[arm.arm, spec.horizon.amount])]
    )


def best_known(rows: Iterable[RungAgreement]) -> tuple[RungAgreement, ...]:
    """Return for each arm the rung that shares most settings with the full horizon; of equals the longest."""
    best: dict[str, RungAgreement] = {}
    for row in rows:
        if row.arm not in best or row.n >= best[row.arm].n:
            best[row.arm] = row
    return tuple(best.values())


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's rho of pairs (Spearman 1904); None for fewer than four, and where one side is constant.

    >>> rank_correlation([(1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 40.0)])
    0.8
    >>> rank_correlation([(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)])
    """
    if len(pairs) < FEWEST or any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    first, second = (stats.rankdata(side) for side in zip(*pairs, strict=True))
    return round(float(stats.pearsonr(first, second).statistic), 12)


def _agreement(short: Mapping[int, float], full: Mapping[int, float]) -> tuple[int, float | None]:
    """How many trials have a score at both horizons, a finite one at the short one, and their rank correlation."""
    pairs = [(score, full[trial]) for trial, score in short.items() if trial in full and math.isfinite(score)]
    return len(pairs), rank_correlation(pairs)


def _scores(records: StudyRecords) -> Scores:
    """The scores of the search's runs that say something about their setting at their whole horizon."""
    scores: dict[tuple[str, float], dict[int, float]] = defaultdict(dict)
    for run in sorted(records.in_phase(Phase.EXPLORE), key=lambda run: run.run_id):
        if run.outcome not in (None, Outcome.LOST, Outcome.PRUNED):
            scores[run.spec.arm, run.spec.horizon.amount][run.spec.trial] = run.score(records.spec.sign)
    return scores
