"""From the records and the contest to the evidence: the answer of a study with all that it rests on.

The rule that decides is in :mod:`tuner.analysis.verdict`; here its outcome is put together with everything beside it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tuner.analysis.caveats import caveats_of
from tuner.analysis.evidence import ArmRow, Cost, Evidence, Expected, Nothing, PhaseCost, ValidFor
from tuner.analysis.searched.best_settings import started_from
from tuner.analysis.searched.points import Points
from tuner.analysis.searched.rung_agreement import RungAgreement
from tuner.analysis.statistics.estimates import Array, bootstrap_interval
from tuner.analysis.verdict.contest import Contest, all_in_catalog, seconds_per_step
from tuner.analysis.verdict.decision import Verdict, pairs_of, verdict_of
from tuner.analysis.verdict.family import family_verdict
from tuner.analysis.verdict.kinds import ExpectedSource, Reference, VerdictKind
from tuner.analysis.verdict.references import gain_over
from tuner.analysis.verdict.samples import present
from tuner.catalog.training_options import changed
from tuner.config.spec import StudySpec
from tuner.core.errors import NoEvidence
from tuner.core.records import Outcome, Phase, Setting
from tuner.core.values import short
from tuner.study_records import StudyRecords, ended


@np.errstate(over="ignore")
def evidence_of(records: StudyRecords, points: Points, rungs: Sequence[RungAgreement], state: Contest) -> Evidence:
    """Return the answer as the records stand, also in the middle of a study.

    Values whose squares are too large for a float count as infinitely noisy in the advice on seeds, which then errs
    towards more of them.

    Args:
        records: the study's.
        points: the ended trials of each arm, from :func:`tuner.analysis.searched.points.points_of`.
        rungs: how short runs rank settings, from :func:`tuner.analysis.searched.rung_agreement.rung_agreements`.
        state: the contest of the finalists, from :func:`tuner.analysis.verdict.contest.contest`.

    Raises:
        NoEvidence: no arm has a completed run of the search at the full horizon.
    """
    spec, arm = records.spec, state.recommended
    if arm is None:
        raise NoEvidence(_no_evidence(records))
    setting = records.by_key[arm, state.chosen[arm]].setting
    verdict = _verdict(records, state)
    family = family_verdict(records, points, state, verdict)
    rows = leaderboard(records, state)
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
        expected=_expected(next(row for row in rows if row.arm == arm)),
        gains=tuple(gain_over(over, records, state) for over in Reference),
        test=_test(records, arm, state.chosen[arm]),
        pairs=pairs_of(spec, state),
        arms=rows,
        looks=state.looks,
        caveats=caveats_of(records, rungs, state, family),
        valid_for=_valid_for(records, arm, setting),
        cost=_cost(records),
        recording=spec.recording.source if spec.recording else "",
        started_from=started_from(records),
    )


def _no_evidence(records: StudyRecords) -> str:
    """Why nothing can be recommended: how the study's runs ended."""
    counts = Counter(str(run.outcome) for run in ended(records.runs))
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none has ended"
    name, count = records.spec.name, len(records.runs)
    return f"study {name!r} has no completed run to recommend from; of {count} runs: {outcomes}."


def nothing_of(records: StudyRecords, state: Contest, reason: str) -> Nothing:
    """Return what stands in for the evidence where nothing can be recommended; ``reason`` says why."""
    spec, plan = records.spec, records.spec.confirmation
    rows = leaderboard(records, state)
    return Nothing(spec.name, spec.metric, spec.direction, plan.alpha, plan.min_effect, reason, rows)


