"""The rule of the contest on many simulated studies at once: which differences a number of seeds can detect.

Arrays in, shares of studies out, before any run is trained. The rule itself is in ``contest.py``, which reads
records; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tuner.analysis.statistics.estimates import Array, equivalents
from tuner.analysis.statistics.flips import sign_flip_ps, sign_flip_ps_fast
from tuner.analysis.verdict.looks import Look, looks_for

Shape = Callable[[np.random.Generator, tuple[int, ...]], Array]
"""Draws an array of this shape from a distribution of seed noise."""

WIN = 0.75
"""The difference that the advice is about: one arm is better on three seeds of four."""
POWER = 0.8
"""The share of studies in which a number of seeds has to detect it."""
MOST = 400
"""No advice goes beyond this many seeds per arm."""
_STUDIES = 1_000
_SEED = 20_260_103
_COLLAPSE, _FLOOR = 0.1, -8.0


def _collapsing(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
    return np.where(rng.random(size) < _COLLAPSE, _FLOOR, rng.normal(size=size))


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "normal": lambda rng, size: rng.normal(size=size),
        "heavy-tailed": lambda rng, size: rng.standard_t(3, size=size),
        "bimodal": lambda rng, size: rng.normal(size=size) + 4.0 * (rng.random(size) < 0.3),
        "collapsing": _collapsing,
    }
)
"""Seed noise: normal; Student's t with 3 degrees of freedom; two humps four deviations apart, three runs of ten on the
upper one; one run of ten on a floor eight deviations down."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Per study: the arm that won (-1: none), whether it is a tie, and whether the interim look decided it."""

    winner: NDArray[np.int_]
    tie: NDArray[np.bool_]
    early: NDArray[np.bool_]


def judge(
    draws: Array, looks: Sequence[Look], alpha: float, margin: float | Array | None = None, exact: bool = True
) -> Judged:
    """Judge many studies as :func:`tuner.analysis.verdict.contest.contest` does one.

    Args:
        draws: scores, more is better; arms by studies by seeds.
        looks: when the data may be looked at, and at which level.
        alpha: the level of the equivalence tests.
        margin: the smallest difference that matters, for all studies or per study; None for the standard deviation of
            each study's seeds within arms, pooled.
        exact: whether the p of a pair is that of verdicts, or the faster one for planning.
    """
    test = sign_flip_ps if exact else sign_flip_ps_fast
    arms, studies, _ = draws.shape
    alive, columns = np.ones((arms, studies), dtype=bool), np.arange(studies)
    early = np.zeros(studies, dtype=bool)
    for look in looks:
        now = draws[:, :, : look.seeds]
        going = alive.sum(axis=0) > 1
        leader = np.where(alive, now.mean(axis=2), -np.inf).argmax(axis=0)
        best = now[leader, columns]
        for arm in range(arms):
            asked = going & alive[arm] & (leader != arm)
            pairs = (best - now[arm])[asked]
            alive[arm, asked] = ~((test(pairs) <= look.level) & (pairs.mean(axis=1) > 0))
        if look.interim:
            early = alive.sum(axis=0) == 1
    seen = draws[:, :, : looks[-1].seeds]
    unit = np.sqrt(seen.var(axis=2, ddof=1).mean(axis=0)) if margin is None else np.broadcast_to(margin, studies)
    equal = np.ones(studies, dtype=bool)
    for arm in range(arms):
        pairs = (best - now[arm]) / np.where(unit > 0, unit, 1.0)[:, None]
        equal &= equivalents(pairs, 1.0, alpha) | ~alive[arm]
    won = alive.sum(axis=0) == 1
    return Judged(np.where(won, alive.argmax(axis=0), -1), equal & ~won, early)


