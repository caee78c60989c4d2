"""The larger claim, that one *family* is better here: the luck of the search is resampled, not only that of the seeds.

Two arms with the same space find different finalists, and a test on seeds tells those apart in half of the studies. But
their independent trials (Sobol or random, proposed without a look at results) are exchangeable between them, so a
permutation test of the trials' values at the full horizon errs in at most alpha of studies (Fisher 1935; Phipson &
Smyth 2010, arXiv 1603.05766). A family is better only if its finalist won on fresh seeds *and* this test agrees
against every other arm (intersection-union: Berger 1982); so the error of the whole procedure is at most alpha. A camp
is better if the arms of all other camps are beaten this way. Sobol points of one arm lie more evenly than independent
ones, which makes the test more careful, not less.

The statistic compares tuning curves: the expected best of k of the arm's trials, averaged over all k (a U-statistic:
Dodge et al. 2019, arXiv 1909.03004), of ranks in both arms together. So neither how bad the bad trials are nor the
metric's scale matters; diverged and failed trials are the worst. The claim about the settings is in ``decision.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tuner.analysis.searched.points import Point, Points
from tuner.analysis.searched.spending import unequal
from tuner.analysis.statistics.estimates import Array
from tuner.analysis.verdict.contest import Contest
from tuner.analysis.verdict.decision import Verdict
from tuner.analysis.verdict.kinds import VerdictKind
from tuner.catalog.families import UNKNOWN
from tuner.config.spec import OPTIMISE, StudySpec
from tuner.core.records import Outcome, Source
from tuner.core.values import counted, short
from tuner.study_records import StudyRecords

EXACT_UP_TO = 20_000
"""Up to this many ways to deal the trials to two arms all are counted; above, ``MONTE_CARLO`` random ones."""
MONTE_CARLO = 19_999
AGREEING = 0.9
"""A tie needs the best trials of two arms within ±min_effect of each other in this share of half-samples."""
_HALVES = 1_000
_SEED = 20_260_104
Deals = NDArray[np.bool_]
"""Dealings by sorted trials: whether the first arm gets the trial."""


@dataclass(frozen=True, slots=True)
class FamilyVerdict:
    """The verdict about the families; ``kind`` is winner, tie, inconclusive or not_assessed, ``reason`` says why.

    A winner has a ``camp`` (None if its optimizer is not in the catalog), and an ``arm`` unless only the camp is shown
    to be better. ``p`` is the largest of the permutation tests that decided (None: none did), ``seeds_needed`` that of
    the finalists' verdict.
    """

    kind: VerdictKind
    reason: str
    arm: str | None = None
    camp: str | None = None
    seeds_needed: int | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Searches:
    """The scores of each arm's independent trials (more is better, -inf the worst), and the arms that cannot be judged.

    ``unfit`` maps an arm whose trials are no fair sample of its search to the reason.
    """

    scores: Mapping[str, Array]
    unfit: Mapping[str, str] = field(default_factory=dict)

    def refusal(self, a: str, b: str, alpha: float) -> str:
        """Return why two arms' searches cannot be compared at this level; empty if they can."""
        for arm in (a, b):
            if arm in self.unfit:
                return self.unfit[arm]
        few = min((a, b), key=lambda arm: len(self.scores[arm]))
        sizes = [len(self.scores[arm]) for arm in (a, b)]
        if 2.0 / math.comb(sum(sizes), sizes[0]) <= alpha:
            return ""
        trials, least = counted(len(self.scores[few]), "independent trial"), fewest_trials(alpha)
        return (
            f"{few} has {trials} (Sobol or random) at the full horizon, and judging the luck of a search takes at least"
            f" {least}; raise budget.trials_per_arm, or set sampler: random"
        )


