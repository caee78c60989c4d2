"""What could make the answer wrong or narrow, in plain words; each caveat has a stable code.

Those that only recordings have are in :mod:`tuner.analysis.recorded_caveats`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tuner.analysis.evidence import Caveat, CaveatCode
from tuner.analysis.recorded_caveats import recorded_failures, recorded_seeds, recorded_trials
from tuner.analysis.searched.edges import edges
from tuner.analysis.searched.rung_agreement import LIES, RungAgreement, best_known
from tuner.analysis.searched.spending import exhausted, in_full_runs, smallest, unequal
from tuner.analysis.statistics.estimates import equivalent
from tuner.analysis.verdict.contest import Contest, all_in_catalog, pair_rows
from tuner.analysis.verdict.decision import FEWEST_PAIRS
from tuner.analysis.verdict.family import FamilyVerdict
from tuner.analysis.verdict.finalists import competing, ended_trials
from tuner.analysis.verdict.kinds import EffectSource, VerdictKind
from tuner.analysis.verdict.plan import plan_cost
from tuner.analysis.verdict.samples import present
from tuner.catalog.families import camp_name
from tuner.catalog.schedules import SCHEDULES
from tuner.config.spec import OPTIMISE, StudySpec
from tuner.core.records import Outcome, Phase, Source
from tuner.core.values import counted, short
from tuner.study_records import StudyRecords

MANY_DIVERGED = 0.25
"""Above this share of an arm's runs of the search, diverged ones are a caveat."""

Caveats = list[Caveat]


def caveats_of(
    records: StudyRecords, rungs: Sequence[RungAgreement], state: Contest, family: FamilyVerdict
) -> tuple[Caveat, ...]:
    """Return all caveats, the gravest kinds first.

    Args:
        records: the study's.
        rungs: how short runs rank settings; () where every run is a full one.
        state: where the contest of the finalists stands.
        family: the verdict about the families.
    """
    of = _of_study(records, rungs, state) if records.spec.recording is None else _of_recording(records, state)
    return (*of, *_search_luck(records, state, family))


def _of_study(records: StudyRecords, rungs: Sequence[RungAgreement], state: Contest) -> Caveats:
    spec = records.spec
    return [
        *_seeds(spec, state),
        *_unstable(state),
        *_edge(records, state),
        *_widened(spec),
        *_followed(records, state),
        *_diverged(records),
        *_failed(records),
        *_budget(records, state),
        *_short_horizons(rungs),
        *_references(spec, state),
        *_effect(spec, state),
        *_again(records, state),
        *_fairness(spec),
    ]


def _of_recording(records: StudyRecords, state: Contest) -> Caveats:
    return [
        *recorded_seeds(records, state),
        *_unstable(state),
        *_edge(records, state),
        *_followed(records, state),
        *_diverged(records),
        *recorded_failures(records),
        *recorded_trials(records, state),
        *_effect(records.spec, state),
        *_fairness(records.spec),
    ]


def _seeds(spec: StudySpec, state: Contest) -> Caveats:
    """What is amiss with the seeds of the confirmation."""
    caveats = []
    asked, seen = spec.confirmation.total, _fewest(state)
    if state.samples.empty:
        return [
            Caveat(
                CaveatCode.NOT_CONFIRMED,
                "Nothing was trained on fresh seeds: the value is the best of the search, so probably too good.",
            )
        ]
    planned = state.looks[-1].seeds
    if planned < asked:
        text = f"max_runs leaves room for only {planned} of the {asked} seeds per arm that were asked for."
        caveats.append(Caveat(CaveatCode.SEEDS_CAPPED, text))
    if seen < FEWEST_PAIRS:
        text = f"Only {counted(seen, 'seed')} per arm: with fewer than {FEWEST_PAIRS} pairs no p-value can reach 0.05."
        caveats.append(Caveat(CaveatCode.FEW_SEEDS, text))
    if state.ahead is not None and seen < state.ahead.seeds:
        text = f"The confirmation is not finished: {seen} of {state.ahead.seeds} seeds per arm have ended."
        caveats.append(Caveat(CaveatCode.UNFINISHED, text))
    lost = sum(_count(state, arm) - len(present(row)) for arm, row in state.samples.scores.items())
    if lost:
        text = f"Confirmation runs that were lost with their machine and are missing here: {lost}."
        caveats.append(Caveat(CaveatCode.LOST_RUNS, text))
    return caveats


