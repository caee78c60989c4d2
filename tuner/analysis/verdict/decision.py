"""The verdict in full: its kind, its words, the table of pairs, what would settle an inconclusive one.

The rule itself is in ``contest.py`` (elimination at the looks) and ``looks.py`` (what each look may spend), its tests
in ``statistics/flips.py`` (a pair) and ``statistics/estimates.py`` (equivalence, intervals), with their sources. This
is the claim about the finalists' *settings*: fresh seeds, common to all arms, decide it. The larger claim, that one
*family* is better, has to account for the luck of the search as well: see ``family.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.analysis.statistics.estimates import Array, bootstrap_interval, equivalent, holm, prob_better
from tuner.analysis.statistics.flips import sign_flip_p
from tuner.analysis.verdict.advice import MOST, seeds_needed
from tuner.analysis.verdict.contest import Contest, all_in_catalog, beats, pair_rows
from tuner.analysis.verdict.kinds import PairVerdict, VerdictKind
from tuner.analysis.verdict.looks import smallest_decisive
from tuner.analysis.verdict.samples import differences, mean, present
from tuner.catalog.families import UNKNOWN
from tuner.config.spec import StudySpec
from tuner.core.values import counted, short

FEWEST_PAIRS = 6
"""With fewer pairs no sign-flip test can reach p = 0.05."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict about the finalists' settings, in words for people; every kind but ``NOT_ASSESSED`` occurs.

    ``arm`` is the winner, None unless there is one. ``camp`` is that of the winner, or the common one of a tie; else
    None. ``seeds_needed`` is the total per arm that would settle an inconclusive contest (None: more than 1,000,
    unknown, or not needed). ``sentence`` is the verdict, ``reason`` what it rests on.
    """

    kind: VerdictKind
    arm: str | None
    camp: str | None
    seeds_needed: int | None
    sentence: str
    reason: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two finalists on their ``n_pairs`` common seeds.

    ``difference`` is the mean of a - b with its interval, in the metric's unit; ``p`` that of the sign-flip test,
    ``p_holm`` the same, adjusted for the number of pairs; ``prob_a_better`` the share of pairs in which a is better.
    None where there is no common seed.
    """

    a: str
    b: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float
    p_holm: float
    prob_a_better: float | None
    n_pairs: int
    verdict: PairVerdict


def pairs_of(spec: StudySpec, state: Contest) -> tuple[Pair, ...]:
    """Return all pairs of finalists; see :func:`tuner.analysis.verdict.contest.pair_rows` for the seeds that enter."""
    arms = list(state.chosen)
    names = [(a, b) for i, a in enumerate(arms) for b in arms[i + 1 :]]
    rows = [pair_rows(state, a, b) for a, b in names]
    ps = [sign_flip_p(row) for row in rows]
    return tuple(
        _pair(spec, state, a, b, row, p, adjusted)
        for (a, b), row, p, adjusted in zip(names, rows, ps, holm(ps), strict=True)
    )


def _pair(spec: StudySpec, state: Contest, a: str, b: str, row: Array, p: float, adjusted: float) -> Pair:
    low, high = bootstrap_interval(row, 1.0 - spec.confirmation.alpha) or (None, None)
    if spec.sign < 0 and low is not None and high is not None:
        low, high = -high, -low
    return Pair(
        a=a,
        b=b,
        difference=float(row.mean()) * spec.sign if len(row) else None,
        ci_low=low,
        ci_high=high,
        p=p,
        p_holm=adjusted,
        prob_a_better=prob_better(row),
        n_pairs=len(row),
        verdict=_pair_verdict(spec, state, a, b),
    )


def _pair_verdict(spec: StudySpec, state: Contest, a: str, b: str) -> PairVerdict:
    """The pair by itself: decided at any look that both took part in, else a tie at the last one, else inconclusive."""
    last = min(state.dropped.get(a, 10**9), state.dropped.get(b, 10**9), state.reached.seeds if state.reached else 0)
    for look in state.looks:
        if look.seeds > last:
            break
        table = state.samples.at(look.seeds)
        if beats(table[a], table[b], look):
            return PairVerdict.A
        if beats(table[b], table[a], look):
            return PairVerdict.B
        equal = equivalent(differences(table[a], table[b]), state.min_effect, spec.confirmation.alpha)
        equal = equal and all(state.samples.measured(arm, last) for arm in (a, b))
        if look.seeds == last and not look.interim and equal:
            return PairVerdict.TIE
    return PairVerdict.INCONCLUSIVE


