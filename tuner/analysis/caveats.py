"""What could make the answer wrong or narrow, in plain words; each caveat has a stable code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tuner.analysis.evidence import Caveat, CaveatCode
from tuner.analysis.recorded_caveats import recorded_failures, recorded_seeds, recorded_trials
from tuner.analysis.searched.edges import edges
from tuner.analysis.searched.rung_agreement import LIES, best_known, rung_agreements
from tuner.analysis.searched.spending import exhausted, in_full_runs, smallest, unequal
from tuner.analysis.statistics.estimates import equivalent
from tuner.analysis.verdict.contest import Contest, all_in_catalog, pair_rows
from tuner.analysis.verdict.decision import FEWEST_PAIRS
from tuner.analysis.verdict.family import FamilyVerdict
from tuner.analysis.verdict.finalists import competing, ended_trials
from tuner.analysis.verdict.kinds import EffectSource, VerdictKind
from tuner.analysis.verdict.plan import plan_cost
from tuner.analysis.verdict.samples import there
from tuner.catalog.families import camp_name
from tuner.catalog.schedules import SCHEDULES
from tuner.config.spec import OPTIMISE
from tuner.core.records import Outcome, Phase, Source
from tuner.core.values import short
from tuner.study_records import StudyRecords

MANY_DIVERGED = 0.25

Caveats = list[Caveat]
Check = Callable[[StudyRecords, Contest], Caveats]


def caveats_of(records: StudyRecords, state: Contest, family: FamilyVerdict) -> tuple[Caveat, ...]:
    """Return all caveats, the gravest kinds first."""
    checks: tuple[Check, ...] = (
        _seeds,
        _unstable,
        _edge,
        _widened,
        _followed,
        _diverged,
        _failed,
        _budget,
        _short_horizons,
        _references,
        _effect,
        _again,
        _fairness,
    )
    if records.spec.recording is not None:
        about = (recorded_seeds, _unstable, _edge, _followed, _diverged, recorded_failures, recorded_trials)
        checks = (*about, _effect, _fairness)
    caveats = [caveat for check in checks for caveat in check(records, state)]
    return (*caveats, *_search_luck(records, state, family))


def _seeds(records: StudyRecords, state: Contest) -> Caveats:
    caveats = []
    asked, seen = records.spec.confirmation.total, _fewest(state)
    if state.samples.empty:
        return [
            Caveat(
                CaveatCode.NOT_CONFIRMED, "Nothing was trained on fresh seeds: the value is the search's own, too rosy."
            )
        ]
    planned = state.looks[-1].seeds
    if planned < asked:
        text = f"Seeds were capped at {planned} per arm by max_runs ({asked} were asked)."
        caveats.append(Caveat(CaveatCode.SEEDS_CAPPED, text))
    if seen < FEWEST_PAIRS:
        text = f"Only {seen} seeds per arm: fewer than {FEWEST_PAIRS} pairs can never be significant at 0.05."
        caveats.append(Caveat(CaveatCode.FEW_SEEDS, text))
    if state.ahead is not None and seen < state.ahead.seeds:
        text = f"The confirmation is not finished: {seen} of {state.ahead.seeds} seeds per arm."
        caveats.append(Caveat(CaveatCode.UNFINISHED, text))
    lost = sum(_count(state, arm) - len(there(row)) for arm, row in state.samples.scores.items())
    if lost:
        caveats.append(
            Caveat(CaveatCode.LOST_RUNS, f"Confirmation runs lost with their machine, and missing here: {lost}.")
        )
    return caveats


def _unstable(_records: StudyRecords, state: Contest) -> Caveats:
    caveats = []
    for arm, row in state.samples.scores.items():
        bad = int((row == -float("inf")).sum())
        if bad:
            text = (
                f"{bad} of {len(there(row))} confirmation runs of {arm} diverged or failed. They count as lost"
                " pairs, scored just below the worst run that completed."
            )
            caveats.append(Caveat(CaveatCode.DIVERGED_ON_FRESH_SEEDS, text))
    return caveats


def _edge(records: StudyRecords, state: Contest) -> Caveats:
    arm = state.recommended
    if arm is None:
        return []
    spec, touched = records.spec, edges(records, {arm: state.chosen[arm]})
    by_itself = "" if spec.widen or spec.recording is not None else " (with widen: true a study does so by itself)"
    advice = f"better settings may lie beyond it. Widen the range in the space and search on{by_itself}."
    return [Caveat(CaveatCode.EDGE_OF_RANGE, f"{edge.text}: {advice}") for edge in touched]


def _widened(records: StudyRecords, _state: Contest) -> Caveats:
    """Ranges that the search widened by itself: what is recommended may lie outside of those that were asked for."""
    ends: dict[tuple[str, str, str], list[float]] = {}
    for one in (end for widening in records.spec.widened for end in widening.moved):
        ends.setdefault((one.dimension, one.arm, one.side), [one.old]).append(one.new)
    more = f"Every arm got {sum(widening.trials for widening in records.spec.widened)} more full runs' worth."
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
            caveats.append(Caveat(CaveatCode.SCHEDULE_FOLLOWS_METRIC, f"{arm} follows {signal}: {kind.note}"))
    return caveats


def _diverged(records: StudyRecords, _state: Contest) -> Caveats:
    caveats = []
    for arm in records.arms:
        mine = [run for run in records.search_runs[arm] if run.outcome is not None]
        bad = sum(run.outcome is Outcome.DIVERGED for run in mine)
        if mine and bad > MANY_DIVERGED * len(mine):
            text = f"{bad} of {len(mine)} runs of {arm} diverged in the search: its range reaches too far up."
            caveats.append(Caveat(CaveatCode.MANY_DIVERGED, text))
    return caveats


def _failed(records: StudyRecords, _state: Contest) -> Caveats:
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
    begun = records.spent
    none = [arm for arm, cost in begun.items() if not cost]
    caveats = []
    if none:
        caveats.append(
            Caveat(CaveatCode.ARM_MISSING, f"No run of {', '.join(none)} has ended; nothing is said about it.")
        )
    caveats += _full_runs(records) if in_full_runs(records.spec) else _proposals(records)
    barren = [arm for arm, cost in begun.items() if cost and arm not in state.chosen]
    if barren:
        text = f"No run of {', '.join(barren)} completed in the search: not compared."
        caveats.append(Caveat(CaveatCode.ARM_WITHOUT_RESULT, text))
    return caveats


def _proposals(records: StudyRecords) -> Caveats:
    """Whether arms compete with fewer proposals than they had, or were to have."""
    planned, most = records.spec.budget.trials_per_arm, competing(records)
    counts = {ended_trials(records, arm) for arm in records.arms}
    if planned is not None and most < planned:
        text = f"The search ended early: the first {most} of {planned} trials of each arm compete."
        return [Caveat(CaveatCode.BUDGET_CUT, text)]
    if planned is None and len(counts) > 1:
        return [
            Caveat(
                CaveatCode.BUDGET_CUT, f"Only the first {most} trials of each arm compete, so that budgets are equal."
            )
        ]
    return []


def _full_runs(records: StudyRecords) -> Caveats:
    """The same where budgets are counted in full runs."""
    spec, costs = records.spec, records.spent
    planned = spec.budget.trials_per_arm
    if spec.allocation == OPTIMISE:
        return [Caveat(CaveatCode.UNEQUAL_BUDGETS, f"{unequal(costs)}.")] if len(costs) > 1 else []
    caveats, least, most = [], smallest(records), max(costs.values(), default=0.0)
    if planned is not None and least <= planned - 1.0:
        text = f"The search ended early: {least:.3g} of {planned} full runs' worth of each arm compete."
        caveats.append(Caveat(CaveatCode.BUDGET_CUT, text))
    elif most - least > 1.0:
        text = f"Only the first {least:.3g} full runs' worth of each arm compete, so that budgets are equal."
        caveats.append(Caveat(CaveatCode.BUDGET_CUT, text))
    done = [f"{arm} (after {costs[arm]:.3g})" for arm in exhausted(records) if most - costs[arm] > 1.0]
    if done:
        text = f"No new setting was left to try before the budget was spent, in full runs' worth: {', '.join(done)}."
        caveats.append(Caveat(CaveatCode.SETTINGS_EXHAUSTED, text))
    return caveats


def _short_horizons(records: StudyRecords, _state: Contest) -> Caveats:
    """Where short runs ranked an arm's settings unlike full ones."""
    caveats = []
    for row in best_known(rung_agreements(records)):
        if row.correlation is not None and row.correlation < LIES:
            text = (
                f"Short runs rank {row.arm}'s settings unlike full ones (rank correlation {row.correlation:.1f} over"
                f" {row.n} settings): the ladder gave more of its budget to full runs."
            )
            caveats.append(Caveat(CaveatCode.SHORT_HORIZON_LIES, text))
    return caveats


