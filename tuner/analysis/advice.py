"""How many seeds would settle an undecided contest, under the rule that would then be used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.analysis.contest import Contest
from tuner.analysis.looks import extension_level, smallest_decisive
from tuner.analysis.stats import Array, equivalents, sign_flip_ps_fast
from tuner.spec import StudySpec

MOST = 1_000
POWER = 0.8
_STUDIES = 400
_SEED = 20_260_102


def seeds_needed(spec: StudySpec, state: Contest) -> int | None:
    """Return the total of seeds per arm that settles the contest with a probability of 0.8; None above 1,000.

    The seeds seen so far are resampled with replacement (whole rows: all arms still in keep their pairing) to
    studies of n seeds; each is judged as the next look would judge it. Also None with fewer than two seeds seen.
    """
    table = state.samples.at()
    rows = np.array([table[arm] for arm in state.alive])
    rows = rows[:, ~np.isnan(rows).any(axis=0)]
    if rows.shape[1] < 2:
        return None
    planned = state.ahead
    level = planned.level if planned else extension_level(state.looks, spec.confirmation.alpha)
    start = max(planned.seeds if planned else state.looks[-1].seeds + 1, smallest_decisive(level))
    return search_seeds(rows, level, spec.confirmation.alpha, state.min_effect, start)


def search_seeds(rows: Array, level: float, alpha: float, margin: float, start: int) -> int | None:
    """Double n from ``start`` until the power suffices, then bisect; ``rows`` are arms by seeds."""
    failed, n = start - 1, start
    while chance(rows, n, level, alpha, margin) < POWER:
        if n >= MOST:
            return None
        failed, n = n, min(2 * n, MOST)
    while n - failed > 1:
        middle = (failed + n) // 2
        if chance(rows, middle, level, alpha, margin) >= POWER:
            n = middle
        else:
            failed = middle
    return n


def chance(rows: Array, n: int, level: float, alpha: float, margin: float) -> float:
    """Return the share of resampled studies of n seeds that end in *better* or *no practical difference*."""
    rng = np.random.default_rng(_SEED)
    drawn = rows[:, rng.integers(0, rows.shape[1], size=(_STUDIES, n))]
    return float(settled(drawn, level, alpha, margin).mean())


def settled(drawn: Array, level: float, alpha: float, margin: float) -> NDArray[np.bool_]:
    """For arms by studies by seeds: whether the leader of each study beats or equals every other arm."""
    means = drawn.mean(axis=2)
    leader = means.argmax(axis=0)
    best = np.take_along_axis(drawn, leader[None, :, None], axis=0)[0]
    done = np.ones(drawn.shape[1], dtype=bool)
    for arm in range(len(drawn)):
        pairs = best - drawn[arm]
        beaten = (sign_flip_ps_fast(pairs) <= level) & (pairs.mean(axis=1) > 0)
        done &= beaten | equivalents(pairs, margin, alpha) | (leader == arm)
    return done
