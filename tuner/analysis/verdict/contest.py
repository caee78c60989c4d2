"""The contest of the finalists, look by look: who leads, who is out, who is recommended. Words are in ``decision.py``.

It is a pure function of the records, and cheap, because the plan of the next runs asks it after every batch.

The rule. Pairs of finalists are compared on their common seeds by the exact two-sided sign-flip test (``flips.py``)
in the direction of the mean difference, at the looks and levels of ``looks.py``. A look counts once every arm still in
has ended its runs on all seeds of the look. At each look the leader is the arm with the best mean; an arm that the
leader beats at the look's level is out, and trains on no further seed. The leader is *better* when it alone is left: it
beat every other arm, each at the study's alpha in total (intersection-union test: Berger 1982, Technometrics 24(4)), or
beat the arm that had beaten that one. A diverged or failed run is never left out: it loses its pair. A run that was
lost with its machine is a missing pair.

Equivalence (TOST: Schuirmann 1987) is tested at the planned look and at later ones, at alpha: a tie needs every arm
still in to be equivalent to the leader within ±min_effect, and to have a completed run on fresh seeds: arms that only
diverge do not tie. Where no arm has a completed run on fresh seeds, the best of the search leads. Ties go to the
cheapest: optimizer state per parameter, then hyperparameters to tune, then seconds per step (differences below 10 %
count as noise), then the better mean.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.analysis.statistics.estimates import Array, equivalent
from tuner.analysis.statistics.flips import sign_flip_p
from tuner.analysis.verdict.finalists import finalists
from tuner.analysis.verdict.kinds import EffectSource, VerdictKind
from tuner.analysis.verdict.looks import Look, looks_of
from tuner.analysis.verdict.samples import Samples, collect, differences, mean, noise, outside_noise
from tuner.config.spec import StudySpec
from tuner.core.records import Phase, RunRecord, State
from tuner.study_records import StudyRecords

_AS_FAST = 1.1
"""An arm counts as fast as the fastest one if a step takes at most this many times as long."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Where the contest stands.

    ``chosen`` maps each arm with a finalist to the index of its trial. Of the planned ``looks``, ``reached`` is the
    last one that counted, ``ahead`` the next one that needs runs (None: no more are planned, or none is needed).
    ``alive`` are the arms still in, ``dropped`` maps each other one to the number of seeds after which it was out.
    ``recommended`` is the leader, or the cheapest of a tie; None only if there is no finalist. ``min_effect`` is the
    smallest difference that matters, in the metric's unit, ``min_effect_source`` where it comes from.
    """

    chosen: Mapping[str, int]
    samples: Samples
    looks: tuple[Look, ...]
    reached: Look | None
    ahead: Look | None
    alive: tuple[str, ...]
    dropped: Mapping[str, int]
    leader: str | None
    kind: VerdictKind
    recommended: str | None
    min_effect: float
    min_effect_source: EffectSource

    @property
    def min_effect_given(self) -> bool:
        """Whether the user gave the smallest difference that matters."""
        return self.min_effect_source is EffectSource.GIVEN


def contest(records: StudyRecords) -> Contest:
    """Return where the contest stands: take the finalists, then judge every look whose runs have ended."""
    chosen = finalists(records)
    samples = collect(records, chosen)
    looks = looks_of(records.spec, len(chosen)) if chosen else ()
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
    if samples.barren:
        leader = _best_of_search(records, chosen)
    margin, source = _margin(records, samples, reached)
    equal = _equals(samples, reached, alive, leader, margin, records.spec.confirmation.alpha)
    kind = _kind(chosen, samples, alive, equal)
    table = samples.at(reached.seeds if reached else None)
    return Contest(
        chosen=chosen,
        samples=samples,
        looks=looks,
        reached=reached,
        ahead=None if kind is VerdictKind.WINNER else _next(looks, reached),
        alive=alive,
        dropped=dropped,
        leader=leader,
        kind=kind,
        recommended=_cheapest(records, alive, table) if kind is VerdictKind.TIE else leader,
        min_effect=margin,
        min_effect_source=source,
    )


def beats(a: Array, b: Array, look: Look) -> bool:
    """Return whether scores ``a`` are better than scores ``b`` on the look's seeds, at its level."""
    rows = differences(a[: look.seeds], b[: look.seeds])
    return bool(len(rows)) and float(rows.mean()) > 0 and sign_flip_p(rows) <= look.level


def pair_rows(state: Contest, a: str, b: str) -> Array:
    """Return the paired differences of the scores of two arms, a - b.

    Only the seeds up to the look at which one of the two was out enter, so the p that is shown is the p that decided;
    all seeds where both are still in.
    """
    decided = [state.dropped[arm] for arm in (a, b) if arm in state.dropped]
    table = state.samples.at(min(decided, default=None))
    return differences(table[a], table[b])


