"""From records to the evidence: the answer of a study with all that it rests on. No pictures, no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tuner.analysis.caveats import caveats_of
from tuner.analysis.evidence import ArmRow, Evidence, Expected, Nothing
from tuner.analysis.searched.best_settings import started_from
from tuner.analysis.searched.spending import spent
from tuner.analysis.statistics.estimates import bootstrap_interval
from tuner.analysis.verdict.contest import (
    INCONCLUSIVE,
    SINGLE,
    TIE,
    WINNER,
    Contest,
    all_in_catalog,
    contest,
    seconds_per_step,
)
from tuner.analysis.verdict.decision import Verdict, pairs_of, verdict_of
from tuner.analysis.verdict.family import family_verdict
from tuner.analysis.verdict.finalists import search_values
from tuner.analysis.verdict.references import CURRENT, DEFAULT, gain_over
from tuner.catalog.training_options import changed
from tuner.config.spec import StudySpec
from tuner.core.errors import NoEvidence
from tuner.core.records import Outcome, Phase, RunRecord, Setting, State, TrialRecord
from tuner.core.values import short


@np.errstate(over="ignore")
def recommend(spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord]) -> Evidence:
    """Return the answer as the records stand, also in the middle of a study.

    Values whose squares are too large for a float count as infinitely noisy in the advice on seeds, which then errs
    towards more of them.

    Raises:
        NoEvidence: no arm has a completed run of the search at the full horizon.
    """
    runs = sorted(runs, key=lambda run: run.run_id)
    state = contest(spec, trials, runs)
    arm = state.recommended
    if arm is None:
        ended = Counter(str(run.outcome) for run in runs if run.state is State.ENDED)
        found = ", ".join(f"{count} {name}" for name, count in sorted(ended.items())) or "none has ended"
        raise NoEvidence(f"study {spec.name!r} has no completed run to recommend from; of {len(runs)} runs: {found}.")
    setting = next(t.setting for t in trials if t.arm == arm and t.index == state.chosen[arm])
    verdict = _verdict(spec, runs, state)
    family = family_verdict(spec, trials, runs, state, verdict)
    return Evidence(
        study=spec.name,
        metric=spec.metric,
        direction=spec.direction,
        alpha=spec.confirmation.alpha,
        min_effect=None if state.samples.empty and not state.min_effect_given else state.min_effect,
        min_effect_source=state.min_effect_source,
        verdict=verdict,
        family=family,
        arm=arm,
        trial=state.chosen[arm],
        setting=setting,
        camp=spec.space.arm(arm).family.camp,
        why=_why(spec, runs, state),
        expected=_expected(spec, runs, state, arm),
        gains=tuple(gain_over(over, spec, trials, runs, state) for over in (DEFAULT, CURRENT)),
        test=_test(runs, arm, state.chosen[arm]),
        pairs=pairs_of(spec, state),
        arms=leaderboard(spec, trials, runs, state),
        looks=state.looks,
        caveats=caveats_of(spec, trials, runs, state, family),
        valid_for=_valid_for(spec, runs, arm, setting),
        cost=_cost(spec, runs),
        recording=spec.recording.source if spec.recording else "",
        started_from=started_from(spec, trials),
    )


def recommend_or_say(spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord]) -> Evidence | Nothing:
    """As :func:`recommend`; where there is nothing to recommend, say how the runs ended."""
    try:
        return recommend(spec, trials, runs)
    except NoEvidence as error:
        state = contest(spec, trials, runs)
        arms = leaderboard(spec, trials, runs, state)
        plan = spec.confirmation
        return Nothing(spec.name, spec.metric, spec.direction, plan.alpha, plan.min_effect, str(error), arms)


def leaderboard(
    spec: StudySpec, trials: Sequence[TrialRecord], runs: Sequence[RunRecord], state: Contest
) -> tuple[ArmRow, ...]:
    """Return one row per arm: those still in first, by their mean, then the rest."""
    pace, values = seconds_per_step(runs), search_values(spec, runs)
    rows = [
        replace(_row(spec, trials, runs, state, arm, values, pace.get(arm)), full_runs=cost)
        for arm, cost in spent(spec, runs).items()
    ]

    def rank(row: ArmRow) -> tuple[bool, bool, float]:
        score = row.mean if row.mean is not None else row.best_value
        return row.arm not in state.alive, row.mean is None, -spec.sign * score if score is not None else math.inf

    return tuple(sorted(rows, key=rank))


def _row(
    spec: StudySpec,
    trials: Sequence[TrialRecord],
    runs: Sequence[RunRecord],
    state: Contest,
    arm: str,
    values: dict[tuple[str, int], float],
    pace: float | None,
) -> ArmRow:
    family = spec.space.arm(arm).family
    mine = [run for run in runs if run.spec.arm == arm]
    outcomes = Counter(run.outcome for run in mine)
    trial = state.chosen.get(arm)
    seen = _confirmed(spec, state, arm)
    low, high = bootstrap_interval(seen, 1.0 - spec.confirmation.alpha) or (None, None)
    return ArmRow(
        arm=arm,
        family=family.name,
        camp=family.camp,
        trial=trial,
        best=next((t.setting for t in trials if t.arm == arm and t.index == trial), None),
        best_value=None if trial is None else values.get((arm, trial)),
        n_trials=sum(t.arm == arm for t in trials),
        n_runs=len(mine),
        n_diverged=outcomes[Outcome.DIVERGED],
        n_failed=outcomes[Outcome.FAILED],
        n_lost=outcomes[Outcome.LOST],
        mean=float(seen.mean()) if len(seen) else None,
        ci_low=low,
        ci_high=high,
        n_confirmed=len(seen),
        dropped_after=state.dropped.get(arm),
        state_bytes_per_param=round(4 * family.state_slots, 2) if family.in_catalog else None,
        seconds_per_step=pace,
    )


def _confirmed(spec: StudySpec, state: Contest, arm: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The arm's confirmation values in the metric's unit; a diverged one as the verdict scored it."""
    if arm not in state.chosen or not state.samples.measured(arm):
        return np.empty(0)
    row = state.samples.at()[arm]
    return row[~np.isnan(row)] * spec.sign


