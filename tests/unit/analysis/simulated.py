"""Many studies at once: the rule of the contest on arrays, for measuring its error rates."""

from __future__ import annotations

import numpy as np

from tuner.analysis.looks import looks_for
from tuner.analysis.stats import equivalents, sign_flip_ps


def simulate(draws: np.ndarray, alpha: float = 0.05, margin: float | None = None) -> dict[str, float]:
    """Judge arms by studies by seeds; return the shares of winner, tie, inconclusive, and of each arm as winner."""
    arms, studies, seeds = draws.shape
    alive = np.ones((arms, studies), dtype=bool)
    columns = np.arange(studies)
    for look in looks_for(seeds, alpha):
        now = draws[:, :, : look.seeds]
        means = np.where(alive, now.mean(axis=2), -np.inf)
        leader = means.argmax(axis=0)
        best = now[leader, columns]
        for arm in range(arms):
            pairs = best - now[arm]
            beaten = (sign_flip_ps(pairs) <= look.level) & (pairs.mean(axis=1) > 0) & (leader != arm)
            alive[arm] &= ~beaten
    won = alive.sum(axis=0) == 1
    noise = np.sqrt(draws.var(axis=2, ddof=1).mean(axis=0)) if margin is None else np.full(studies, margin)
    equal = np.ones(studies, dtype=bool)
    for arm in range(arms):
        pairs = best - draws[arm]
        scaled = pairs / noise[:, None]
        equal &= equivalents(scaled, 1.0, alpha) | ~alive[arm]
    tie = equal & ~won
    shares = {"winner": won.mean(), "tie": tie.mean(), "inconclusive": (~won & ~tie).mean()}
    return shares | {f"arm{arm}": (won & alive[arm]).mean() for arm in range(arms)}
