"""How much each searched dimension mattered inside one arm, by Optuna's PED-ANOVA; trials and verdicts stay outside.

The importance of a dimension is how far the distribution of the good trials along it departs from that of all trials
(Watanabe, Bansal and Hutter 2023, arXiv 2304.10255). Few trials depart by luck alone, so the same figure is computed
for shuffled values too, and a dimension that shuffles reach as easily is said not to stand out.
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
from tuner.search.arm import distribution
from tuner.search.shares import SHUFFLES, Importance, Row, Share

FEWEST = 10
_GOOD = 5
_SEED = 20_260_104

optuna.logging.set_verbosity(optuna.logging.ERROR)


def importance(space: ArmSpace, rows: Sequence[Row]) -> Importance:
    """Return the importances of the dimensions that the arm searches."""
    dimensions = [d for d in space.dimensions if d.choices or d.high > d.low]
    usable = [(at, score) for at, score in rows if all(d.name in at and d.contains(at[d.name]) for d in dimensions)]
    scores = np.array([score for _, score in usable])
    if len(usable) < FEWEST:
        return Importance(space.arm, len(usable), reason=f"{len(usable)} trials in the space; it takes {FEWEST}")
    if len(dimensions) < 2:
        return Importance(space.arm, len(usable), reason=f"{len(dimensions)} dimension searched: nothing to compare")
    if len(np.unique(scores)) < 2:
        return Importance(space.arm, len(usable), reason="all trials came to the same value")
    found = _divergences(dimensions, usable, scores)
    rng = np.random.default_rng(_SEED)
    luck = np.array([_divergences(dimensions, usable, rng.permutation(scores)) for _ in range(SHUFFLES)])
    chances = (1 + (luck >= found).sum(axis=0)) / (1 + SHUFFLES)
    total = float(found.sum()) or 1.0
    shares = [Share(d.name, float(v) / total, float(p)) for d, v, p in zip(dimensions, found, chances, strict=True)]
    return Importance(space.arm, len(usable), tuple(sorted(shares, key=lambda share: (-share.share, share.name))))


def _divergences(
    dimensions: Sequence[Dimension], rows: Sequence[Row], scores: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The raw figure of each dimension. Only the order of scores counts, so their ranks are what Optuna sees."""
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
        found = PedAnovaImportanceEvaluator(target_quantile=quantile).evaluate(study)
    return np.array([found.get(d.name, 0.0) for d in dimensions])