def _unstable(state: Contest) -> Caveats:
    """Finalists whose runs on fresh seeds diverged or failed."""
    caveats = []
    for arm, row in state.samples.scores.items():
        bad = int((row == -float("inf")).sum())
        if bad:
            text = (
                f"{bad} of {len(present(row))} confirmation runs of {arm} diverged or failed. Each loses its"
                " pair: it is scored just below the worst run that completed."
            )
            caveats.append(Caveat(CaveatCode.DIVERGED_ON_FRESH_SEEDS, text))
    return caveats


def _edge(records: StudyRecords, state: Contest) -> Caveats:
    """Ranges at whose end the recommended setting lies."""
    arm = state.recommended
    if arm is None:
        return []
    spec, touched = records.spec, edges(records, {arm: state.chosen[arm]})
    by_itself = "" if spec.widen or spec.recording is not None else " (with widen: true a study does so by itself)"
    advice = f"better settings may lie beyond it. Widen the range and search again{by_itself}."
    return [Caveat(CaveatCode.EDGE_OF_RANGE, f"{edge.text}: {advice}") for edge in touched]


def _widened(spec: StudySpec) -> Caveats:
    """Ranges that the search widened by itself: the recommended setting may lie outside of those asked for."""
    ends: dict[tuple[str, str, str], list[float]] = {}
    for end in (end for widening in spec.widened for end in widening.moved):
        ends.setdefault((end.dimension, end.arm, end.side), [end.old]).append(end.new)
    more = f"Every arm got {counted(sum(widening.trials for widening in spec.widened), 'more full run')}."
    return [
        Caveat(
            CaveatCode.RANGE_WIDENED,
            f"{name} of {arm} was widened at its {side} end from {short(seen[0])} to {short(seen[-1])}, because the"
            f" arm's best trial lay there. {more}",
        )
        for (name, arm, side), seen in ends.items()
    ]


def _followed(records: StudyRecords, state: Contest) -> Caveats:
    """A schedule that followed a metric: what its values mean."""
    caveats = []
    for arm, index in state.chosen.items():
        schedule = records.by_key[arm, index].setting.schedule
        kind = SCHEDULES.get(str(schedule["kind"]))  # a recording may have kinds of its own
        if kind is not None and kind.follows_metric:
            signal = schedule.get("signal", "a metric")
            text = f"The schedule of {arm} follows {signal}: {kind.note}"
            caveats.append(Caveat(CaveatCode.SCHEDULE_FOLLOWS_METRIC, text))
    return caveats


def _diverged(records: StudyRecords) -> Caveats:
    """Arms of which many runs of the search diverged."""
    caveats = []
    for arm in records.arms:
        outcomes = [run.outcome for run in records.search_runs[arm] if run.outcome is not None]
        bad = outcomes.count(Outcome.DIVERGED)
        if bad > MANY_DIVERGED * len(outcomes):
            text = f"{bad} of {len(outcomes)} runs of {arm} diverged in the search: its range reaches too high."
            caveats.append(Caveat(CaveatCode.MANY_DIVERGED, text))
    return caveats


def _failed(records: StudyRecords) -> Caveats:
    """Runs of any phase that failed in the workload's own code."""
    counts = Counter(run.spec.arm for run in records.runs if run.outcome is Outcome.FAILED)
    if not counts:
        return []
    where = ", ".join(f"{arm} {count}" for arm, count in sorted(counts.items()))
    return [
        Caveat(
            CaveatCode.FAILED_RUNS,
            f"Runs failed in the workload's own code ({where}); see `tuner status {records.spec.name}`.",
        )
    ]


