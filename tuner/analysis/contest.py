"""The contest of the finalists, look by look: who leads, who is out, who is recommended; no words, no intervals.

Cheap and a pure function of the records, because the plan of the next runs asks it after every batch.

The rule. Pairs of finalists are compared on their common seeds by the exact two-sided sign-flip test of the mean
difference (``stats.py``), at the looks and levels of ``looks.py``. A look counts when every arm still in has ended all
of its seeds. At each look the leader is the arm with the best mean; an arm that the leader beats at the look's level
is out, and trains no further seed. The leader is *better* when it alone is left: it beat every other arm, each at the
study's alpha in total (intersection-union test: Berger 1982, Technometrics 24(4)), or beat the one who had.
A diverged or failed run is never dropped: it loses its pair. A run lost with its machine is a missing pair.

Equivalence (TOST, Schuirmann 1987) is asked at the planned look and later ones, at alpha: a tie needs every arm still
in to be equivalent to the leader within ±min_effect. Ties go to the cheapest: optimizer state per parameter, then
hyperparameters to tune, then seconds per step (differences below 10 % are noise), then the better mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.analysis.finalists import finalists, search_values
from tuner.analysis.looks import Look, looks_of
from tuner.analysis.samples import Samples, collect, differences, mean, noise
from tuner.analysis.stats import Array, equivalent, sign_flip_p
from tuner.records import Phase, RunRecord, State, TrialRecord
from tuner.spec import StudySpec

WINNER, TIE, INCONCLUSIVE, SINGLE = "winner", "tie", "inconclusive", "single"
_AS_FAST = 1.1


@dataclass(frozen=True, slots=True)
class Contest:
    """Where the contest stands. ``dropped`` maps an arm to the seeds after which it was out.

    ``reached`` is the last look that counted, ``ahead`` the next one that wants runs (None: no more are planned,
    or none is needed). ``recommended`` is an arm; None only if there is no finalist.
    """

    chosen: Mapping[str, int]
    samples: Samples
    looks: tuple[Look, ...]
    reached: Look | None
    ahead: Look | None
    alive: tuple[str, ...]
    dropped: Mapping[str, int]
    leader: str | None
    kind: str
    recommended: str | None
    min_effect: float
    min_effect_given: bool


def contest(spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord]) -> Contest:
    """Fix the finalists, then walk through the looks that are complete."""
    chosen = finalists(spec, trials, runs)
    samples = collect(spec, runs, chosen)
    looks = looks_of(spec, len(chosen)) if chosen else ()
    alive, leader = tuple(chosen), _leader(samples.at(), chosen)
    dropped: dict[str, int] = {}
    reached: Look | None = None
    for look in looks:
        if not samples.complete(alive, look.seeds):
            break
        table = samples.at(look.seeds)
        reached, leader = look, _leader(table, alive)
        assert leader is not None
        out = [arm for arm in alive if arm != leader and beats(table[leader], table[arm], look)]
        dropped |= dict.fromkeys(out, look.seeds)
        alive = tuple(arm for arm in alive if arm not in dropped)
        if len(alive) == 1 < len(chosen):
            break
    if samples.empty:
        leader = _best_of_search(spec, runs, chosen)
    given = spec.confirmation.min_effect
    raw = [samples.scores[arm][: reached.seeds if reached else None] for arm in chosen]
    margin = noise(raw) if given is None else given
    equal = _equals(spec, samples, reached, alive, leader, margin)
    kind = _kind(chosen, samples, alive, equal)
    table = samples.at(reached.seeds if reached else None)
    return Contest(
        chosen=chosen,
        samples=samples,
        looks=looks,
        reached=reached,
        ahead=None if kind == WINNER else _next(looks, reached),
        alive=alive,
        dropped=dropped,
        leader=leader,
        kind=kind,
        recommended=_cheapest(spec, runs, alive, table) if kind == TIE else leader,
        min_effect=margin,
        min_effect_given=given is not None,
    )


def beats(a: Array, b: Array, look: Look) -> bool:
    """Whether ``a`` is better than ``b`` on the look's first seeds, at its level."""
    rows = differences(a[: look.seeds], b[: look.seeds])
    return bool(len(rows)) and float(rows.mean()) > 0 and sign_flip_p(rows) <= look.level


def pair_rows(state: Contest, a: str, b: str) -> Array:
    """Return the paired differences a - b: up to the look at which one of the two was out, else all there are.

    So the p that is shown is the p that decided.
    """
    decided = [state.dropped[arm] for arm in (a, b) if arm in state.dropped]
    table = state.samples.at(min(decided, default=None))
    return differences(table[a], table[b])


def seconds_per_step(runs: Sequence[RunRecord]) -> dict[str, float]:
    """Return arm -> training seconds per optimizer step, over the ended runs of search and confirmation."""
    seconds: dict[str, float] = defaultdict(float)
    steps: dict[str, int] = defaultdict(int)
    for run in sorted(runs, key=lambda run: run.run_id):
        counts = run.spec.phase in (Phase.EXPLORE, Phase.CONFIRM) and run.state is State.ENDED
        if counts and run.result is not None and run.result.step > 0:
            seconds[run.spec.arm] += run.result.train_seconds
            steps[run.spec.arm] += run.result.step
    return {arm: seconds[arm] / steps[arm] for arm in steps}


def _kind(chosen: Mapping[str, int], samples: Samples, alive: tuple[str, ...], equal: bool) -> str:
    if len(chosen) == 1:
        return SINGLE
    if samples.empty:
        return INCONCLUSIVE
    if len(alive) == 1:
        return WINNER
    return TIE if equal else INCONCLUSIVE


def _equals(
    spec: StudySpec, samples: Samples, reached: Look | None, alive: tuple[str, ...], leader: str | None, margin: float
) -> bool:
    if reached is None or reached.interim or leader is None:
        return False
    table = samples.at(reached.seeds)
    others = (arm for arm in alive if arm != leader)
    return all(equivalent(differences(table[leader], table[arm]), margin, spec.confirmation.alpha) for arm in others)


def _leader(table: Mapping[str, Array], arms: Sequence[str] | Mapping[str, int]) -> str | None:
    order = list(arms)
    return max(order, key=lambda arm: (mean(table[arm]), -order.index(arm)), default=None)


def _best_of_search(spec: StudySpec, runs: Sequence[RunRecord], chosen: Mapping[str, int]) -> str | None:
    values = search_values(spec, runs)
    order = list(chosen)
    return max(order, key=lambda arm: (values[arm, chosen[arm]] * spec.sign, -order.index(arm)), default=None)


def _next(looks: tuple[Look, ...], reached: Look | None) -> Look | None:
    ahead = [look for look in looks if reached is None or look.seeds > reached.seeds]
    return ahead[0] if ahead else None


def _cheapest(
    spec: StudySpec, runs: Sequence[RunRecord], arms: tuple[str, ...], table: Mapping[str, Array]
) -> str | None:
    costs = {arm: spec.space.arm(arm).family.cost for arm in arms}
    best = [arm for arm in arms if costs[arm] == min(costs.values())]
    pace = seconds_per_step(runs)
    timed = [pace[arm] for arm in best if arm in pace]
    if len(timed) == len(best) > 1:
        best = [arm for arm in best if pace[arm] <= _AS_FAST * min(timed)]
    return _leader(table, best)
