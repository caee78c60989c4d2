"""How many seeds would settle an inconclusive contest, and what the planned ones can detect; it decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.analysis.statistics.estimates import Array, equivalents
from tuner.analysis.statistics.flips import sign_flip_ps_fast
from tuner.analysis.verdict import power
from tuner.analysis.verdict.contest import Contest
from tuner.analysis.verdict.looks import extension_level, looks_of, smallest_decisive
from tuner.analysis.verdict.power import POWER
from tuner.config.spec import StudySpec

MOST = 1_000
"""No advice goes beyond this many seeds per arm."""
_THREE_OF_FOUR = 0.674
"""The mean of a normal difference that is above 0 with probability 0.75, in its standard deviations."""
_STUDIES = 400
_SEED = 20_260_102


@dataclass(frozen=True, slots=True)
class Outlook:
    """What two arms' seeds can detect, known before the study starts; see ``power.py`` for the simulated noise.

    ``seeds`` are planned per arm. ``advised`` seeds detect a P(A > B) of 0.75 in 80 % of studies, ``smallest`` is the
    P(A > B) that the planned ones detect as often (None: not even 0.99), both for the worst of the shapes of noise.
    ``ties`` is the share of studies in which two equal arms come out as a tie, with a ``min_effect`` of one standard
    deviation of the seed noise; with ``seeds_for_ties`` seeds it is half of the studies.
    """

    seeds: int
    advised: int | None
    smallest: float | None
    ties: float
    seeds_for_ties: int | None


def outlook(spec: StudySpec, arms: int) -> Outlook | None:
    """Return what the seeds planned for this number of finalists can detect; None where none are planned."""
    looks = looks_of(spec, arms)
    if not looks:
        return None
    seeds, alpha = looks[-1].seeds, spec.confirmation.alpha
    return Outlook(
        seeds=seeds,
        advised=power.seeds_for(alpha),
        smallest=power.smallest_seen(seeds, alpha),
        ties=power.tie_rate(seeds, alpha),
        seeds_for_ties=power.seeds_for_ties(alpha),
    )


def seeds_needed(spec: StudySpec, state: Contest) -> int | None:
    """Return the total of seeds per arm that settles the contest with a probability of 0.8; None above 1,000.

    The seeds seen so far are resampled with replacement (whole rows: all arms still in keep their pairing), twice:
    once for what is not known of the arms, once for the n seeds of a study. Each such study is judged as the next look
    would judge it. So the probability of 0.8 includes the luck of the seeds seen so far. The total is at least what
    detects a P(A > B) of 0.75, unless the differences seen so far are clearly larger (:func:`clear`): a handful of
    seeds that look alike are no reason to plan for fewer. Also None where fewer than two seeds were seen.
    """
    table = state.samples.at()
    rows = np.array([table[arm] for arm in state.alive])
    rows = rows[:, ~np.isnan(rows).any(axis=0)]
    if rows.shape[1] < 2:
        return None
    planned = state.ahead
    level = planned.level if planned else _next_level(spec, state)
    least = planned.seeds if planned else state.looks[-1].seeds + 1
    start = max(least, smallest_decisive(level))
    if not clear(rows):
        start = max(start, power.seeds_at(level) or MOST)
    return search_seeds(rows, level, spec.confirmation.alpha, state.min_effect, start)


def clear(rows: Array) -> bool:
    """Return whether the leader beats every other arm by clearly more than P(A > B) = 0.75; rows are arms by seeds.

    Clearly: the mean paired difference, in its standard deviations and less two standard errors (Hedges & Olkin 1985),
    is above 0.674, which is what a normal difference with P(A > B) = 0.75 has.

    >>> clear(np.array([[5.0, 5.2, 5.1], [1.0, 1.1, 1.3]])), clear(np.array([[1.0, 2.0, 3.0], [1.1, 1.7, 2.8]]))
    (True, False)
    """
    leader = int(rows.mean(axis=1).argmax())
    gaps = np.delete(rows[leader] - rows, leader, axis=0)
    means, spreads, n = gaps.mean(axis=1), gaps.std(axis=1, ddof=1), gaps.shape[1]
    effects = means / np.maximum(spreads, 1e-12 * np.maximum(np.abs(means), 1e-300))
    return bool((effects - 2.0 * np.sqrt(1.0 / n + effects**2 / (2.0 * n)) > _THREE_OF_FOUR).all())


def _next_level(spec: StudySpec, state: Contest) -> float:
    """The level of the next look: alpha for a recording, which has one look; else what the next extension may spend."""
    alpha = spec.confirmation.alpha
    return alpha if spec.recording else extension_level(state.looks, alpha)


def search_seeds(rows: Array, level: float, alpha: float, margin: float, start: int) -> int | None:
    """Return the fewest seeds, from ``start`` on, that settle the contest with a probability of 0.8; None above 1,000.

    ``rows`` are the scores seen so far, arms by seeds; ``margin`` is the smallest difference that matters, in the
    metric's unit; for the rest see :func:`chance`.
    """
    return power.fewest(lambda n: chance(rows, n, level, alpha, margin) >= POWER, start, max(MOST, start))


def chance(rows: Array, n: int, level: float, alpha: float, margin: float) -> float:
    """Return the share of resampled studies of n seeds that end in *better* or *no practical difference*.

    ``level`` is that of the sign-flip test, ``alpha`` that of the test of equivalence.
    """
    rng, seen = np.random.default_rng(_SEED), rows.shape[1]
    plausible = rng.integers(0, seen, size=(_STUDIES, seen))
    picked = np.take_along_axis(plausible, rng.integers(0, seen, size=(_STUDIES, n)), axis=1)
    return float(settled(rows[:, picked], level, alpha, margin).mean())


def settled(drawn: Array, level: float, alpha: float, margin: float) -> NDArray[np.bool_]:
    """Return for each study whether its leader beats, or is equivalent to, every other arm.

    ``drawn`` are scores, arms by studies by seeds; ``margin`` is in their unit.
    """
    means = drawn.mean(axis=2)
    leader = means.argmax(axis=0)
    best = np.take_along_axis(drawn, leader[None, :, None], axis=0)[0]
    done = np.ones(drawn.shape[1], dtype=bool)
    for arm in range(len(drawn)):
        pairs = best - drawn[arm]
        beaten = (sign_flip_ps_fast(pairs) <= level) & (pairs.mean(axis=1) > 0)
        done &= beaten | equivalents(pairs, margin, alpha) | (leader == arm)
    return done