def family_verdict(records: StudyRecords, points: Points, state: Contest, verdict: Verdict) -> FamilyVerdict:
    """Judge the families, given the points of the search and the verdict about the finalists."""
    spec, arms = records.spec, list(state.chosen)
    if state.kind is VerdictKind.SINGLE:
        return FamilyVerdict(VerdictKind.NOT_ASSESSED, "there is only one arm, so no other family to compare it with")
    if state.samples.empty:
        text = "no finalist was trained on fresh seeds, and a verdict about families needs that first"
        return FamilyVerdict(VerdictKind.NOT_ASSESSED, text)
    if spec.allocation == OPTIMISE:
        return FamilyVerdict(VerdictKind.NOT_ASSESSED, unequal(records.spent))
    searches = searches_of(points, arms, spec.sign)
    alpha = spec.confirmation.alpha
    if state.kind is VerdictKind.WINNER and verdict.arm is not None:
        return _winner(spec, searches, verdict.arm, [arm for arm in arms if arm != verdict.arm])
    pairs = list(combinations(arms, 2))
    refused = next((text for a, b in pairs if (text := searches.refusal(a, b, alpha))), "")
    if refused:
        return FamilyVerdict(VerdictKind.NOT_ASSESSED, refused)
    if state.kind is not VerdictKind.TIE:
        text = "the finalists' settings cannot be told apart yet, so neither can the families"
        return FamilyVerdict(VerdictKind.INCONCLUSIVE, text, seeds_needed=verdict.seeds_needed)
    share = min(share_within(searches.scores[a], searches.scores[b], state.min_effect) for a, b in pairs)
    within = f"within ±{short(state.min_effect)} of each other in {100 * share:.0f} % of half-samples of the searches"
    if set(state.alive) == set(arms) and share >= AGREEING:
        text = f"the finalists tie, and so do the searches (the best trials lie {within})"
        return FamilyVerdict(VerdictKind.TIE, text, camp=verdict.camp)
    text = f"the finalists tie, but the luck of the search is too large to say more (the best trials lie {within})"
    return FamilyVerdict(VerdictKind.INCONCLUSIVE, text)


def _winner(spec: StudySpec, searches: Searches, best: str, rivals: Sequence[str]) -> FamilyVerdict:
    """The verdict where the finalist of ``best`` won on fresh seeds against those of the rivals."""
    alpha, camp = spec.confirmation.alpha, _camp(spec, best)
    refused = {rival: text for rival in rivals if (text := searches.refusal(best, rival, alpha))}
    fit = [rival for rival in rivals if rival not in refused]
    tested = {rival: permutation_test(searches.scores[best], searches.scores[rival]) for rival in fit}
    beaten = {rival for rival, (p, gap) in tested.items() if p <= alpha and gap > 0}
    foreign = {rival for rival in rivals if camp is not None and _camp(spec, rival) != camp}
    won = f"the finalist of {best} won on fresh seeds, and luck in the search does not explain"
    if beaten == set(rivals):
        p = max(p for p, _ in tested.values())
        text = f"{won} it (permutation test of the trials, p = {p:.2g})"
        return FamilyVerdict(VerdictKind.WINNER, text, best, camp, p=p)
    if foreign and foreign <= beaten:
        p = max(tested[rival][0] for rival in foreign)
        same = ", ".join(sorted(set(rivals) - beaten))
        text = (
            f"{won} its lead over any arm of another camp (permutation test of the trials, p = {p:.2g}), but may"
            f" explain that over {same}"
        )
        return FamilyVerdict(VerdictKind.WINNER, text, None, camp, p=p)
    if refused:
        return FamilyVerdict(VerdictKind.NOT_ASSESSED, next(iter(refused.values())))
    worst = max(tested, key=lambda rival: (rival not in beaten, tested[rival][0]))
    text = f"the finalist of {best} won, but with better luck in its search {worst} might have found as good a setting"
    return FamilyVerdict(
        VerdictKind.INCONCLUSIVE,
        f"{text} (permutation test of the trials, p = {tested[worst][0]:.2g})",
        p=tested[worst][0],
    )


def _camp(spec: StudySpec, arm: str) -> str | None:
    camp = spec.space.arm(arm).family.camp
    return None if camp == UNKNOWN else camp


def searches_of(points: Points, arms: Sequence[str], sign: int) -> Searches:
    """Return the scores of the arms' independent trials; ``sign`` is +1 to maximize, -1 to minimize."""
    scores, unfit = {}, {}
    for arm in arms:
        sample = [point for point in points[arm] if independent(point)]
        if any(point.outcome is Outcome.PRUNED for point in sample):
            unfit[arm] = (
                f"early results decided which of {arm}'s trials reached the full horizon, so those that did are no fair"
                " sample of its search; a study with fidelity: full can say more"
            )
        scores[arm] = np.array([-math.inf if p.value is None else p.value * sign for p in sample], dtype=float)
    return Searches(scores, unfit)