def _verdict(spec: StudySpec, runs: Sequence[RunRecord], state: Contest) -> Verdict:
    """The verdict; an open one names the arms of which no run on fresh seeds came to a number."""
    samples = state.samples
    if state.kind != INCONCLUSIVE or samples.empty:
        return verdict_of(spec, state)
    if samples.barren:
        reason = "every run on fresh seeds diverged or failed"
        why = _why(spec, runs, state)
        text = f"Undecided: {reason}, so nothing tells the arms apart. {state.recommended} is named: {why}."
        return Verdict(INCONCLUSIVE, None, None, None, text, reason)
    found = verdict_of(spec, state)
    bad = [arm for arm in state.alive if not samples.measured(arm) and np.isneginf(samples.scores[arm]).any()]
    more = f"; every run of {', '.join(bad)} on fresh seeds diverged or failed" if bad else ""
    return replace(found, reason=found.reason + more)


def _why(spec: StudySpec, runs: Sequence[RunRecord], state: Contest) -> str:
    if state.kind == WINNER:
        return "it beat every other arm on fresh seeds"
    if state.kind == TIE and not all_in_catalog(spec, state.alive):
        return "no practical difference to the best; it is the faster one, or else has the better mean"
    if state.kind == TIE:
        return "no practical difference to the best; it is the cheapest (optimizer state, settings to tune, time)"
    if state.kind == SINGLE and spec.recording and spec.recording.seeds:
        return "the only arm that was confirmed"
    if state.kind == SINGLE:
        return "the only arm with a completed run; its best setting"
    if not state.samples.barren:
        return "it leads on fresh seeds, though not decisively"
    arm = state.recommended
    searched = arm is not None and (arm, state.chosen[arm]) in search_values(spec, runs)
    return "it leads in the search" if searched else "the first of the arms, for no completed run compares them"


def _expected(spec: StudySpec, runs: Sequence[RunRecord], state: Contest, arm: str) -> Expected:
    seen = _confirmed(spec, state, arm)
    if not len(seen):
        found = search_values(spec, runs).get((arm, state.chosen[arm]))
        return Expected(found, None, None, 0 if found is None else 1, "search")
    low, high = bootstrap_interval(seen, 1.0 - spec.confirmation.alpha) or (None, None)
    return Expected(float(seen.mean()), low, high, len(seen), "confirmation")


def _test(runs: Sequence[RunRecord], arm: str, trial: int) -> dict[str, float]:
    for run in runs:
        named = run.spec.phase is Phase.TEST and run.spec.arm == arm and run.spec.trial == trial
        if named and run.result is not None and run.result.outcome is Outcome.COMPLETED:
            return {name: value for name, value in run.result.tests.items() if math.isfinite(value)}
    return {}


def _valid_for(spec: StudySpec, runs: Sequence[RunRecord], arm: str, setting: Setting) -> dict[str, Any]:
    space = spec.space.arm(arm)
    options = {name: short(value) for name, value in changed(setting.training).items()}
    return {
        "workload": spec.workload.path,
        "options": dict(spec.workload.options),
        "model_and_data": "as the workload gives them",
        "horizon": str(spec.horizon) if spec.horizon.amount else "not recorded",
        "training": options,
        "recipe": options,
        "devices": sorted({run.result.device for run in runs if run.result is not None and run.result.device}),
        "space": spec.space.name,
        "searched": {d.name: str(d) for d in space.dimensions},
        "not_searched": [d.name for d in space.closed],
        "torch": sorted({run.result.torch for run in runs if run.result is not None and run.result.torch}),
    }


def _cost(spec: StudySpec, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """What was spent, in runs, in seconds, and in runs over the full horizon."""
    phases: dict[str, dict[str, float]] = {}
    for phase in Phase:
        results = [run.result for run in runs if run.spec.phase is phase and run.result is not None]
        phases[phase.value] = {
            "runs": len(results),
            "train_seconds": sum(result.train_seconds for result in results),
            "eval_seconds": sum(result.eval_seconds for result in results),
            "full_runs": sum(spent(spec, runs).values()) if phase is Phase.EXPLORE else float(len(results)),
        }
    total = {key: sum(row[key] for row in phases.values()) for key in phases[Phase.EXPLORE.value]}
    return {**total, "phases": phases}