def _references(records: StudyRecords, state: Contest) -> Caveats:
    spec, plan = records.spec, records.spec.confirmation
    if not plan.references or plan.max_runs is None or not state.looks:
        return []
    cost = plan_cost(spec, len(state.chosen))
    wanted = cost.seeds * (1 + (spec.current is not None))
    if cost.references >= wanted:
        return []
    text = f"max_runs = {plan.max_runs} leaves no room to measure every gain over the default and current settings."
    return [Caveat(CaveatCode.REFERENCES_CAPPED, text)]


def _effect(records: StudyRecords, state: Contest) -> Caveats:
    caveats = []
    if not state.min_effect_given and not state.samples.barren and len(state.chosen) > 1:
        compared = state.min_effect_source is EffectSource.COMPARED
        where = "these very runs, for want of others" if compared else "other runs of the same settings"
        text = (
            f"What matters in practice was not given: differences below {short(state.min_effect)} (one standard"
            f" deviation of the seed noise, measured on {where}) count as none. Give min_effect."
        )
        code = CaveatCode.MIN_EFFECT_FROM_COMPARISON if compared else CaveatCode.MIN_EFFECT_ASSUMED
        caveats.append(Caveat(code, text))
    if state.kind is VerdictKind.INCONCLUSIVE and state.ahead is None and not state.samples.barren:
        text = "The noise between seeds is as large as the differences between the arms that are left."
        caveats.append(Caveat(CaveatCode.SEED_NOISE_DOMINATES, text))
    if state.kind is VerdictKind.TIE:
        text = "Costs broke the tie: state per parameter, then settings to tune, then time per step."
        if not all_in_catalog(records.spec, state.alive):
            text = "The state of some arms is unknown: time per step broke the tie, or else the better mean."
        caveats.append(Caveat(CaveatCode.TIE_COST, text))
    if state.kind is VerdictKind.WINNER and state.recommended is not None:
        others = [pair_rows(state, state.recommended, arm) for arm in state.chosen if arm != state.recommended]
        if any(equivalent(row, state.min_effect, records.spec.confirmation.alpha) for row in others):
            text = f"The difference is real but small: less than {short(state.min_effect)}, what matters in practice."
            caveats.append(Caveat(CaveatCode.SMALL_DIFFERENCE, text))
    return caveats