@lru_cache(maxsize=64)
def shift_for(shape: str, win: float) -> float:
    """Return how far apart two independent arms lie if one is better on a share ``win`` of the seeds.

    ``shape`` is a key of ``SHAPES``; the distance is in its unit.

    >>> round(shift_for("normal", 0.75), 1)
    1.0
    """
    rng = np.random.default_rng(_SEED)
    gaps = SHAPES[shape](rng, (200_000,)) - SHAPES[shape](rng, (200_000,))
    return float(np.quantile(gaps, win))


@lru_cache(maxsize=1024)
def power(shape: str, seeds: int, alpha: float, win: float = WIN, studies: int = _STUDIES) -> float:
    """Return the share of studies of two arms in which the truly better one wins, at the interim look or the final one.

    ``seeds`` is the number per arm, ``win`` the share of seeds on which the better arm is better.
    """
    return _won(shape, looks_for(seeds, alpha), alpha, win, studies)


def _won(shape: str, looks: Sequence[Look], alpha: float, win: float, studies: int) -> float:
    """The share of studies that the better of two arms wins at these looks."""
    draws = SHAPES[shape](np.random.default_rng(_SEED), (2, studies, looks[-1].seeds))
    draws[0] += shift_for(shape, win)
    return float((judge(draws, looks, alpha, 1.0, exact=False).winner == 0).mean())


@lru_cache(maxsize=64)
def seeds_at(level: float, win: float = WIN) -> int | None:
    """As :func:`seeds_for`, for a single look at this level.

    >>> 32 <= (seeds_at(0.05) or 0) <= 42
    True
    """

    def enough(n: int) -> bool:
        return all(_won(shape, [Look(n, level)], level, win, _STUDIES) >= POWER for shape in SHAPES)

    return fewest(enough, 4, MOST)


@lru_cache(maxsize=64)
def seeds_for(alpha: float, win: float = WIN) -> int | None:
    """Return the fewest seeds per arm that detect a P(A > B) of ``win`` in 80 % of studies; None above 400.

    The worst of the shapes of noise in ``SHAPES`` counts.
    """

    return fewest(lambda n: all(power(shape, n, alpha, win) >= POWER for shape in SHAPES), 4, MOST)


@lru_cache(maxsize=64)
def smallest_seen(seeds: int, alpha: float) -> float | None:
    """Return the smallest P(A > B) that these seeds detect in 80 % of studies, to 0.01; None where even 0.99 is missed.

    The worst of the shapes of noise in ``SHAPES`` counts.
    """
    least = fewest(lambda win: all(power(shape, seeds, alpha, win / 100) >= POWER for shape in SHAPES), 51, 99)
    return None if least is None else least / 100


@lru_cache(maxsize=64)
def tie_rate(seeds: int, alpha: float, margin: float = 1.0) -> float:
    """Return the share of studies in which two equal arms come out as a tie.

    The noise is normal, and ``margin`` is in its standard deviations.
    """
    draws = SHAPES["normal"](np.random.default_rng(_SEED), (2, _STUDIES, seeds))
    return float(judge(draws, looks_for(seeds, alpha), alpha, margin, exact=False).tie.mean())


@lru_cache(maxsize=64)
def seeds_for_ties(alpha: float, share: float = 0.5) -> int | None:
    """Return the fewest seeds per arm with which equal arms tie in this share of studies; None above 400.

    The noise is normal, and the margin one standard deviation of it.
    """
    return fewest(lambda n: tie_rate(n, alpha) >= share, 4, MOST)


def fewest(enough: Callable[[int], bool], start: int, most: int) -> int | None:
    """Return the least n from ``start`` to ``most`` that is enough; None if there is none.

    The condition has to stay met once it is met. With ``start`` above ``most``, only ``start`` is asked.

    >>> fewest(lambda n: n * n >= 50, 1, 100), fewest(lambda n: False, 1, 100)
    (8, None)
    """
    failed, n = start - 1, start
    while not enough(n):
        if n >= most:
            return None
        failed, n = n, min(2 * n, most)
    while n - failed > 1:
        middle = (failed + n) // 2
        if enough(middle):
            n = middle
        else:
            failed = middle
    return n
