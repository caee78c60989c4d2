"""From the records and the contest to the evidence: the answer of a study with all that it rests on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tuner.analysis.caveats import caveats_of
from tuner.analysis.evidence import ArmRow, Cost, Evidence, Expected, Nothing, PhaseCost, ValidFor
from tuner.analysis.searched.best_settings import started_from
from tuner.analysis.searched.points import Points
from tuner.analysis.statistics.estimates import Array, bootstrap_interval
from tuner.analysis.verdict.contest import Contest, all_in_catalog, seconds_per_step
from tuner.analysis.verdict.decision import Verdict, pairs_of, verdict_of
from tuner.analysis.verdict.family import family_verdict
from tuner.analysis.verdict.kinds import ExpectedSource, Reference, VerdictKind
from tuner.analysis.verdict.references import gain_over
from tuner.catalog.training_options import changed
from tuner.config.spec import StudySpec
from tuner.core.errors import NoEvidence
from tuner.core.records import Outcome, Phase, Setting
from tuner.core.values import short
from tuner.study_records import StudyRecords, ended


@np.errstate(over="ignore")
def evidence_of(records: StudyRecords, points: Points, state: Contest) -> Evidence:
    """Return the answer as the records stand, also in the middle of a study.

    Values whose squares are too large for a float count as infinitely noisy in the advice on seeds, which then errs
    towards more of them.

    Raises:
        NoEvidence: no arm has a completed run of the search at the full horizon.
    """
    spec, arm = records.spec, state.recommended
    if arm is None:
        counts = Counter(str(run.outcome) for run in ended(records.runs))
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none has ended"
        raise NoEvidence(
            f"study {spec.name!r} has no completed run to recommend from; of {len(records.runs)} runs: {outcomes}."
        )
    setting = records.by_key[arm, state.chosen[arm]].setting
    verdict = _verdict(records, state)
    family = family_verdict(records, points, state, verdict)
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
        why=_why(records, state),
        expected=_expected(records, state, arm),
        gains=tuple(gain_over(over, records, state) for over in Reference),
        test=_test(records, arm, state.chosen[arm]),
        pairs=pairs_of(spec, state),
        arms=leaderboard(records, state),
        looks=state.looks,
        caveats=caveats_of(records, state, family),
        valid_for=_valid_for(records, arm, setting),
        cost=_cost(records),
        recording=spec.recording.source if spec.recording else "",
        started_from=started_from(records),
    )


def nothing_of(records: StudyRecords, state: Contest, reason: str) -> Nothing:
    """Return what there is to say where nothing can be recommended: how the runs ended."""
    spec, plan = records.spec, records.spec.confirmation
    arms = leaderboard(records, state)
    return Nothing(spec.name, spec.metric, spec.direction, plan.alpha, plan.min_effect, reason, arms)


def leaderboard(records: StudyRecords, state: Contest) -> tuple[ArmRow, ...]:
    """Return one row per arm: those still in first, by their mean, then the rest."""
    spec, pace = records.spec, seconds_per_step(records.runs)
    rows = [_row(records, state, arm, pace) for arm in records.arms]

    def rank(row: ArmRow) -> tuple[bool, bool, float]:
        score = row.mean if row.mean is not None else row.best_value
        return row.arm not in state.alive, row.mean is None, -spec.sign * score if score is not None else math.inf

    return tuple(sorted(rows, key=rank))


def _row(records: StudyRecords, state: Contest, arm: str, pace: Mapping[str, float]) -> ArmRow:
    spec, family = records.spec, records.spec.space.arm(arm).family
    mine, trial = records.runs_of(arm), state.chosen.get(arm)
    outcomes = Counter(run.outcome for run in mine)
    seen = _confirmed(spec, state, arm)
    low, high = bootstrap_interval(seen, 1.0 - spec.confirmation.alpha) or (None, None)
    return ArmRow(
        arm=arm,
        family=family.name,
        camp=family.camp,
        trial=trial,
        best=None if trial is None else records.by_key[arm, trial].setting,
        best_value=None if trial is None else records.search_values.get((arm, trial)),
        n_trials=len(records.trials_of(arm)),
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
        seconds_per_step=pace.get(arm),
        full_runs=records.spent[arm],
    )


def _confirmed(spec: StudySpec, state: Contest, arm: str) -> Array:
    """The arm's confirmation values in the metric's unit; a diverged one as the verdict scored it."""
    if arm not in state.chosen or not state.samples.measured(arm):
        return np.empty(0)
    row = state.samples.at()[arm]
    return row[~np.isnan(row)] * spec.sign


def _verdict(records: StudyRecords, state: Contest) -> Verdict:
    """The verdict; an open one names the arms of which no run on fresh seeds came to a number."""
    spec, samples = records.spec, state.samples
    if state.kind is not VerdictKind.INCONCLUSIVE or samples.empty:
        return verdict_of(spec, state)
    if samples.barren:
        reason = "every run on fresh seeds diverged or failed"
        why = _why(records, state)
        text = f"Inconclusive: {reason}, so nothing tells the arms apart. {state.recommended} is named: {why}."
        return Verdict(VerdictKind.INCONCLUSIVE, None, None, None, text, reason)
    verdict = verdict_of(spec, state)
    bad = [arm for arm in state.alive if not samples.measured(arm) and np.isneginf(samples.scores[arm]).any()]
    more = f"; every run of {', '.join(bad)} on fresh seeds diverged or failed" if bad else ""
    return replace(verdict, reason=verdict.reason + more)


def _why(records: StudyRecords, state: Contest) -> str:
    spec = records.spec
    if state.kind is VerdictKind.WINNER:
        return "it beat every other arm on fresh seeds"
    if state.kind is VerdictKind.TIE and not all_in_catalog(spec, state.alive):
        return "no practical difference to the best; it is the faster one, or else has the better mean"
    if state.kind is VerdictKind.TIE:
        return "no practical difference to the best; it is the cheapest (optimizer state, settings to tune, time)"
    if state.kind is VerdictKind.SINGLE and spec.recording and spec.recording.seeds:
        return "the only arm that was confirmed"
    if state.kind is VerdictKind.SINGLE:
        return "the only arm with a completed run; its best setting"
    if not state.samples.barren:
        return "it leads on fresh seeds, though not decisively"
    arm = state.recommended
    searched = arm is not None and (arm, state.chosen[arm]) in records.search_values
    return "it leads in the search" if searched else "the first of the arms, for no completed run compares them"


def _expected(records: StudyRecords, state: Contest, arm: str) -> Expected:
    spec, seen = records.spec, _confirmed(records.spec, state, arm)
    if not len(seen):
        value = records.search_values.get((arm, state.chosen[arm]))
        return Expected(value, None, None, 0 if value is None else 1, ExpectedSource.SEARCH)
    low, high = bootstrap_interval(seen, 1.0 - spec.confirmation.alpha) or (None, None)
    return Expected(float(seen.mean()), low, high, len(seen), ExpectedSource.CONFIRMATION)


def _test(records: StudyRecords, arm: str, trial: int) -> dict[str, float]:
    for run in records.runs_of(arm, trial):
        if run.spec.phase is Phase.TEST and run.result is not None and run.outcome is Outcome.COMPLETED:
            return {name: value for name, value in run.result.tests.items() if math.isfinite(value)}
    return {}


def _valid_for(records: StudyRecords, arm: str, setting: Setting) -> ValidFor:
    spec, space = records.spec, records.spec.space.arm(arm)
    results = [run.result for run in records.runs if run.result is not None]
    return ValidFor(
        workload=spec.workload.path,
        options=spec.workload.options,
        horizon=spec.horizon if spec.horizon.amount else None,
        training={name: short(value) for name, value in changed(setting.training).items()},
        devices=tuple(sorted({result.device for result in results if result.device})),
        space=spec.space.name,
        searched={d.name: str(d) for d in space.dimensions},
        not_searched=tuple(d.name for d in space.closed),
        torch=tuple(sorted({result.torch for result in results if result.torch})),
    )


def _cost(records: StudyRecords) -> Cost:
    return Cost({phase: _phase_cost(records, phase) for phase in Phase})


def _phase_cost(records: StudyRecords, phase: Phase) -> PhaseCost:
    results = [run.result for run in records.in_phase(phase) if run.result is not None]
    return PhaseCost(
        runs=len(results),
        train_seconds=sum(result.train_seconds for result in results),
        eval_seconds=sum(result.eval_seconds for result in results),
        full_runs=sum(records.spent.values()) if phase is Phase.EXPLORE else float(len(results)),
    )