def independent(point: Point) -> bool:
    """Return whether the trial was proposed without a look at results; a recorded one is assumed to be."""
    return point.independent or point.trial.source is Source.RECORDED


def permutation_test(a: Array, b: Array) -> tuple[float, float]:
    """Return the two-sided p of the null that the trials are exchangeable, and the gap of the tuning curves.

    ``a`` and ``b`` are scores of independent trials, more is better; the gap is a - b, in ranks of both together. All
    ways to deal the trials are counted, or ``MONTE_CARLO`` random ones where there are more than ``EXACT_UP_TO``.

    >>> p, gap = permutation_test(np.array([5.0, 6.0, 7.0, 8.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    >>> round(p, 4), round(gap, 6)
    (0.0286, 4.0)
    """
    m, n = len(a), len(b)
    if m > n:
        p, gap = permutation_test(b, a)
        return p, -gap
    ranks = np.sort(stats.rankdata(np.concatenate([a, b])))
    order = np.argsort(np.concatenate([a, b]), kind="stable")
    observed = float(_gaps((order < m)[None, :], ranks, m, n)[0])
    ways = math.comb(m + n, m)
    if ways <= EXACT_UP_TO:
        dealt = _all_deals(m + n, m)
        return float((np.abs(_gaps(dealt, ranks, m, n)) >= abs(observed) - 1e-9).mean()), observed
    rng = np.random.default_rng(_SEED)
    dealt = rng.permuted(np.broadcast_to(np.arange(m + n) < m, (MONTE_CARLO, m + n)), axis=1)
    count = int((np.abs(_gaps(dealt, ranks, m, n)) >= abs(observed) - 1e-9).sum())
    return (1 + count) / (1 + MONTE_CARLO), observed


def _gaps(dealt: Deals, ranks: Array, m: int, n: int) -> Array:
    """For each dealing of the sorted trials, m to the first arm and n to the second: the gap of the two mean curves."""
    most = min(m, n)
    first = np.array(curve_weights(m, most))[np.cumsum(dealt, axis=1).clip(1, m) - 1]
    second = np.array(curve_weights(n, most))[np.cumsum(~dealt, axis=1).clip(1, n) - 1]
    return np.asarray((np.where(dealt, first, -second) * ranks).sum(axis=1), dtype=float)


@lru_cache(maxsize=128)
def curve_weights(n: int, most: int) -> tuple[float, ...]:
    """Return the weights of n sorted values in the mean over k = 1, ..., most of the expected best of k of them.

    >>> curve_weights(2, 2)
    (0.25, 0.75)
    """
    rows = [[math.comb(i, k - 1) / math.comb(n, k) for i in range(n)] for k in range(1, most + 1)]
    return tuple(sum(column) / most for column in zip(*rows, strict=True))


@lru_cache(maxsize=8)
def _all_deals(total: int, first: int) -> Deals:
    """All ways to deal ``first`` of the trials to the first arm."""
    deals = np.zeros((math.comb(total, first), total), dtype=bool)
    for row, chosen in enumerate(combinations(range(total), first)):
        deals[row, list(chosen)] = True
    return deals


def fewest_trials(alpha: float) -> int:
    """Return the fewest independent trials per arm with which the permutation test can reach alpha.

    >>> fewest_trials(0.05), fewest_trials(0.01)
    (4, 5)
    """
    n = 1
    while 2.0 / math.comb(2 * n, n) > alpha:
        n += 1
    return n


def share_within(a: Array, b: Array, margin: float) -> float:
    """Return the share of half-samples of both searches whose best trials lie within ±margin of each other.

    ``a`` and ``b`` are the scores of the searches' independent trials, ``margin`` is in their unit. A half-sample
    without a completed trial counts as not within.
    """
    rng = np.random.default_rng(_SEED)
    best = []
    for scores in (a, b):
        picks = rng.permuted(np.broadcast_to(np.arange(len(scores)), (_HALVES, len(scores))), axis=1)
        best.append(scores[picks[:, : max(1, len(scores) // 2)]].max(axis=1))
    both = np.isfinite(best[0]) & np.isfinite(best[1])
    with np.errstate(invalid="ignore"):
        return float((both & (np.abs(best[0] - best[1]) <= margin)).mean())