def verdict_of(spec: StudySpec, state: Contest) -> Verdict:
    """Return the verdict in words, with the seeds that would settle an inconclusive one."""
    assert state.recommended is not None
    if state.kind is VerdictKind.WINNER:
        camp = _common_camp(spec, (state.recommended,))
        return Verdict(
            VerdictKind.WINNER, state.recommended, camp, None, _winner_sentence(spec, state), _winner_reason(state)
        )
    if state.kind is VerdictKind.SINGLE:
        what = "a confirmed setting" if spec.recording and spec.recording.seeds else "a completed run"
        text = f"Only {state.recommended} has {what}, so there is nothing to compare it with."
        return Verdict(VerdictKind.SINGLE, None, None, None, text, "one arm with results")
    if state.kind is VerdictKind.TIE:
        return Verdict(
            VerdictKind.TIE, None, _common_camp(spec, state.alive), None, _tie_sentence(spec, state), _tie_reason(state)
        )
    return _open(spec, state)


def _common_camp(spec: StudySpec, arms: Sequence[str]) -> str | None:
    """The camp that all these arms belong to; None for several, and where one is unknown, as a recorded arm's may be.

    So a tie inside one camp still says that this camp's arms are the best ones.
    """
    camps = {spec.space.arm(arm).family.camp for arm in arms}
    return camps.pop() if len(camps) == 1 and UNKNOWN not in camps else None


def _winner_sentence(spec: StudySpec, state: Contest) -> str:
    best = state.recommended
    assert best is not None
    others = [arm for arm in state.chosen if arm != best]
    gaps = {arm: pair_rows(state, best, arm) for arm in others}
    nearest = min(others, key=lambda arm: float(gaps[arm].mean()) if len(gaps[arm]) else 0.0)
    gap = gaps[nearest]
    beaten = nearest if len(others) == 1 else f"every other arm (the nearest is {nearest})"
    return (
        f"The settings of {best} are better than those of {beaten}: {spec.metric} improves by "
        f"{short(float(gap.mean()))} on average over {len(gap)} shared fresh seeds."
    )


def _winner_reason(state: Contest) -> str:
    assert state.reached is not None
    when = ", ".join(f"{arm} after {counted(seeds, 'seed')}" for arm, seeds in state.dropped.items())
    return f"beaten in the paired sign-flip test: {when}"


def _tie_sentence(spec: StudySpec, state: Contest) -> str:
    arms = " and ".join(state.alive) if len(state.alive) == 2 else ", ".join(state.alive)
    best = "the cheapest of them" if all_in_catalog(spec, state.alive) else "the fastest, or else the best on average"
    return (
        f"No practical difference between {arms}: {spec.metric} differs by less than {short(state.min_effect)}. "
        f"{state.recommended} is recommended as {best}."
    )


def _tie_reason(state: Contest) -> str:
    source = "as set" if state.min_effect_given else "one standard deviation of the noise between seeds"
    return f"equivalent within ±{short(state.min_effect)} ({source}) by two one-sided tests (TOST)"


def _open(spec: StudySpec, state: Contest) -> Verdict:
    leader = state.recommended
    if state.samples.empty:
        done = "nothing was trained on fresh seeds" if not state.looks else "no run on fresh seeds has ended yet"
        lucky = f"{leader} has the best value of the search, but the best of many trials is partly luck"
        text = f"Inconclusive: {done}. {lucky}."
        return Verdict(VerdictKind.INCONCLUSIVE, None, None, None, text, done)
    needed = seeds_needed(spec, state)
    reasons = [_progress(state), _floor(spec, state)]
    if needed is None:
        seen = min(len(present(state.samples.scores[arm])) for arm in state.alive)
        reasons.append(
            f"more than {MOST:,} seeds per arm would be needed" if seen > 1 else "too few seeds to say how many"
        )
    reason = "; ".join(part for part in reasons if part)
    means = {arm: mean(row) for arm, row in state.samples.at().items()}
    rivals = [arm for arm in state.alive if arm != leader]
    nearest = max(rivals, key=lambda arm: means[arm])
    advice = f" About {needed} seeds per arm in total would settle it." if needed else ""
    text = f"Inconclusive: {leader} leads {nearest} on fresh seeds, but not by enough to rule out chance.{advice}"
    return Verdict(VerdictKind.INCONCLUSIVE, None, None, needed, text, reason)


def _progress(state: Contest) -> str:
    """How far the confirmation has come."""
    if state.ahead is None:
        return f"neither better nor equivalent after {counted(len(state.samples.seeds), 'seed')} per arm"
    seen = min(int(state.samples.ended[arm].sum()) for arm in state.alive)
    return f"the confirmation is not finished: {seen} of {state.ahead.seeds} seeds per arm have ended"


def _floor(spec: StudySpec, state: Contest) -> str:
    """That the planned seeds are too few for any verdict; empty if they are not."""
    planned = state.looks[-1]
    least = smallest_decisive(planned.level)
    if planned.seeds >= least:
        return ""
    return f"{counted(planned.seeds, 'pair')} can never be significant at {spec.confirmation.alpha:g}: it takes {least}"
