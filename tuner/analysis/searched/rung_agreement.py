"""Whether short runs tell what full ones do: the rank agreement of an arm's rungs; nothing is decided by it here.

Only settings that trained on both rungs tell, and those were chosen by their short runs: the agreement over all
settings is usually larger than the one over the chosen few.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from tuner.config.spec import StudySpec
from tuner.core.records import Outcome, Phase, RunRecord

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
    horizon: str
    full: str
    n: int
    correlation: float | None


def rung_agreements(spec: StudySpec, runs: Sequence[RunRecord]) -> tuple[RungAgreement, ...]:
    """Return one row for each arm and each rung below the full horizon; none where all runs are full ones."""
    scores = _scores(spec, runs)
    short = [rung for rung in spec.rungs[:-1] if spec.recording is None]
    return tuple(
        RungAgreement(arm.arm, str(rung), str(spec.horizon), n, rho)
        for arm in spec.arms
        for rung in short
        for n, rho in [_agreement(scores[arm.arm, rung.amount], scores[arm.arm, spec.horizon.amount])]
    )


def best_known(rows: Iterable[RungAgreement]) -> tuple[RungAgreement, ...]:
    """Return for each arm the rung that most settings share with the full horizon, the longer one of equals."""
    found: dict[str, RungAgreement] = {}
    for row in rows:
        if row.arm not in found or row.n >= found[row.arm].n:
            found[row.arm] = row
    return tuple(found.values())


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


def _scores(spec: StudySpec, runs: Sequence[RunRecord]) -> Scores:
    found: dict[tuple[str, float], dict[int, float]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: run.run_id):
        if run.spec.phase is Phase.EXPLORE and run.outcome not in (None, Outcome.LOST, Outcome.PRUNED):
            good = run.outcome is Outcome.COMPLETED and run.value is not None and math.isfinite(run.value)
            score = run.value * spec.sign if good and run.value is not None else -math.inf
            found[run.spec.arm, run.spec.horizon.amount][run.spec.trial] = score
    return found
