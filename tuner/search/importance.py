"""How much each searched dimension mattered inside one arm, by Optuna's PED-ANOVA.

The importance of a dimension is how far the distribution of the good trials along it departs from that of all trials
(Watanabe, Bansal and Hutter 2023, arXiv 2304.10255). With few trials it departs by chance alone. So the same figure is
computed for shuffled scores too, and a dimension whose figure shuffled scores reach often does not stand out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import TrialState, create_trial

from tuner.config.space import ArmSpace, Dimension
from tuner.search.samplers import distribution
from tuner.search.shares import SHUFFLES, Importance, Row, Share

FEWEST = 10
"""Below so many trials no importance is computed."""
_GOOD = 5
"""The best trials count as good: so many of them, but a tenth of all at least and a half at most."""
_SEED = 20_260_104


def importance(space: ArmSpace, rows: Sequence[Row]) -> Importance:
    """Return the importances of the dimensions that an arm searches.

    Args:
        space: the arm's.
        rows: coordinates and score of each trial; those outside the space are left out.
    """
    dimensions = [d for d in space.dimensions if d.choices or d.high > d.low]
    usable = [(at, score) for at, score in rows if all(d.name in at and d.contains(at[d.name]) for d in dimensions)]
    scores = np.array([score for _, score in usable])
    if len(usable) < FEWEST:
        return Importance(space.arm, len(usable), reason=f"{len(usable)} trials in the space; it takes {FEWEST}")
    if len(dimensions) < 2:
        return Importance(space.arm, len(usable), reason=f"{len(dimensions)} dimension searched: nothing to compare")
    if len(np.unique(scores)) < 2:
        return Importance(space.arm, len(usable), reason="all trials came to the same value")
    divergences = _divergences(dimensions, usable, scores)
    rng = np.random.default_rng(_SEED)
    luck = np.array([_divergences(dimensions, usable, rng.permutation(scores)) for _ in range(SHUFFLES)])
    chances = (1 + (luck >= divergences).sum(axis=0)) / (1 + SHUFFLES)
    total = float(divergences.sum()) or 1.0
    named = zip(dimensions, divergences, chances, strict=True)
    shares = [Share(d.name, float(value) / total, float(chance)) for d, value, chance in named]
    return Importance(space.arm, len(usable), tuple(sorted(shares, key=lambda share: (-share.share, share.name))))


def _divergences(
    dimensions: Sequence[Dimension], rows: Sequence[Row], scores: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The divergence along each dimension. Only the order of scores counts, so Optuna sees their ranks."""
    _, ranks = np.unique(scores, return_inverse=True)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    axes = {d.name: distribution(d) for d in dimensions}
    study.add_trials(
        [
            create_trial(
                state=TrialState.COMPLETE,
                params={d.name: at[d.name] for d in dimensions},
                distributions=axes,
                value=float(rank),
            )
            for (at, _), rank in zip(rows, ranks, strict=True)
        ]
    )
    quantile = min(0.5, max(0.1, _GOOD / len(rows)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        importances = PedAnovaImportanceEvaluator(target_quantile=quantile).evaluate(study)
    return np.array([importances.get(d.name, 0.0) for d in dimensions])