def _budget(records: StudyRecords, state: Contest) -> Caveats:
    """Arms that the search left out, and budgets that it cut short."""
    costs = records.spent
    none = [arm for arm, cost in costs.items() if not cost]
    caveats = []
    if none:
        caveats.append(
            Caveat(CaveatCode.ARM_MISSING, f"No run of {', '.join(none)} has ended in the search: not compared.")
        )
    caveats += _full_runs(records) if in_full_runs(records.spec) else _proposals(records)
    barren = [arm for arm, cost in costs.items() if cost and arm not in state.chosen]
    if barren:
        text = f"No run of {', '.join(barren)} completed in the search: not compared."
        caveats.append(Caveat(CaveatCode.ARM_WITHOUT_RESULT, text))
    return caveats


def _proposals(records: StudyRecords) -> Caveats:
    """Whether arms compete with fewer proposals than were planned, or than another arm had."""
    planned, most = records.spec.budget.trials_per_arm, competing(records)
    counts = {ended_trials(records, arm) for arm in records.arms}
    if planned is not None and most < planned:
        text = f"The search ended early: the first {most} of {planned} trials of each arm are compared."
        return [Caveat(CaveatCode.BUDGET_CUT, text)]
    if planned is None and len(counts) > 1:
        return [
            Caveat(
                CaveatCode.BUDGET_CUT,
                f"Only the first {counted(most, 'trial')} of each arm are compared, so that budgets are equal.",
            )
        ]
    return []


def _full_runs(records: StudyRecords) -> Caveats:
    """The same where budgets are counted in full runs, and arms that ran out of settings."""
    spec, costs = records.spec, records.spent
    planned = spec.budget.trials_per_arm
    if spec.allocation == OPTIMISE:
        return [Caveat(CaveatCode.UNEQUAL_BUDGETS, f"{unequal(costs)}.")] if len(costs) > 1 else []
    caveats, least, most = [], smallest(records), max(costs.values(), default=0.0)
    if planned is not None and least <= planned - 1.0:
        text = f"The search ended early: {least:.3g} of {planned} full runs of each arm's budget are compared."
        caveats.append(Caveat(CaveatCode.BUDGET_CUT, text))
    elif most - least > 1.0:
        text = f"Only the first {counted(least, 'full run')} of each arm are compared, so that budgets are equal."
        caveats.append(Caveat(CaveatCode.BUDGET_CUT, text))
    done = [f"{arm} (after {counted(costs[arm], 'full run')})" for arm in exhausted(records) if most - costs[arm] > 1.0]
    if done:
        text = f"No new setting was left to try before the budget was spent: {', '.join(done)}."
        caveats.append(Caveat(CaveatCode.SETTINGS_EXHAUSTED, text))
    return caveats


def _short_horizons(rungs: Sequence[RungAgreement]) -> Caveats:
    """Arms whose settings short runs ranked unlike full ones."""
    caveats = []
    for row in best_known(rungs):
        if row.correlation is not None and row.correlation < LIES:
            text = (
                f"Short runs rank {row.arm}'s settings differently from full runs (rank correlation"
                f" {row.correlation:.1f} over {row.n} settings), so more of its budget went into full runs."
            )
            caveats.append(Caveat(CaveatCode.SHORT_HORIZON_LIES, text))
    return caveats


def _references(spec: StudySpec, state: Contest) -> Caveats:
    """A cap on runs that leaves no room for the default and the current settings."""
    plan = spec.confirmation
    if not plan.references or plan.max_runs is None or not state.looks:
        return []
    cost = plan_cost(spec, len(state.chosen))
    wanted = cost.seeds * (1 + (spec.current is not None))
    if cost.references >= wanted:
        return []
    text = f"max_runs = {plan.max_runs} leaves no room to measure every gain over the default and your settings."
    return [Caveat(CaveatCode.REFERENCES_CAPPED, text)]