def seconds_per_step(runs: Iterable[RunRecord]) -> dict[str, float]:
    """Return arm -> training seconds per optimizer step, over the ended runs of search and confirmation."""
    seconds: dict[str, float] = defaultdict(float)
    steps: dict[str, int] = defaultdict(int)
    for run in sorted(runs, key=lambda run: run.run_id):
        counts = run.spec.phase in (Phase.EXPLORE, Phase.CONFIRM) and run.state is State.ENDED
        if counts and run.result is not None and run.result.step > 0 and run.result.train_seconds > 0:
            seconds[run.spec.arm] += run.result.train_seconds
            steps[run.spec.arm] += run.result.step
    return {arm: seconds[arm] / steps[arm] for arm in steps}


def _kind(chosen: Mapping[str, int], samples: Samples, alive: tuple[str, ...], equal: bool) -> VerdictKind:
    """The verdict; ``equal`` says whether all arms still in are equivalent to the leader."""
    if len(chosen) == 1:
        return VerdictKind.SINGLE
    if samples.empty:
        return VerdictKind.INCONCLUSIVE
    if len(alive) == 1:
        return VerdictKind.WINNER
    return VerdictKind.TIE if equal else VerdictKind.INCONCLUSIVE


def _margin(records: StudyRecords, samples: Samples, reached: Look | None) -> tuple[float, EffectSource]:
    """The smallest difference that matters, and where it comes from."""
    given = records.spec.confirmation.min_effect
    if given is not None:
        return given, EffectSource.GIVEN
    outside = outside_noise(records)
    if outside is not None:
        return outside, EffectSource.OUTSIDE
    seen = (row[: reached.seeds if reached else None] for row in samples.scores.values())
    return noise(seen), EffectSource.COMPARED


def _equals(
    samples: Samples, reached: Look | None, alive: tuple[str, ...], leader: str | None, margin: float, alpha: float
) -> bool:
    """Whether all arms still in are equivalent to the leader on the seeds of the last look."""
    if reached is None or reached.interim or leader is None:
        return False
    if not all(samples.measured(arm, reached.seeds) for arm in alive):
        return False
    table = samples.at(reached.seeds)
    others = (arm for arm in alive if arm != leader)
    return all(equivalent(differences(table[leader], table[arm]), margin, alpha) for arm in others)


def _leader(table: Mapping[str, Array], arms: Sequence[str] | Mapping[str, int]) -> str | None:
    """The arm with the best mean on the seeds that all have; on each one's own seeds where they share none."""
    order = list(arms)
    if not order:
        return None
    common = ~np.isnan([table[arm] for arm in order]).any(axis=0)
    scores = {arm: mean(table[arm][common] if common.any() else table[arm]) for arm in order}
    return max(order, key=lambda arm: (scores[arm], -order.index(arm)))


def _best_of_search(records: StudyRecords, chosen: Mapping[str, int]) -> str | None:
    """The arm whose finalist has the best value in the search; of equals the first."""
    values, sign = records.search_values, records.spec.sign
    order = list(chosen)
    scores = {arm: values[key] * sign if (key := (arm, chosen[arm])) in values else -math.inf for arm in order}
    return max(order, key=lambda arm: (scores[arm], -order.index(arm)), default=None)


def _next(looks: tuple[Look, ...], reached: Look | None) -> Look | None:
    """The first look that has not been reached."""
    ahead = [look for look in looks if reached is None or look.seeds > reached.seeds]
    return ahead[0] if ahead else None


def all_in_catalog(spec: StudySpec, arms: Iterable[str]) -> bool:
    """Return whether the optimizer state and the number of settings of all these arms are known.

    Those of a recorded arm may not be.
    """
    return all(spec.space.arm(arm).family.in_catalog for arm in arms)


def _cheapest(records: StudyRecords, arms: tuple[str, ...], table: Mapping[str, Array]) -> str | None:
    """The arm that a tie goes to; see the rule above."""
    spec = records.spec
    costs = {arm: spec.space.arm(arm).family.cost for arm in arms}
    best = [arm for arm in arms if costs[arm] == min(costs.values())] if all_in_catalog(spec, arms) else list(arms)
    pace = seconds_per_step(records.runs)
    timed = [pace[arm] for arm in best if arm in pace]
    if len(timed) == len(best) > 1:
        best = [arm for arm in best if pace[arm] <= _AS_FAST * min(timed)]
    return _leader(table, best)