def _again(records: StudyRecords, state: Contest) -> Caveats:
    """Each set of finalists is tested at the full alpha: to extend the search until one wins errs more often."""
    earlier = {run.spec.seed for run in records.in_phase(Phase.CONFIRM)} - set(state.samples.seeds)
    if not earlier:
        return []
    text = "The search was extended after a verdict: this is a later confirmation, and each has the full error rate."
    return [Caveat(CaveatCode.CONFIRMED_AGAIN, text)]


def _fairness(records: StudyRecords, _state: Contest) -> Caveats:
    caveats = []
    camps = Counter(arm.family.camp for arm in records.spec.arms)
    if len(set(camps.values())) > 1:
        sizes = ", ".join(f"{camp_name(camp)} {count}" for camp, count in camps.items())
        text = f"Camps have different numbers of arms ({sizes}): the larger had more trials, and more luck."
        caveats.append(Caveat(CaveatCode.UNEQUAL_CAMPS, text))
    return caveats


def _search_luck(records: StudyRecords, state: Contest, family: FamilyVerdict) -> Caveats:
    """What the claim about families rests on."""
    if family.kind is VerdictKind.NOT_ASSESSED:
        text = (
            "One search only: other finalists may come out of another. This is about these settings, not these"
            f" families: {family.reason}."
        )
        return [Caveat(CaveatCode.ONE_SEARCH_ONLY, text)]
    if any(trial.source is Source.RECORDED and trial.arm in state.chosen for trial in records.trials):
        text = (
            "How the trials were proposed is not recorded: the verdict about families takes them as independent of each"
            " other's results. If a sampler learned from them, it does not hold."
        )
        return [Caveat(CaveatCode.TRIALS_ASSUMED_INDEPENDENT, text)]
    return []


def _count(state: Contest, arm: str) -> int:
    return int(state.samples.ended[arm].sum())


def _fewest(state: Contest) -> int:
    return min((_count(state, arm) for arm in state.alive), default=0)
