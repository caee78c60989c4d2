"""Many studies at once: the shares of the verdicts that the product's own rule comes to."""

from __future__ import annotations

import numpy as np

from tuner.analysis.verdict.looks import looks_for
from tuner.analysis.verdict.power import judge


def simulate(draws: np.ndarray, alpha: float = 0.05, margin: float | None = None) -> dict[str, float]:
    """Judge arms by studies by seeds; return the shares of winner, tie, inconclusive, and of each arm as winner."""
    arms, _, seeds = draws.shape
    judged = judge(draws, looks_for(seeds, alpha), alpha, margin)
    won = judged.winner >= 0
    shares = {"winner": won.mean(), "tie": judged.tie.mean(), "inconclusive": (~won & ~judged.tie).mean()}
    return shares | {f"arm{arm}": (judged.winner == arm).mean() for arm in range(arms)}