def _effect(spec: StudySpec, state: Contest) -> Caveats:
    """What the verdict rests on: the smallest difference that matters, the noise, how a tie was broken."""
    caveats = []
    if not state.min_effect_given and not state.samples.barren and len(state.chosen) > 1:
        compared = state.min_effect_source is EffectSource.COMPARED
        where = "the compared runs themselves, for lack of others" if compared else "other runs of the same settings"
        text = (
            f"min_effect was not given: differences below {short(state.min_effect)} (one standard deviation of the"
            f" noise between seeds, measured on {where}) count as none. Set it to the smallest difference that matters"
            " to you."
        )
        code = CaveatCode.MIN_EFFECT_FROM_COMPARISON if compared else CaveatCode.MIN_EFFECT_ASSUMED
        caveats.append(Caveat(code, text))
    if state.kind is VerdictKind.INCONCLUSIVE and state.ahead is None and not state.samples.barren:
        text = "The noise between seeds is as large as the differences between the remaining arms."
        caveats.append(Caveat(CaveatCode.SEED_NOISE_DOMINATES, text))
    if state.kind is VerdictKind.TIE:
        text = "Cost broke the tie: optimizer state per parameter, then settings to tune, then time per step."
        if not all_in_catalog(spec, state.alive):
            text = "The optimizer state of some arms is unknown: time per step broke the tie, or else the better mean."
        caveats.append(Caveat(CaveatCode.TIE_COST, text))
    if state.kind is VerdictKind.WINNER and state.recommended is not None:
        others = [pair_rows(state, state.recommended, arm) for arm in state.chosen if arm != state.recommended]
        if any(equivalent(row, state.min_effect, spec.confirmation.alpha) for row in others):
            text = f"The difference is real but small: less than min_effect = {short(state.min_effect)}."
            caveats.append(Caveat(CaveatCode.SMALL_DIFFERENCE, text))
    return caveats


def _again(records: StudyRecords, state: Contest) -> Caveats:
    """A later confirmation: each set of finalists has the full alpha, so to extend until one wins errs more often."""
    earlier = {run.spec.seed for run in records.in_phase(Phase.CONFIRM)} - set(state.samples.seeds)
    if not earlier:
        return []
    text = "The search was extended after a verdict: this is a later confirmation, and each has the full error rate."
    return [Caveat(CaveatCode.CONFIRMED_AGAIN, text)]


def _fairness(spec: StudySpec) -> Caveats:
    """Camps that do not have the same number of arms."""
    caveats = []
    camps = Counter(arm.family.camp for arm in spec.arms)
    if len(set(camps.values())) > 1:
        sizes = ", ".join(f"{camp_name(camp)} {count}" for camp, count in camps.items())
        text = f"Camps have different numbers of arms ({sizes}): the larger one had more trials, so more luck."
        caveats.append(Caveat(CaveatCode.UNEQUAL_CAMPS, text))
    return caveats


def _search_luck(records: StudyRecords, state: Contest, family: FamilyVerdict) -> Caveats:
    """What the claim about families rests on."""
    if family.kind is VerdictKind.NOT_ASSESSED:
        text = (
            "One search only: another one may find other finalists. The verdict is about these settings, not about the"
            f" optimizer families: {family.reason}."
        )
        return [Caveat(CaveatCode.ONE_SEARCH_ONLY, text)]
    if any(trial.source is Source.RECORDED and trial.arm in state.chosen for trial in records.trials):
        text = (
            "How the trials were proposed is not recorded. The verdict about families assumes that no trial was chosen"
            " after seeing the results of others; if a sampler learned from them, it does not hold."
        )
        return [Caveat(CaveatCode.TRIALS_ASSUMED_INDEPENDENT, text)]
    return []


def _count(state: Contest, arm: str) -> int:
    """How many of the finalist's seeds have ended."""
    return int(state.samples.ended[arm].sum())


def _fewest(state: Contest) -> int:
    """The fewest ended seeds of an arm that is still in."""
    return min((_count(state, arm) for arm in state.alive), default=0)