def leaderboard(records: StudyRecords, state: Contest) -> tuple[ArmRow, ...]:
    """Return one row per arm, those still in the contest first.

    Within each group by the mean of the confirmation, then those without one by the best value of their search.
    """
    spec, pace = records.spec, seconds_per_step(records.runs)
    rows = [_row(records, state, arm, pace.get(arm)) for arm in records.arms]

    def rank(row: ArmRow) -> tuple[bool, bool, float]:
        score = row.mean if row.mean is not None else row.best_value
        return row.arm not in state.alive, row.mean is None, -spec.sign * score if score is not None else math.inf

    return tuple(sorted(rows, key=rank))


def _row(records: StudyRecords, state: Contest, arm: str, seconds: float | None) -> ArmRow:
    """The arm's row; ``seconds`` is its training time per optimizer step."""
    spec, family = records.spec, records.spec.space.arm(arm).family
    runs, trial = records.runs_of(arm), state.chosen.get(arm)
    outcomes = Counter(run.outcome for run in runs)
    values = _confirmed(spec, state, arm)
    low, high = bootstrap_interval(values, 1.0 - spec.confirmation.alpha) or (None, None)
    return ArmRow(
        arm=arm,
        family=family.name,
        camp=family.camp,
        trial=trial,
        best=None if trial is None else records.by_key[arm, trial].setting,
        best_value=None if trial is None else records.search_values.get((arm, trial)),
        n_trials=len(records.trials_of(arm)),
        n_runs=len(runs),
        n_diverged=outcomes[Outcome.DIVERGED],
        n_failed=outcomes[Outcome.FAILED],
        n_lost=outcomes[Outcome.LOST],
        mean=float(values.mean()) if len(values) else None,
        ci_low=low,
        ci_high=high,
        n_confirmed=len(values),
        dropped_after=state.dropped.get(arm),
        state_bytes_per_param=round(4 * family.state_slots, 2) if family.in_catalog else None,
        seconds_per_step=seconds,
        full_runs=records.spent[arm],
    )


def _confirmed(spec: StudySpec, state: Contest, arm: str) -> Array:
    """The finalist's values on fresh seeds, in the metric's unit; that of a diverged run as the verdict scored it."""
    if arm not in state.chosen or not state.samples.measured(arm):
        return np.empty(0)
    return present(state.samples.at()[arm]) * spec.sign


def _verdict(records: StudyRecords, state: Contest) -> Verdict:
    """The verdict; an inconclusive one names the arms whose runs on fresh seeds diverged or failed, none completed."""
    spec, samples = records.spec, state.samples
    if state.kind is not VerdictKind.INCONCLUSIVE or samples.empty:
        return verdict_of(spec, state)
    if samples.barren:
        reason = "every run on fresh seeds diverged or failed"
        why = _why(records, state)
        text = f"Inconclusive: {reason}, so nothing tells the arms apart. {state.recommended} is named because {why}."
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
        return "it is as good as the best in practice, and the fastest, or else has the best mean"
    if state.kind is VerdictKind.TIE:
        return "it is as good as the best in practice, and the cheapest (optimizer state, settings to tune, time)"
    if state.kind is VerdictKind.SINGLE and spec.recording and spec.recording.seeds:
        return "it is the only arm that was confirmed"
    if state.kind is VerdictKind.SINGLE:
        return "it is the best setting of the only arm with a completed run"
    if not state.samples.barren:
        return "it leads on fresh seeds, though not decisively"
    arm = state.recommended
    searched = arm is not None and (arm, state.chosen[arm]) in records.search_values
    return "it leads in the search" if searched else "it is the first of the arms, and no completed run compares them"


def _expected(row: ArmRow) -> Expected:
    """What to expect of the arm's finalist: what its row on the leaderboard says."""
    if row.mean is None:
        return Expected(row.best_value, None, None, 0 if row.best_value is None else 1, ExpectedSource.SEARCH)
    return Expected(row.mean, row.ci_low, row.ci_high, row.n_confirmed, ExpectedSource.CONFIRMATION)


def _test(records: StudyRecords, arm: str, trial: int) -> dict[str, float]:
    """The finite metrics on the test split; empty where the setting was not tested."""
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
